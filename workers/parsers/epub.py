"""Books: the chapters in the order of the spine, each read as HTML."""

import posixpath
from urllib.parse import unquote

from shared.errors import DocumentRefused
from workers.parsers.archive import Archive
from workers.parsers.encoding import decode
from workers.parsers.markdown import Markdown
from workers.parsers.markup import html_to_markdown
from workers.parsers.model import KindName, Parsed, ParserLimits
from workers.parsers.safe_xml import attribute, parse_xml

# Scrambled fonts are common in free books; any other encryption means the text is locked.
_FONT_SCRAMBLERS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def parse_epub(archive: Archive, limits: ParserLimits) -> Parsed:
    """An epub as Markdown.

    Raises:
        DocumentRefused: `corrupt_epub`, `encrypted_document`, `nesting_limit`, `output_limit`.
    """
    _refuse_locked(archive)
    container = parse_xml(archive.part("META-INF/container.xml"), "epub")
    pointer = next(container.iter("{*}rootfile"), None)
    path = "" if pointer is None else attribute(pointer, "full-path") or ""
    package = parse_xml(archive.part(path), "epub")
    hrefs = {attribute(item, "id"): attribute(item, "href") for item in package.iter("{*}item")}
    out = Markdown(limits)
    named = next(package.iter("{*}title"), None)
    out.title = None if named is None else named.text
    for reference in package.iter("{*}itemref"):
        href = unquote(hrefs.get(attribute(reference, "idref")) or "").partition("#")[0]
        chapter = archive.part(posixpath.normpath(posixpath.join(posixpath.dirname(path), href)))
        if chapter:
            html_to_markdown(decode(chapter, lossy=True)[0], limits, out)
    return Parsed(out.text(), KindName("epub"), "markdown", title=out.title)


def _refuse_locked(archive: Archive) -> None:
    content = archive.part("META-INF/encryption.xml")
    if not content:
        return
    for method in parse_xml(content, "epub").iter("{*}EncryptionMethod"):
        if attribute(method, "Algorithm") not in _FONT_SCRAMBLERS:
            raise DocumentRefused("encrypted_document", "Its text is locked by a licence scheme.")
