"""Decide what happens to a step that may begin: it is skipped, expanded or done.

Workers and the test bench decide by the same function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import ExpressionFailed
from shared.workflow.expressions.evaluation import compile_expression, render
from shared.workflow.limits import ITEMS_MAX, PARALLEL_DEFAULT


@dataclass(frozen=True, slots=True)
class Skip:
    """Pass the step over."""


@dataclass(frozen=True, slots=True)
class Expand:
    """Turn the step into one step an item, of which `parallel` run at once."""

    items: list[Any]
    parallel: int


@dataclass(frozen=True, slots=True)
class Do:
    """Do the step, alone among those of its concurrency key if it has one."""

    key: str | None


def decide(
    spec: Mapping[str, Any], scope: Mapping[str, Any], *, expands: bool, all_needs_skipped: bool
) -> Skip | Expand | Do:
    """What happens to a step that may begin.

    Args:
        spec: The step, as its definition has it.
        scope: What its expressions may name.
        expands: Whether it is a `for_each` that has not become its items yet.
        all_needs_skipped: Whether it needs steps, and all of them were skipped.

    Raises:
        ExpressionFailed: `if`, `for_each` or `concurrency` has no value, or none that fits.
    """
    if expands:
        # The `if` of a mapped step is decided for each item; that it has one lets it begin at all.
        if all_needs_skipped and spec.get("if") is None:
            return Skip()
        return Expand(_items(spec["for_each"], scope), spec.get("max_parallel") or PARALLEL_DEFAULT)
    if _is_skipped(spec.get("if"), scope, all_needs_skipped=all_needs_skipped):
        return Skip()
    key = spec.get("concurrency")
    return Do(None if key is None else str(render(key, scope)))


def _is_skipped(condition: object, scope: Mapping[str, Any], *, all_needs_skipped: bool) -> bool:
    """Whether a step's own `if` passes it over, or without one, that all it needs was skipped."""
    if condition is None:
        return all_needs_skipped
    held = (
        compile_expression(condition).evaluate(scope) if isinstance(condition, str) else condition
    )
    if not isinstance(held, bool):
        raise ExpressionFailed(
            f"`if: {condition}` yields {held!r}, which is neither true nor false."
        )
    return not held


def _items(wanted: object, scope: Mapping[str, Any]) -> list[Any]:
    if isinstance(wanted, str):
        items = compile_expression(wanted).evaluate(scope)
    else:
        items = render(wanted, scope)
    if not isinstance(items, list):
        raise ExpressionFailed(f"`for_each: {wanted}` does not yield a list.")
    if len(items) > ITEMS_MAX:
        raise ExpressionFailed(
            f"`for_each` yields {len(items):,} items; at most {ITEMS_MAX:,} are allowed."
        )
    return items
