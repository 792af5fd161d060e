"""Kind `python`: functions of yours, called by name.

They stand in modules named in AILYDIAN_PLUGINS. Whatever they raise is tried again as the step's
`retry` says, but for PermanentError, which ends it.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from shared.errors import PayloadRefused, PermanentError
from shared.workflow.kinds import PythonWith
from workers.steps.step import Step
from workers.steps.table import step_kind

Given = TypeVar("Given", bound=Callable[..., object])

_functions: dict[str, tuple[Callable[..., object], inspect.Signature]] = {}


class FunctionNotFound(PermanentError):
    """No function is registered under this name in this worker."""

    code = "function_not_found"


def function(name: str) -> Callable[[Given], Given]:
    """Register a function that `python` steps call as `function(**args)`.

    A parameter named `step` is given the `Step`, for its progress and its effect. The function
    returns the step's output, a JSON value, and is itself returned as it is.
    """

    def register(given: Given) -> Given:
        _functions[name] = given, inspect.signature(given)
        return given

    return register


@step_kind("python")
def python(given: PythonWith, step: Step) -> object:
    """Call a registered function.

    Raises:
        FunctionNotFound: None has this name; the message lists the nearest.
        PayloadRefused: `args` are not the function's parameters.
    """
    found = _functions.get(given.function)
    if found is None:
        raise FunctionNotFound(_missing(given.function))
    called, signature = found
    own: dict[str, Any] = {"step": step} if "step" in signature.parameters else {}
    try:
        bound = signature.bind(**(given.args | own))
    except TypeError as error:
        raise PayloadRefused(
            f"Step {step.name}: with.args: {given.function} has {error}."
        ) from None
    return called(*bound.args, **bound.kwargs)


def _missing(name: str) -> str:
    near = difflib.get_close_matches(name[:100], _functions, n=3)
    hint = f"the nearest: {', '.join(near)}" if near else "is its module in AILYDIAN_PLUGINS?"
    return f"No function is registered as {name!r}; {hint}."
