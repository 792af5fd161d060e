"""PDF through pdfium: the text of every page. Scripts and actions are never run."""

import re

import pypdfium2  # type: ignore[import-untyped]
from pypdfium2 import raw

from shared.errors import DocumentRefused
from workers.parsers.model import Gauge, KindName, Parsed, ParserLimits

# A stream packed twice by the same method serves nobody but a bomb: 1 kB becomes 300 MB.
_PACKED_TWICE = re.compile(rb"/(?:FlateDecode|Fl)\s*/(?:FlateDecode|Fl)\b")
_LOCKED = {raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY}


def parse_pdf(data: bytes, limits: ParserLimits) -> Parsed:
    """A pdf as plain text, pages parted by a blank line.

    pdfium is not thread-safe: only the child, which reads one document at a time, calls this.

    Raises:
        DocumentRefused: `encrypted_document`, `corrupt_pdf`, `too_many_pages`, `output_limit`,
            `decompression_limit`.
    """
    if _PACKED_TWICE.search(data):
        raise DocumentRefused("decompression_limit", "One of its streams is packed twice.")
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in _LOCKED:
            raise DocumentRefused("encrypted_document", "It needs a password.") from None
        raise DocumentRefused("corrupt_pdf", "Its structure cannot be read.") from None
    try:
        count = len(document)
        if count > limits.pages_max:
            raise DocumentRefused("too_many_pages", f"It has more than {limits.pages_max} pages.")
        if count == 0:
            raise DocumentRefused("corrupt_pdf", "It has no pages.")
        return _read(document, count, limits)
    finally:
        document.close()


def _read(document: pypdfium2.PdfDocument, count: int, limits: ParserLimits) -> Parsed:
    gauge = Gauge(limits)
    pages = []
    broken = 0
    for index in range(count):
        try:
            pages.append(gauge.add(_page_text(document, index)).strip())
        except pypdfium2.PdfiumError:
            broken += 1
    if broken == count:
        raise DocumentRefused("corrupt_pdf", "None of its pages can be read.")
    title = document.get_metadata_value("Title")
    text = "\n\n".join(page for page in pages if page)
    return Parsed(text, KindName("pdf"), "plain", title=title or None, pages=count)


def _page_text(document: pypdfium2.PdfDocument, index: int) -> str:
    page = document[index]
    try:
        text_page = page.get_textpage()
        try:
            # U+FFFE and U+0002 are pdfium's signs for a hyphen at a line's end.
            return str(text_page.get_text_range()).replace("\ufffe", "-").replace("\x02", "-")
        finally:
            text_page.close()
    finally:
        page.close()
