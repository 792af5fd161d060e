"""Uploads as multipart/form-data, read as they come: the file is written to disk, and hashed."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO, Final, cast

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from producers.documents.submission import DOCUMENT_BYTES_MAX, HashedFile
from producers.web.problems import Refused
from shared.ids import TenantId

FIELDS: Final = frozenset({"source", "title", "lossy"})
FIELD_BYTES_MAX: Final = 16_000
PARTS_MAX: Final = len(FIELDS) + 1
MEMORY_BYTES: Final = 1024 * 1024  # of a file, before it goes to disk
# At once, in a process: their files are on its disk.
UPLOADS_MAX: Final = 32
TENANT_UPLOADS_MAX: Final = 8
_CALLBACKS: Final = (
    *("part_begin", "part_data", "part_end", "header_field", "header_value"),
    *("header_end", "headers_finished", "end"),
)
_AS_IS: Final = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(slots=True)
class Form:
    """What a form had: its fields by name, the name of its file, and the file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    content: HashedFile | None = None


@dataclass(slots=True)
class Places:
    """How many uploads are being received, by tenant; used by one thread, the event loop's."""

    _taken: Counter[TenantId] = field(default_factory=Counter)

    def taken_by(self, tenant_id: TenantId) -> int:
        """How many a tenant has taken."""
        return self._taken[tenant_id]

    @contextmanager
    def taken(self, tenant_id: TenantId) -> Iterator[None]:
        """Take a place.

        Raises:
            Refused: There is none: too many uploads at once.
        """
        if self._taken.total() >= UPLOADS_MAX or self._taken[tenant_id] >= TENANT_UPLOADS_MAX:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "uploads_busy",
                f"Too many uploads at once: {TENANT_UPLOADS_MAX} of a tenant, {UPLOADS_MAX} in "
                "all. Send this one again.",
                {"Retry-After": "5"},
            )
        self._taken[tenant_id] += 1
        try:
            yield
        finally:
            self._taken[tenant_id] -= 1
            if not self._taken[tenant_id]:
                del self._taken[tenant_id]


PLACES: Final = Places()


@asynccontextmanager
async def received(request: Request, tenant_id: TenantId) -> AsyncIterator[Form]:
    """Receive a form; its file is removed at the end.

    Raises:
        Refused: It is not a form as RFC 7578 has it, has other fields or no file, or its file is
            too large.
    """
    _, parameters = parse_options_header(request.headers.get("content-type"))
    with PLACES.taken(tenant_id), tempfile.SpooledTemporaryFile(MEMORY_BYTES) as file:
        reading = _Reading(parameters.get(b"boundary", b""), cast("BinaryIO", file))
        async for piece in request.stream():
            reading.add(piece)
            if reading.held_bytes >= MEMORY_BYTES:
                await run_in_threadpool(reading.write)
        await run_in_threadpool(reading.write)
        yield reading.form()


class _Reading:
    """A form as it comes, in parts; python-multipart calls the methods that begin with `on_`."""

    def __init__(self, boundary: bytes, file: BinaryIO) -> None:
        if not boundary:
            raise _invalid("multipart/form-data needs a boundary in its Content-Type")
        try:
            callbacks = {f"on_{name}": getattr(self, f"_{name}") for name in _CALLBACKS}
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise _invalid("the boundary is too long") from None
        self._form = Form()
        self._file = file
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._parts = 0
        self._ended = False
        self._pieces: list[bytes] = []
        self.held_bytes = 0
        self._name = self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field: bytearray | None = None

    def add(self, piece: bytes) -> None:
        """Read a piece of the request."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _invalid("it does not follow RFC 7578") from None

    def write(self) -> None:
        """Write what is held of the file. Blocks."""
        for piece in self._pieces:
            self._file.write(piece)
        self._pieces.clear()
        self.held_bytes = 0

    def form(self) -> Form:
        """Return the whole form."""
        if not self._ended:
            raise _invalid("it ends before its last boundary")
        if self._form.content is None:
            raise _invalid("it has no part `file`")
        self._form.content = HashedFile(self._file, self._sha256.hexdigest())
        return self._form

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise _invalid(f"it has more than {PARTS_MAX} parts")
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding.decode("latin-1") not in _AS_IS:
            raise _invalid("a part has a Content-Transfer-Encoding")
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = _text(options.get(b"name", b""), "the name of a part")
        if name == "file":
            if self._form.content is not None:
                raise _invalid("it has two parts `file`")
            self._form.filename = _text(options.get(b"filename", b""), "the file name") or None
            self._form.content = HashedFile(self._file, "")
            self._field = None
        elif name not in FIELDS or name in self._form.fields:
            known = ", ".join(["file", *sorted(FIELDS)])
            raise _invalid(f"unknown or repeated part {name[:64]!r}; its parts are {known}")
        else:
            self._form.fields[name] = ""
            self._field = bytearray()
        self._name = name.encode()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._field is not None:
            self._field += piece
            if len(self._field) > FIELD_BYTES_MAX:
                raise _invalid(f"a field has more than {FIELD_BYTES_MAX:,} bytes")
            return
        self._size += len(piece)
        if self._size > DOCUMENT_BYTES_MAX:
            raise too_large()
        self._sha256.update(piece)
        self._pieces.append(piece)
        self.held_bytes += len(piece)

    def _part_end(self) -> None:
        if self._field is not None:
            name = self._name.decode()
            self._form.fields[name] = _text(bytes(self._field), f"the field {name}")

    def _end(self) -> None:
        self._ended = True


def too_large() -> Refused:
    """Return the refusal of a document that is too large."""
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "document_too_large",
        f"A document must be at most {DOCUMENT_BYTES_MAX // 1024**2} MB.",
        {"Connection": "close"},
    )


def _text(raw: bytes, what: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _invalid(f"{what} is not UTF-8") from None
    if "\0" in text:
        raise _invalid(f"{what} has a NUL character")
    return text


def _invalid(why: str) -> Refused:
    return Refused(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_multipart", f"Invalid multipart body: {why}."
    )
