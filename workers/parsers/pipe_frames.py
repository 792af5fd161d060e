"""The protocol of parent and child: a length, a small JSON head, a body of bytes."""

import json
from dataclasses import dataclass
from struct import Struct
from typing import Final

from workers.parsers.model import KindName, Parsed

PREFIX: Final = Struct(">II")
READY: Final = b"READY\n"
HEAD_BYTES_MAX: Final = 64 * 1024


class FrameBroken(Exception):
    """The other side violates the protocol: it is compromised or dying."""


@dataclass(frozen=True)
class Refusal:
    """The child's error response: the reason code and its sentence."""

    reason: str
    sentence: str


def pack(head: dict[str, object]) -> bytes:
    """A head as the bytes that come before its body; `head["size"]` is the body's length."""
    packed = json.dumps(head).encode()
    size = head["size"]
    assert isinstance(size, int)
    assert len(packed) <= HEAD_BYTES_MAX
    return PREFIX.pack(len(packed), size) + packed


def sizes(prefix: bytes, body_bytes_max: int) -> tuple[int, int]:
    """Lengths of head and body, in bytes.

    Raises:
        FrameBroken: One of them is too large.
    """
    head, body = PREFIX.unpack(prefix)
    if head > HEAD_BYTES_MAX or body > body_bytes_max:
        raise FrameBroken("frame too large")
    return head, body


def answer_head(parsed: Parsed, size: int) -> dict[str, object]:
    """The head that goes before a text."""
    return {
        "kind": parsed.kind,
        "structure": parsed.structure,
        "title": parsed.title,
        "pages": parsed.pages,
        "encoding": parsed.encoding,
        "nuls_removed": parsed.nuls_removed,
        "size": size,
    }


def read_answer(head: bytes, body: bytes) -> Parsed | Refusal:
    """Check what a child answered, field by field: its memory may be in a document's hands.

    Raises:
        FrameBroken: The answer is malformed.
    """
    try:
        fields = json.loads(head)
        if "reason" in fields:
            return Refusal(_text(fields["reason"], 40), _text(fields["sentence"], 400))
        if fields["structure"] not in {"plain", "markdown"}:
            raise FrameBroken("unknown structure")
        return Parsed(
            text=body.decode(),
            kind=KindName(_text(fields["kind"], 10)),
            structure=fields["structure"],
            title=None if fields["title"] is None else _text(fields["title"], 300),
            pages=_count(fields["pages"]),
            encoding=None if fields["encoding"] is None else _text(fields["encoding"], 40),
            nuls_removed=_count(fields["nuls_removed"]) or 0,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise FrameBroken("malformed answer") from None


def _text(value: object, chars_max: int) -> str:
    if isinstance(value, str) and len(value) <= chars_max:
        return value
    raise FrameBroken("a field is not a short text")


def _count(value: object) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise FrameBroken("a field is not a count")
