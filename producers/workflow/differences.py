"""What differs between two versions of a definition."""

from collections.abc import Mapping
from typing import Any


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two definitions; the result is JSON.

    Returns:
        "added" and "removed": names of steps; "changed": step -> field -> [before, after];
        "workflow": field -> [before, after] of everything else.
    """
    old, new = before.get("steps", {}), after.get("steps", {})
    changed = {name: _fields(old[name], new[name]) for name in old if name in new}
    return {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": {name: fields for name, fields in changed.items() if fields},
        "workflow": _fields(
            {name: value for name, value in before.items() if name != "steps"},
            {name: value for name, value in after.items() if name != "steps"},
        ),
    }


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys([*old, *new])
    return {
        name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)
    }
