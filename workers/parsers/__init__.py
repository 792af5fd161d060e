"""Parsers: bytes to text. All defence against hostile documents lives in this package.

`parse` reads any kind in the calling process. Workers call `workers.sandbox` instead, which
sends the kinds that need a library of size to a child it can kill.
"""

# Libraries load only when a kind first needs them, so that a child starts at once.
# ruff: noqa: PLC0415

from shared.errors import DocumentRefused
from workers.parsers.clean import clean
from workers.parsers.model import DocumentKind, KindName, Parsed, ParserLimits
from workers.parsers.sniff import sniff

__all__ = ["DocumentKind", "KindName", "Parsed", "ParserLimits", "parse", "sniff"]


def parse(
    data: bytes, *, name: str | None = None, lossy: bool = False, limits: ParserLimits | None = None
) -> Parsed:
    """Read a document in this process, without a time or memory limit.

    Args:
        data: The document, at most `limits.input_bytes_max` bytes.
        name: Its file name, a weak hint.
        lossy: Accept a text whose encoding is uncertain, with U+FFFD for what is lost.
        limits: Its resource limits; the defaults when left out.

    Returns:
        Its text and what is known about it.

    Raises:
        DocumentRefused: With one of the reasons: `empty_document`, `no_text`, `too_large`,
            `type_mismatch`, `unsupported_type`, `bad_encoding`, `encrypted_document`,
            `corrupt_archive`, `corrupt_<kind>`, `decompression_limit`, `forbidden_xml`,
            `too_many_pages`, `nesting_limit`, `output_limit`, `memory_limit`.
    """
    limits = limits or ParserLimits()
    if len(data) > limits.input_bytes_max:
        raise DocumentRefused("too_large", f"It has more than {limits.input_bytes_max} bytes.")
    kind = sniff(data, name)
    try:
        return clean(_parse(data, kind.name, limits, lossy=lossy), limits)
    except RecursionError:
        raise DocumentRefused("nesting_limit", "Its parts nest too deeply.") from None
    except MemoryError:
        raise DocumentRefused("memory_limit", "It needs more memory than allowed.") from None
    except DocumentRefused:
        raise
    except Exception as error:
        if not kind.needs_child:
            raise
        # Parsers of foreign formats raise any exception. Only its name is reported, because its
        # message may quote the document.
        reason = f"corrupt_{kind.name}"
        raise DocumentRefused(reason, f"It cannot be read ({type(error).__name__}).") from None


def _parse(data: bytes, kind: KindName, limits: ParserLimits, *, lossy: bool) -> Parsed:
    """Call the kind's own parser."""
    if kind == "archive":
        return _parse_archive(data, limits)
    if kind == "pdf":
        from workers.parsers.pdf import parse_pdf

        return parse_pdf(data, limits)
    if kind == "rtf":
        from workers.parsers.rtf import parse_rtf

        return parse_rtf(data, limits)
    if kind == "eml":
        from workers.parsers.mail import parse_mail

        return parse_mail(data, limits)
    if kind == "html":
        from workers.parsers.markup import parse_html

        return parse_html(data, limits, lossy=lossy)
    from workers.parsers.plain import parse_plain

    return parse_plain(data, kind, limits, lossy=lossy)


def _parse_archive(data: bytes, limits: ParserLimits) -> Parsed:
    from workers.parsers.archive import open_archive
    from workers.parsers.package import kind_of

    archive = open_archive(data, limits)
    kind = kind_of(archive)
    if kind == "docx":
        from workers.parsers.docx import parse_docx

        return parse_docx(archive, limits)
    if kind == "pptx":
        from workers.parsers.pptx import parse_pptx

        return parse_pptx(archive, limits)
    if kind == "xlsx":
        from workers.parsers.xlsx import parse_xlsx

        return parse_xlsx(data, archive, limits)
    from workers.parsers.epub import parse_epub

    return parse_epub(archive, limits)
