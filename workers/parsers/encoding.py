"""Bytes to Unicode: a byte order mark, then UTF-8, then what is declared, then a careful guess."""

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, lookup
from typing import TYPE_CHECKING

from shared.errors import DocumentRefused

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

# UTF-32 first: its mark begins with the one of UTF-16.
_MARKS = (
    (BOM_UTF8, "utf-8"),
    (BOM_UTF32_LE, "utf-32-le"),
    (BOM_UTF32_BE, "utf-32-be"),
    (BOM_UTF16_LE, "utf-16-le"),
    (BOM_UTF16_BE, "utf-16-be"),
)
# Bytes no encoder of UTF-8 writes, though a broken one does: overlong forms and surrogates.
_BROKEN_UTF8 = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xed[\xa0-\xbf][\x80-\xbf]")
_HIGH = re.compile(rb"[\x80-\xff]")
# ğ ı ş Ğ İ Ş as cp1254 writes them; cp1252 reads the Icelandic ð ý þ there.
_ONLY_TURKISH = re.compile(r"[ğışĞİŞ]")
_TURKISH = re.compile(r"[çğıöşüâîûÇĞİÖŞÜÂÎÛ‘’“”–—…•«»€©®°§·\xa0]")
_SAMPLE_BYTES = 64 * 1024
_NUL_SHARE_OF_UTF16 = 0.3
_TURKISH_SHARE_MIN = 0.9
_CHAOS_MAX = 0.1
_COHERENCE_MIN = 0.3
_UNSAFE = {"utf_7", "punycode", "idna", "unicode_escape", "raw_unicode_escape"}


def mark(data: bytes) -> tuple[str, int]:
    """The encoding a byte order mark names and the length of the mark, or ("", 0)."""
    for bom, name in _MARKS:
        if data.startswith(bom):
            return name, len(bom)
    return "", 0


def decode(data: bytes, *, declared: str | None = None, lossy: bool = False) -> tuple[str, str]:
    """Decode a text of unknown encoding.

    Args:
        data: The bytes, with or without a byte order mark.
        declared: What the document itself claims, such as a `<meta charset>`.
        lossy: Take the likeliest encoding, and U+FFFD for what it cannot read.

    Returns:
        The text without its mark, and the codec's name.

    Raises:
        DocumentRefused: `bad_encoding`, when no encoding is certain enough and not `lossy`.
    """
    name, length = mark(data)
    if name:
        return _strict_or_lossy(data[length:], name, lossy=lossy)
    wide = unmarked_utf16(data)
    if wide and lossy:
        return data.decode(wide, "replace"), wide
    if wide:
        raise DocumentRefused("bad_encoding", "It looks like UTF-16 without a byte order mark.")
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    guess = None if _broken_utf8(data) else _declared(data, declared) or _guess(data)
    if guess:
        return _strict_or_lossy(data, guess, lossy=lossy)
    if lossy:
        return data.decode("utf-8", "replace"), "utf-8"
    raise DocumentRefused("bad_encoding", "Its encoding is neither UTF-8 nor certain otherwise.")


def unmarked_utf16(data: bytes) -> str | None:
    """The UTF-16 that bytes without a mark look like, or None.

    A Latin text has a NUL in about every second byte there; a stray NUL is only a stray NUL.
    """
    sample = data[:_SAMPLE_BYTES]
    if not sample.strip(b"\0"):
        return None
    half = max(1, len(sample) // 2)
    odd, even = sample[1::2].count(0) / half, sample[::2].count(0) / half
    if max(odd, even) < _NUL_SHARE_OF_UTF16 or min(odd, even) > max(odd, even) / 2:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _strict_or_lossy(data: bytes, name: str, *, lossy: bool) -> tuple[str, str]:
    try:
        return data.decode(name), name
    except UnicodeDecodeError as error:
        if lossy:
            return data.decode(name, "replace"), name
        raise DocumentRefused("bad_encoding", f"Byte {error.start} is not valid {name}.") from None


def _broken_utf8(data: bytes) -> bool:
    """Return whether this is damaged UTF-8; guessing another encoding would garble it."""
    if _BROKEN_UTF8.search(data):
        return True
    text = data.decode("utf-8", "replace")
    faults = text.count("\ufffd")
    return len(text.encode("utf-8", "ignore")) - len(text) - 2 * faults > faults


def _declared(data: bytes, declared: str | None) -> str | None:
    try:
        name = lookup(declared or "").name
        if name.replace("-", "_") in _UNSAFE:
            return None
        data[:_SAMPLE_BYTES].decode(name, "ignore").encode("utf-8")
    except (LookupError, UnicodeError, ValueError, AssertionError):
        return None
    return name


def _guess(data: bytes) -> str | None:
    sample = _telling_sample(data)
    if _is_turkish(sample):
        return "cp1254"
    # Seldom needed, and a third of a child's start.
    from charset_normalizer import from_bytes  # noqa: PLC0415

    matches = [
        match
        for match in from_bytes(sample)
        if match.chaos <= _CHAOS_MAX and match.coherence >= _COHERENCE_MIN
    ]
    if not matches:
        return None
    return max(matches, key=_preference).encoding


def _preference(match: "CharsetMatch") -> tuple[float, bool]:
    # cp1250 and cp1252 often tie on western European text, which is far more often cp1252.
    return match.coherence, match.encoding in {"cp1252", "cp1254"}


def _telling_sample(data: bytes) -> bytes:
    """A bounded piece that holds the first bytes beyond ASCII, for guessing is not linear."""
    first = _HIGH.search(data)
    start = max(0, (first.start() if first else 0) - 256)
    return data[start : start + _SAMPLE_BYTES]


def _is_turkish(sample: bytes) -> bool:
    high = b"".join(_HIGH.findall(sample))
    text = high.decode("cp1254", "replace")
    return _ONLY_TURKISH.search(text) is not None and len(
        _TURKISH.findall(text)
    ) >= _TURKISH_SHARE_MIN * len(text)
