"""The guard of archives: it reads each one once, in memory, and counts while it does.

Nothing is ever written to disk, so an entry's path (`../x`, a symlink) is only a name. The
sizes an archive claims are not believed: what counts is what comes out of zlib.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.errors import DocumentRefused
from workers.parsers.model import ParserLimits

_PIECE_BYTES = 256 * 1024
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED_FLAG = 0x1
_XML_NAMES = (".xml", ".rels", ".vml", ".svg", ".opf", ".ncx", ".xhtml", ".html", ".htm")
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([^\"']{1,40})[\"']")
_KNOWN_ENCODINGS = {b"utf-8", b"utf8", b"utf-16", b"utf-16le", b"utf-16be", b"us-ascii", b"ascii"}
_LATIN = re.compile(rb"(iso-8859|windows-125)[-\d]{1,4}")
# A DTD in an office part is never legitimate; in a book the public XHTML one is.
_DTD = re.compile(rb"<!DOCTYPE|<!ENTITY", re.IGNORECASE)
_ENTITY = re.compile(rb"<!ENTITY|<!DOCTYPE[^>]{0,2000}\[", re.IGNORECASE)


@dataclass(frozen=True)
class Archive:
    """An archive that has passed the guard.

    Attributes:
        names: Every entry, in the order of the directory.
        parts: The XML and text entries, inflated; pictures and other media are only counted.
    """

    names: tuple[str, ...]
    parts: dict[str, bytes] = field(repr=False)

    def part(self, name: str) -> bytes:
        """An XML part by its name, or b"" when there is none."""
        return self.parts.get(name.lstrip("/"), b"")


def open_archive(data: bytes, limits: ParserLimits) -> Archive:
    """Check an archive and inflate its XML parts.

    Args:
        data: The whole archive.
        limits: Entries, bytes and ratio it may reach.

    Raises:
        DocumentRefused: `corrupt_archive`, `encrypted_document`, `decompression_limit` or
            `forbidden_xml`.
    """
    entries = _directory(data, limits)
    _refuse_overlap(entries)
    budget = _Budget(limits)
    parts = {}
    for entry in entries:
        keep = entry.filename.lower().endswith(_XML_NAMES) or entry.filename == "mimetype"
        content = _inflate(data, entry, budget, keep=keep)
        if keep:
            parts[entry.filename] = content
    book = parts.get("mimetype", b"").startswith(b"application/epub")
    for name, content in parts.items():
        refuse_dtd(content, name, book=book)
    return Archive(tuple(entry.filename for entry in entries), parts)


def refuse_dtd(content: bytes, name: str, *, book: bool = False) -> None:
    """Refuse an XML part that declares entities, in any encoding an XML parser would follow.

    Raises:
        DocumentRefused: `forbidden_xml`.
    """
    # Without NULs the ASCII of UTF-16 and UTF-32 reads like ASCII.
    flat = content.replace(b"\0", b"") if b"\0" in content else content
    declared = _DECLARED.search(flat[:1024])
    known = (
        declared is None
        or declared[1].lower() in _KNOWN_ENCODINGS
        or _LATIN.fullmatch(declared[1].lower())
    )
    starts_as_xml = flat[:64].lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1] in {b"<", b""}
    markup = name.lower().endswith(_XML_NAMES)
    if markup and not (known and (starts_as_xml or book)):
        raise DocumentRefused("forbidden_xml", "A part of it is XML in an unusual encoding.")
    if markup and (_ENTITY if book else _DTD).search(flat):
        raise DocumentRefused("forbidden_xml", "A part of it declares a DTD or entities.")


class _Budget:
    """The bytes that all entries together may still inflate to."""

    def __init__(self, limits: ParserLimits) -> None:
        self._limits = limits
        self._inflated = 0
        self._packed = 0

    def packed(self, count: int) -> None:
        self._packed += count

    def add(self, count: int) -> None:
        self._inflated += count
        over_ratio = (
            self._inflated > self._limits.archive_grace_bytes
            and self._inflated > self._packed * self._limits.archive_ratio_max
        )
        if over_ratio or self._inflated > self._limits.archive_bytes_max:
            raise DocumentRefused("decompression_limit", "It inflates to far more than its size.")


def _directory(data: bytes, limits: ParserLimits) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, EOFError):
        raise DocumentRefused("corrupt_archive", "Its zip directory cannot be read.") from None
    if len(entries) > limits.archive_entries_max:
        raise DocumentRefused("decompression_limit", "It has more entries than allowed.")
    if any(entry.flag_bits & _ENCRYPTED_FLAG for entry in entries):
        raise DocumentRefused("encrypted_document", "It is protected by a password.")
    # Two parts of one name: which is read depends on the reader, so none is.
    if len({entry.filename for entry in entries}) != len(entries):
        raise DocumentRefused("corrupt_archive", "Two of its entries have the same name.")
    return [entry for entry in entries if not entry.is_dir()]


def _refuse_overlap(entries: list[zipfile.ZipInfo]) -> None:
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise DocumentRefused("decompression_limit", "Its entries overlap.")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size


def _inflate(data: bytes, entry: zipfile.ZipInfo, budget: _Budget, *, keep: bool) -> bytes:
    header = data[entry.header_offset : entry.header_offset + _LOCAL_HEADER_BYTES]
    if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(b"PK\x03\x04"):
        raise DocumentRefused("corrupt_archive", "An entry does not start where it should.")
    name_length = int.from_bytes(header[26:28], "little")
    extra_length = int.from_bytes(header[28:30], "little")
    start = entry.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
    packed = memoryview(data)[start : start + entry.compress_size]
    if len(packed) < entry.compress_size:
        raise DocumentRefused("corrupt_archive", "An entry is cut short.")
    budget.packed(len(packed))
    kept: list[bytes] = []
    size = checksum = 0
    for piece in _pieces(packed, entry.compress_type):
        budget.add(len(piece))
        size += len(piece)
        checksum = zlib.crc32(piece, checksum)
        if keep:
            kept.append(piece)
    if size != entry.file_size or checksum != entry.CRC:
        raise DocumentRefused("corrupt_archive", "The checksum of an entry does not match.")
    return b"".join(kept)


def _pieces(packed: memoryview, method: int) -> Iterator[bytes]:
    if method == zipfile.ZIP_STORED:
        yield bytes(packed)
        return
    if method != zipfile.ZIP_DEFLATED:
        raise DocumentRefused("corrupt_archive", "An entry uses an unsupported compression method.")
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    rest: bytes | memoryview = packed
    try:
        while not stream.eof:
            piece = stream.decompress(rest, _PIECE_BYTES)
            rest = stream.unconsumed_tail
            if not piece and not rest:
                break
            yield piece
    except zlib.error:
        raise DocumentRefused("corrupt_archive", "An entry cannot be inflated.") from None
