"""The data types of parsing: limits, document kinds and parsed text."""

from dataclasses import dataclass
from typing import Literal, NewType

from shared.errors import DocumentRefused

Structure = Literal["plain", "markdown"]
KindName = NewType("KindName", str)

MIB = 1024 * 1024


@dataclass(frozen=True)
class ParserLimits:
    """Resource limits of one document. Sizes are bytes unless the name says otherwise.

    Attributes:
        input_bytes_max: A document as it arrives.
        text_bytes_max: Text, as UTF-8, read from or produced by a document. Text kinds are
            parsed in the worker, which holds a few copies of it: 16 MiB keeps it under 300 MB.
        archive_entries_max: Entries of an archive.
        archive_bytes_max: All entries of an archive, inflated.
        archive_ratio_max: Inflated over compressed bytes, beyond `archive_grace_bytes`.
        archive_grace_bytes: How far an archive may inflate before its ratio counts.
        pages_max: Pages of a pdf.
        nesting_max: Elements, groups or parts inside one another.
        memory_bytes_max: Address space of the child.
        cpu_s_max: CPU seconds of the child for one document.
        wall_s_max: Wall seconds of the child for one document.
        child_documents_max: Documents a child may parse before a fresh one takes its place.
    """

    input_bytes_max: int = 128 * MIB
    text_bytes_max: int = 16 * MIB
    archive_entries_max: int = 2_000
    archive_bytes_max: int = 200_000_000
    archive_ratio_max: int = 100
    archive_grace_bytes: int = 1_000_000
    pages_max: int = 5_000
    nesting_max: int = 1_000
    memory_bytes_max: int = 1024 * MIB
    cpu_s_max: int = 25
    wall_s_max: float = 30.0
    child_documents_max: int = 50


@dataclass(frozen=True)
class DocumentKind:
    """The kind of a document, by its bytes.

    Attributes:
        name: txt, md, html, pdf, csv, json, xml, eml, rtf, or `archive`: which office or book
            format an archive holds is decided behind the guard.
        needs_child: Whether a library of size reads it, so that it must be killable.
    """

    name: KindName
    needs_child: bool


@dataclass(frozen=True)
class Parsed:
    """A document as text.

    Attributes:
        text: Unicode in normal form C, lines end in LF, without NUL and lone surrogates.
        kind: The final kind, such as `docx`.
        structure: `markdown` where headings, lists and tables are marked, else `plain`.
        title: What the document says it is called, one line, or None.
        pages: Pages of a pdf, slides of a pptx, else None.
        encoding: How the bytes were decoded, for text kinds, else None.
        nuls_removed: How many NUL characters were dropped.
    """

    text: str
    kind: KindName
    structure: Structure
    title: str | None = None
    pages: int | None = None
    encoding: str | None = None
    nuls_removed: int = 0


class Gauge:
    """Counts text as it is produced, so that a small input cannot become an endless output."""

    def __init__(self, limits: ParserLimits) -> None:
        self._left = limits.text_bytes_max

    def add(self, text: str) -> str:
        """Count a piece of output and hand it back.

        Raises:
            DocumentRefused: `output_limit`, once the pieces exceed the limit together.
        """
        self._left -= len(text) + 1
        if self._left < 0:
            raise DocumentRefused("output_limit", "The document contains more text than allowed.")
        return text
