"""Everything that a parser may ever import, loaded at once: a confined process opens no file."""

import encodings
import pkgutil
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Final

from workers.parsers.lean_imports import without_numpy_and_pillow

# Also what these import late.
_MODULES: Final = {
    "pdf": ("workers.parsers.pdf",),
    "rtf": ("workers.parsers.rtf",),
    "html": ("workers.parsers.markup", "charset_normalizer"),
    "eml": (
        *("workers.parsers.mail", "charset_normalizer"),
        *("email.generator", "email.iterators", "email.parser"),
    ),
    "archive": (
        *("workers.parsers.docx", "workers.parsers.epub", "workers.parsers.pptx"),
        *("workers.parsers.xlsx", "openpyxl", "charset_normalizer"),
    ),
}


def preload(kinds: Iterable[str] = _MODULES) -> None:
    """Import parsers, their libraries and every codec that a document may name.

    Args:
        kinds: The kinds of documents that will come, by default every one that needs a child.
    """
    import_module("workers.parsers.plain")
    with without_numpy_and_pillow():
        for name in kinds:
            for module in _MODULES[name]:
                import_module(module)
    for codec in pkgutil.iter_modules(encodings.__path__):
        with suppress(ImportError):  # those of Windows
            import_module(f"encodings.{codec.name}")
