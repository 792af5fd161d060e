"""Limit what an expression may cost: refused before it begins, for it cannot be interrupted.

The library holds Python's lock while it evaluates, and its map and filter copy what they have so
far for each item. So an expression over long lists would stop every thread of a worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import ExpressionFailed
from shared.workflow.expressions.references import ParsedExpression, Path

# One unit is about 50 ns: the copy of one item, measured; so a second of the lock at most.
UNITS_MAX: Final = 20_000_000
STEP_UNITS: Final = 10
# About bytes: what all that is read could grow to.
WEIGHT_MAX: Final = 256_000_000
VALUE_WEIGHT: Final = 32
PATHS_FREE: Final = 8
# Items that a whole `path.map(...)` is given at once.
CHUNK_ITEMS: Final = 256


@dataclass(slots=True)
class _Size:
    weight: int = 0
    longest: int = 0
    longest_inside: int = 0


def is_expensive(made: ParsedExpression) -> bool:
    """Return whether an expression could cost much: `refuse_expensive` must check its scope."""
    return bool(made.builds) or len(made.paths) > PATHS_FREE


def refuse_expensive(made: ParsedExpression, scope: Mapping[str, Any]) -> None:
    """Refuse an expression that could take seconds, or much memory.

    Raises:
        ExpressionFailed: Lists are too long for its macros, or texts for its copies.
    """
    sizes = {path: _size(_value(scope, path)) for path, _ in made.paths}
    written = made.words // 2  # items of a list that is written out
    inside = made.bound_uses * max((size.longest_inside for size in sizes.values()), default=0)
    # What a macro goes over, and what one inside of another does: lists may be put together.
    lengths = (
        written + inside + sum(sizes[path].longest for path, _ in made.paths),
        written + inside + sum(sizes[path].longest for path, around in made.paths if around),
    )
    if made.chunk is not None:  # one macro around all, over this list and no other
        lengths = (max(1, sizes[made.chunk[0]].longest), lengths[1])
    rounds = (1, lengths[0], lengths[0] * lengths[1])
    weight = sum(sizes[path].weight * rounds[around] for path, around in made.paths)
    deepest = max(made.builds, default=0)
    total = sum(sizes[path].weight for path, _ in made.paths)
    weight += made.bound_uses * total * (lengths[1] if deepest > 1 else 1)
    units = 0
    for level in range(deepest):
        at_once = CHUNK_ITEMS if level == 0 and made.chunk is not None else lengths[level]
        copied = at_once if made.builds[level + 1] else 0
        units += rounds[level + 1] * (STEP_UNITS + made.words + copied)
    if units > UNITS_MAX or weight > WEIGHT_MAX:
        raise ExpressionFailed(
            f"it would go over lists of about {lengths[0]:,} items in all, which is too much at "
            "once; let a step with for_each do it"
        )


def _value(scope: Mapping[str, Any], path: Path) -> object:
    value: Any = scope
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return value if value is not scope else None
        value = value[name]
    return value


def _size(value: object) -> _Size:
    size = _Size()
    waiting: list[tuple[object, bool]] = [(value, False)]
    while waiting and size.weight <= WEIGHT_MAX:
        one, in_list = waiting.pop()
        size.weight += VALUE_WEIGHT
        if isinstance(one, str):
            size.weight += len(one)
        elif isinstance(one, list | Mapping):
            size.longest = max(size.longest, len(one))
            if in_list:
                size.longest_inside = max(size.longest_inside, len(one))
            is_list = isinstance(one, list)
            each = one if isinstance(one, list) else one.values()
            waiting.extend([(inner, in_list or is_list) for inner in each])
    return size
