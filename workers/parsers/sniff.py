"""The kind of a document, by its bytes. A file name is only a hint between kinds of text."""

import re

from shared.errors import DocumentRefused
from workers.parsers.encoding import mark, unmarked_utf16
from workers.parsers.model import DocumentKind, KindName

_HEAD_BYTES = 64 * 1024
# Unsupported formats: named, so that the encoding guesser never sees them.
_FOREIGN = (
    b"\x7fELF", b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"\x1f\x8b", b"BZh",
    b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!", b"RIFF", b"OggS", b"ID3",
    b"II*\0", b"MM\0*", b"\0asm", b"\xca\xfe\xba\xbe", b"SQLite format 3", b"\0\0\0\x0cjP",
    b"%!PS", b"wOF", b"\0\x01\0\0", b"fLaC",
)  # fmt: skip
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_PDF_TRAILER = (b"%%EOF", b"startxref", b"endobj")
# Names that promise a format which is never plain text.
_BINARY_NAMES = frozenset({"pdf", "docx", "pptx", "xlsx", "epub", "rtf"})
_TEXT_NAMES = {
    "txt": "txt", "text": "txt", "log": "txt", "md": "md", "markdown": "md", "csv": "csv",
    "tsv": "csv", "json": "json", "jsonl": "json", "ndjson": "json", "html": "html",
    "htm": "html", "xhtml": "html", "xml": "xml", "svg": "xml", "eml": "eml",
}  # fmt: skip
# Control characters no text has: all but tab, line ends, form feed, escape, backspace, NUL.
_CONTROL = bytes(set(range(1, 32)) - {8, 9, 10, 11, 12, 13, 27})
_CONTROL_SHARE_MAX = 0.02
_CONTROL_FEW = 2
_NUL_SHARE_MAX = 0.5

# The comments are atomic: otherwise many of them could be split in exponentially many ways.
_HTML = re.compile(r"\s*(?:(?><!--.*?-->)\s*)*+<(!doctype\s+html|html|head|body)\b", re.I | re.S)
_XHTML = re.compile(r"\s*<\?xml[^>]{0,300}\?>.{0,2000}?<(!doctype\s+html|html)\b", re.I | re.S)
_ANY_TAG = re.compile(r"</?[a-z][a-z0-9]{0,15}[\s>/]", re.IGNORECASE)
_XML = re.compile(r"\s*<(\?xml\b|!DOCTYPE\b|svg\b)", re.IGNORECASE)
_MAIL_HEADER = re.compile(
    r"^(from|to|cc|subject|date|message-id|mime-version|received|return-path|reply-to|"
    r"delivered-to|content-type|content-transfer-encoding|x-[\w-]{1,60}):[ \t]",
    re.IGNORECASE,
)
_MAIL_HEADERS_MIN = 2
_MARKDOWN = re.compile(
    r"^(#{1,6} \S|```|~~~|[-*+] \[[ x]\] |\|.{1,500}\|[ \t]*$|={4,}$|> \S)|\]\(\S{1,300}\)",
    re.MULTILINE,
)
_MARKDOWN_SIGNS_MIN = 2
_CSV_ROWS_MIN = 3


def sniff(data: bytes, name: str | None) -> DocumentKind:
    """Decide what a document is.

    Args:
        data: All its bytes.
        name: Its file name, if it has one; only the extension is read.

    Raises:
        DocumentRefused: `empty_document`, `type_mismatch` (the name promises one thing, the
            bytes are another that cannot be read), `unsupported_type`, `encrypted_document`.
    """
    if not data:
        raise DocumentRefused("empty_document", "The file is empty.")
    promised = _extension(name)
    kind = _known_binary(data, promised)
    if kind:
        return DocumentKind(KindName(kind), needs_child=True)
    _refuse_foreign(data, promised)
    if promised in _BINARY_NAMES:
        if data.strip(b" \t\r\n\f\0\xef\xbb\xbf"):
            raise DocumentRefused("type_mismatch", f"It is called .{promised} but is text.")
        raise DocumentRefused("no_text", "It contains only white space.")
    kind = _text_kind(data, promised)
    return DocumentKind(KindName(kind), needs_child=kind in {"html", "eml"})


def _known_binary(data: bytes, promised: str) -> str:
    if data.startswith(_ZIP):
        return "archive"
    if data.startswith(b"{\\rtf"):
        return "rtf"
    return "pdf" if _is_pdf(data, promised) else ""


