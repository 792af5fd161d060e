"""Each fault of the catalogue, small: nothing is lost, nothing is doubled, and it is soon over."""

import random

import pytest

from tests.acceptance.faults.catalogue import FAULTS, POINTS
from tests.acceptance.faults.checker import check
from tests.acceptance.faults.killpoints import names

# All on one plant: with `-n`, in one process.
pytestmark = pytest.mark.xdist_group("the standing plant")

# The numbers of faults that were asked for; 2 is the test below.
ASKED = {*range(1, 6), *range(7, 23), *range(26, 32), *range(36, 39), *range(41, 46), 50}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_after_a_fault_every_job_has_ended_once(faulty, fault):
    rng = random.Random(fault.number)
    faulty.load(30)

    fault.inject(faulty, rng)
    faulty.load(20)

    assert check(faulty).broken == []


@pytest.mark.timeout(300)
def test_a_process_that_dies_at_any_named_point_loses_and_doubles_nothing(faulty):
    faulty.load(20)

    POINTS.inject(faulty, random.Random(2))

    assert check(faulty).broken == []
    assert len(set(names())) >= 25


def test_the_catalogue_has_every_fault_that_was_asked_for():
    assert {fault.number for fault in (*FAULTS, POINTS)} == ASKED
