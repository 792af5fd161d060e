"""The kinds that already are text: txt, md, csv, json, xml. Their text is kept as it is."""

import re

from shared.errors import DocumentRefused
from workers.parsers.encoding import decode
from workers.parsers.model import KindName, Parsed, ParserLimits, Structure

_DTD = re.compile(r"<!ENTITY|<!DOCTYPE", re.IGNORECASE)
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.{0,299})", re.MULTILINE)
_ESCAPE = re.compile(r"\\\\|((?:\\u[0-9a-fA-F]{4})+)")
_ASCII_LAST = 0x7F


def parse_plain(data: bytes, kind: KindName, limits: ParserLimits, *, lossy: bool) -> Parsed:
    """A text kind as its own text.

    Args:
        data: The bytes.
        kind: txt, md, csv, json or xml.
        limits: How long a text may be.
        lossy: Decode what no encoding fits, with U+FFFD in it.

    Raises:
        DocumentRefused: `too_large`, `bad_encoding`; `forbidden_xml` for a DTD, though nothing
            here would follow it: such a file is hostile or broken elsewhere.
    """
    if len(data) > limits.text_bytes_max:
        raise DocumentRefused("too_large", f"A text must be at most {limits.text_bytes_max} bytes.")
    text, encoding = decode(data, lossy=lossy)
    title = None
    if kind == "xml" and _DTD.search(text):
        raise DocumentRefused("forbidden_xml", "It declares a DTD or entities.")
    if kind == "json":
        text = _ESCAPE.sub(_unescaped, text)
    if kind == "md":
        heading = _HEADING.search(text[:65536])
        title = heading[1].rstrip(" \t#") if heading else None
    structure: Structure = "markdown" if kind == "md" else "plain"
    return Parsed(text, kind, structure, title=title, encoding=encoding)


def _unescaped(match: re.Match[str]) -> str:
    r"""Letters for `\u015f`, so that they can be found; ASCII stays escaped, the JSON valid."""
    if not match[1]:
        return match[0]
    units = [int(unit, 16) for unit in match[1].split("\\u")[1:]]
    if any(unit <= _ASCII_LAST for unit in units):
        return match[0]
    packed = b"".join(unit.to_bytes(2, "little") for unit in units)
    try:
        return packed.decode("utf-16-le")
    except UnicodeDecodeError:
        return match[0]
