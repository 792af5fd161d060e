"""Durations as people write them: `500ms`, `30s`, `5m`, `2h`, `7d`, or a number of seconds."""

import re
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SECONDS_MAX: Final = 1e12
_FORM: Final = re.compile(r"^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$")


def seconds(text: str | float) -> float:
    """A duration in seconds.

    Raises:
        ValueError: It is not a duration.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not 0 <= text < _SECONDS_MAX:
            raise ValueError(f"{text} is not a number of seconds.")
        return float(text)
    found = _FORM.match(str(text).strip())
    if found is None:
        raise ValueError(f"Invalid duration {text!r}; write 500ms, 30s, 5m, 2h or 7d.")
    return float(found[1]) * _UNITS[found[2]]
