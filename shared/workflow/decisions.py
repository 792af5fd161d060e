"""What is decided before a step begins, by the worker and by the engine in memory alike."""

from collections.abc import Mapping
from typing import Any, Final

from shared.errors import ExpressionFailed
from shared.workflow.expressions.evaluation import compile_expression, render

ITEMS_MAX: Final = 10_000


def is_skipped(
    spec: Mapping[str, Any], scope: Mapping[str, Any], *, all_needs_skipped: bool
) -> bool:
    """Whether a step is passed over: its own `if` decides, or that all it needs was skipped.

    Raises:
        ExpressionFailed: `if` has no value, or one that is neither true nor false.
    """
    condition = spec.get("if")
    if condition is None:
        return all_needs_skipped
    held = (
        condition if isinstance(condition, bool) else compile_expression(condition).evaluate(scope)
    )
    if not isinstance(held, bool):
        raise ExpressionFailed(f"`if: {condition}` yields {held!r}, neither true nor false.")
    return not held


def items_of(spec: Mapping[str, Any], scope: Mapping[str, Any]) -> list[Any]:
    """The items of a mapped step.

    Raises:
        ExpressionFailed: `for_each` has no value, is no list, or has more than `ITEMS_MAX` items.
    """
    wanted = spec["for_each"]
    if isinstance(wanted, str):
        items = compile_expression(wanted).evaluate(scope)
    else:
        items = render(wanted, scope)
    if not isinstance(items, list):
        raise ExpressionFailed(f"`for_each: {wanted}` yields no list.")
    if len(items) > ITEMS_MAX:
        raise ExpressionFailed(f"`for_each` yields {len(items):,} items, at most {ITEMS_MAX:,}.")
    return items
