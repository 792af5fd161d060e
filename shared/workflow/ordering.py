"""Sort steps by their needs: topological order, circles, ancestors; without recursion."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

PATH_STEPS_SHOWN: Final = 12
# Ancestors are sets of bits; that many at once keep 100,000 steps within some 60 MB.
_BITS: Final = 4_096
_STARTS_MAX: Final = 200

Needs = Mapping[str, Sequence[str]]


def ordered(needs: Needs) -> list[str]:
    """The steps, each after all it needs; those in or behind a circle are left out."""
    left = {name: len(needed) for name, needed in needs.items()}
    after: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for one in needed:
            after[one].append(name)
    ready = deque(name for name, count in left.items() if not count)
    order = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for one in after[name]:
            left[one] -= 1
            if not left[one]:
                ready.append(one)
    return order


def circle(needs: Needs, order: Sequence[str]) -> list[str]:
    """A cycle among the steps that `order` lacks, its first step again at the end, or nothing.

    It is the shortest, or among many steps the shortest through one of them.
    """
    rest = needs.keys() - set(order)
    if not rest:
        return []
    at = min(rest)
    seen = set()
    while at not in seen:  # a chain of needs within `rest` must come round
        seen.add(at)
        at = next(one for one in needs[at] if one in rest)
    starts = sorted(rest) if len(rest) <= _STARTS_MAX else [at]
    return min(filter(None, (_circle_through(needs, rest, one) for one in starts)), key=len)


def _circle_through(needs: Needs, rest: Set[str], at: str) -> list[str]:
    came: dict[str, str] = {}
    waiting = deque([at])
    while waiting and at not in came:
        here = waiting.popleft()
        for one in needs[here]:
            if one in rest and one not in came:
                came[one] = here
                waiting.append(one)
    if at not in came:
        return []
    path = [at]
    while len(path) == 1 or path[-1] != at:
        path.append(came[path[-1]])
    return path[::-1]


def shown(path: Sequence[str]) -> str:
    """A cycle as text, the middle of a long one left out."""
    if len(path) <= PATH_STEPS_SHOWN:
        return " -> ".join(path)
    half = PATH_STEPS_SHOWN // 2
    between = f"... {len(path) - 2 * half} more ..."
    return " -> ".join([*path[:half], between, *path[-half:]])


def unneeded(
    needs: Needs, order: Sequence[str], reads: Iterable[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Those of `reads`, pairs of a step and one that it reads, where it does not need that one.

    Args:
        needs: What each step needs by name.
        order: All steps, as `ordered` gives them.
        reads: Pairs of reader and read.
    """
    far = {(of, wanted) for of, wanted in reads if wanted not in needs[of]}
    wanted = sorted({one for _, one in far})
    missing = set()
    for begin in range(0, len(wanted), _BITS):
        bits = {one: 1 << at for at, one in enumerate(wanted[begin : begin + _BITS])}
        before: dict[str, int] = {}
        for name in order:
            mask = 0
            for one in needs[name]:
                mask |= before[one] | bits.get(one, 0)
            before[name] = mask
        missing |= {(of, one) for of, one in far if one in bits and not before[of] & bits[one]}
    return missing
