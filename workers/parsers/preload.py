"""Everything that a parser may ever import, loaded at once: a confined process opens no file."""

import encodings
import pkgutil
from contextlib import suppress
from importlib import import_module
from typing import Final

from workers.parsers.lean_imports import without_numpy_and_pillow

_PARSERS: Final = ("docx", "epub", "mail", "markup", "pdf", "plain", "pptx", "rtf", "xlsx")
_LIBRARIES: Final = ("charset_normalizer", "email.generator", "email.iterators", "email.parser")


def preload() -> None:
    """Import the parsers, their libraries and every codec that a document may name."""
    for name in _PARSERS:
        import_module(f"workers.parsers.{name}")
    with without_numpy_and_pillow():
        import_module("openpyxl")
    for name in _LIBRARIES:
        import_module(name)
    for codec in pkgutil.iter_modules(encodings.__path__):
        with suppress(ImportError):  # those of Windows
            import_module(f"encodings.{codec.name}")
