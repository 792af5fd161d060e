"""Keep a library from importing what it would only use for things we never ask of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_HEAVY = ("numpy", "PIL")


@contextmanager
def without_numpy_and_pillow() -> Iterator[None]:
    """Within it, importing numpy or Pillow fails unless it is loaded already."""
    hidden = [name for name in _HEAVY if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
