"""The places at which faults kill a process are places that exist."""

import importlib
from operator import attrgetter

import pytest

from tests.acceptance.faults import killpoints


@pytest.mark.parametrize("point", [*killpoints.WORKER, *killpoints.RELAY], ids=lambda it: it.name)
def test_a_point_names_a_function_that_exists(point):
    assert callable(attrgetter(point.function)(importlib.import_module(point.module)))
