"""The last step of every parser: normalise the text.

Two documents that differ only in line ends, byte order mark, NULs or normal form (NFC against
NFD) have the same text afterwards, so they have the same content hash: that is the dedup rule.
"""

import re
import unicodedata
from dataclasses import replace

from shared.errors import DocumentRefused
from workers.parsers.model import Parsed, ParserLimits

_WORD = re.compile(r"\w")
# Normalising sorts each run of marks in quadratic time, so a run longer than any script
# stacks (people's zalgo stays below) is left as it is.
# Every mark is neither a letter nor white space; a line of box signs is, and has no other form.
_MARKS_RUN = re.compile(r"([^\w\s\x00-\x7f]{128,})")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_TITLE_CHARS_MAX = 300


def clean(parsed: Parsed, limits: ParserLimits) -> Parsed:
    """Give a parser's result its final form.

    Returns:
        The same document: NFC, LF line ends, no NUL, no lone surrogate, no byte order mark,
        no white space at the end; the title on one line of at most 300 characters.

    Raises:
        DocumentRefused: `no_text` if nothing visible is left; `output_limit`.
    """
    text = parsed.text
    nuls = text.count("\0")
    if nuls:
        text = text.replace("\0", "")
    text = normal(text.removeprefix("\ufeff")).rstrip()
    if not _is_visible(text):
        raise DocumentRefused("no_text", "It contains no text.")
    if len(text) > limits.text_bytes_max or len(text.encode()) > limits.text_bytes_max:
        raise DocumentRefused("output_limit", "The document contains more text than allowed.")
    title = " ".join(normal(parsed.title or "").replace("\0", "").split())[:_TITLE_CHARS_MAX]
    return replace(parsed, text=text, title=title or None, nuls_removed=nuls)


def normal(text: str) -> str:
    """The text in NFC with LF line ends and surrogate pairs joined; lone ones become U+FFFD."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return text
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if not _MARKS_RUN.search(text):
        return unicodedata.normalize("NFC", text)
    pieces = _MARKS_RUN.split(text)
    return "".join(
        piece if index % 2 else unicodedata.normalize("NFC", piece)
        for index, piece in enumerate(pieces)
    )


def _is_visible(text: str) -> bool:
    """Return whether anything is visible: white space, marks and zero-width signs are not."""
    if _WORD.search(text):
        return True
    return any(unicodedata.category(sign)[0] in "PS" for sign in text)