def _refuse_foreign(data: bytes, promised: str) -> None:
    if data.startswith(_OLE):
        if _ENCRYPTED_PACKAGE in data:
            raise DocumentRefused("encrypted_document", "It is protected by a password.")
        raise _foreign(promised, "It is an old binary office file; save it in the new format.")
    if data.startswith(_FOREIGN) or data[4:8] == b"ftyp" or data[257:262] == b"ustar":
        raise _foreign(promised, "This format is not supported.")
    if not mark(data)[0] and _looks_binary(data[:_HEAD_BYTES]):
        raise _foreign(promised, "It is binary data of unknown type.")


def _foreign(promised: str, sentence: str) -> DocumentRefused:
    known = promised in _BINARY_NAMES or promised in _TEXT_NAMES
    return DocumentRefused("type_mismatch" if known else "unsupported_type", sentence)


def _extension(name: str | None) -> str:
    _, dot, extension = (name or "").rpartition(".")
    return extension.strip().lower()[:12] if dot else ""


def _is_pdf(data: bytes, promised: str) -> bool:
    head = data[:1024]
    at = head.find(b"%PDF-")
    if at < 0:
        return False
    # The header may follow junk; a text that only mentions it has no trailer.
    only_space = not head[:at].strip(b"\xef\xbb\xbf \t\r\n\0")
    return only_space or promised == "pdf" or any(sign in data for sign in _PDF_TRAILER)


def _looks_binary(head: bytes) -> bool:
    if wide := unmarked_utf16(head):
        head = head.decode(wide, "replace").encode("utf-8", "replace")
    nuls = head.count(0)
    if nuls > _NUL_SHARE_MAX * len(head) and head.strip(b"\0"):
        return True
    control = len(head) - len(head.translate(None, _CONTROL))
    return control > _CONTROL_SHARE_MAX * len(head) + _CONTROL_FEW


def _text_kind(data: bytes, promised: str) -> str:
    head = _readable(data[:_HEAD_BYTES])
    hint = _TEXT_NAMES.get(promised, "")
    start = head.lstrip()
    if _HTML.match(head[:4096]) or _XHTML.match(head[:4096]):
        return "html"
    if _XML.match(head[:256]):
        return "xml"
    if hint in {"html", "xml"}:
        return hint if hint == "html" and _ANY_TAG.search(head) else "txt"
    if _is_mail(start, hint):
        return "eml"
    return hint if hint in {"md", "csv", "txt"} else _unnamed_kind(data, head, hint)


def _unnamed_kind(data: bytes, head: str, hint: str) -> str:
    start = head.lstrip()
    if start[:1] in {"{", "["} and (hint == "json" or _ends_as_json(data, start)):
        return "json"
    if _is_csv(head):
        return "csv"
    marks = len(_MARKDOWN.findall(head, 0, 16_384))
    return "md" if marks >= _MARKDOWN_SIGNS_MIN else "txt"


def _readable(head: bytes) -> str:
    name, length = mark(head)
    return head[length:].decode(name or "latin-1", "replace")


def _ends_as_json(data: bytes, start: str) -> bool:
    closing = {"{": b"}", "[": b"]"}[start[0]]
    follows = start[1:].lstrip()[:1]
    opens_right = follows in {'"', "}"} if start[0] == "{" else follows in set('"[{]-0123456789tfn')
    return opens_right and data[-64:].replace(b"\0", b"").rstrip().endswith(closing)


def _is_mail(start: str, hint: str) -> bool:
    headers = 0
    for line in start[:8192].splitlines():
        if _MAIL_HEADER.match(line):
            headers += 1
        elif not line or not (line[:1] in {" ", "\t"} or re.match(r"[\w-]{1,60}:", line)):
            break
    return headers >= (1 if hint == "eml" else _MAIL_HEADERS_MIN) and hint in {"eml", "", "txt"}


def _is_csv(head: str) -> bool:
    lines = [line for line in head.splitlines()[:20] if line.strip()]
    if len(lines) < _CSV_ROWS_MIN:
        return False
    # A comma before a space is one of prose, even where each line has as many.
    if head.count(", ") * 2 > head.count(",") and ";" not in lines[0] and "\t" not in lines[0]:
        return False
    for delimiter in (",", ";", "\t"):
        counts = {line.count(delimiter) for line in lines[:-1]}
        if counts != {0} and len(counts) == 1:
            return True
    return False
