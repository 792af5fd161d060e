"""Every route that changes something repeats its answer, or refuses to be asked to."""

from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

import pytest

from producers.web import answers, app
from producers.web.routes import UNSAFE

CHANGING = [
    route
    for router in app.ROUTERS
    for route in router.routes
    if UNSAFE & route.methods and answers.SHOWN_ONCE not in route.dependencies
]
NOTHING_CHANGED = {"recall_messages", "search_documents", "validate_definition"}


def called(function: FunctionType) -> Iterator[object]:
    """What of our modules a function names, itself and in the functions within it."""
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [one for one in code.co_consts if isinstance(one, CodeType)]
        found = [function.__globals__.get(name) for name in code.co_names]
        modules = [one for one in found if isinstance(one, ModuleType)]
        yield from found
        yield from (getattr(one, name, None) for one in modules for name in code.co_names)


def reaches_once(function: FunctionType, seen: set[object]) -> bool:
    """Whether a function ends in `answers.once`, by functions of the API."""
    seen.add(function)
    for one in called(function):
        if one is answers.once:
            return True
        ours = isinstance(one, FunctionType) and one.__module__.startswith("producers.web.")
        if ours and one not in seen and reaches_once(one, seen):
            return True
    return False


@pytest.mark.parametrize("route", CHANGING, ids=lambda route: route.name)
def test_what_changes_something_is_answered_by_once(route):
    assert reaches_once(route.endpoint, set()) is (route.name not in NOTHING_CHANGED)
