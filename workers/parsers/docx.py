"""Word: headings, lists, tables and text in document order, straight from the XML.

python-docx reads only the runs directly inside a paragraph, so it loses tracked insertions,
content controls and text boxes; walking the tree keeps them and costs a third of the CPU.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree  # type: ignore[import-untyped]

from workers.parsers.archive import Archive
from workers.parsers.markdown import Markdown
from workers.parsers.model import KindName, Parsed, ParserLimits
from workers.parsers.package import main_part, package_title, relations
from workers.parsers.safe_xml import attribute, child, local, parse_xml

_HEADING = re.compile(r"heading\s*(\d)", re.IGNORECASE)
_CODE = re.compile(r"code|source|preformatted|html pre", re.IGNORECASE)
# Duplicates of text (a fallback drawing), and deleted text.
_SKIPPED = ("{*}Fallback", "{*}moveFrom", "{*}del", "{*}rPrChange", "{*}pPrChange")
_TEXT_TAGS = ("{*}t", "{*}tab", "{*}br", "{*}cr", "{*}noBreakHyphen", "{*}p")
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "p": "\n"}
_BODY_LEVEL = 9


@dataclass
class _Style:
    """The structure that a paragraph style implies."""

    heading: int = 0
    list_number: tuple[str, int] | None = None
    code: bool = False


@dataclass
class _Styles:
    """The styles by id, and the list formats by (number id, level): `bullet` or another."""

    elements: dict[str, etree._Element] = field(default_factory=dict)
    read: dict[str, _Style] = field(default_factory=dict)
    formats: dict[tuple[str, int], str] = field(default_factory=dict)

    def style(self, style_id: str) -> _Style:
        """A style by its id; files define some two hundred and use a few, so these are read."""
        if style_id not in self.read:
            element = self.elements.get(style_id)
            self.read[style_id] = _Style() if element is None else _read_style(element)
        return self.read[style_id]


def parse_docx(archive: Archive, limits: ParserLimits) -> Parsed:
    """A docx as Markdown.

    Raises:
        DocumentRefused: `corrupt_docx`, `output_limit`.
    """
    main = main_part(archive)
    root = parse_xml(archive.part(main), "docx")
    targets = {kind: target for kind, target, _ in relations(archive, main)}
    styles = _read_styles(archive, targets)
    out = _Writer(styles, limits)
    body = child(root, "body")
    if body is not None:
        out.blocks(body)
    for kind in ("footnotes", "endnotes"):
        if archive.part(targets.get(kind, "")):
            for note in parse_xml(archive.part(targets[kind]), "docx"):
                out.blocks(note)
    out.flush_code()
    title = package_title(archive) or out.markdown.title
    return Parsed(out.markdown.text(), KindName("docx"), "markdown", title=title)


class _Writer:
    """Walks the blocks of a body, a content control or a note."""

    def __init__(self, styles: _Styles, limits: ParserLimits) -> None:
        self.markdown = Markdown(limits)
        self._styles = styles
        self._code: list[str] = []

    def blocks(self, parent: etree._Element) -> None:
        etree.strip_elements(parent, *_SKIPPED, with_tail=False)
        for block in _block_elements(parent):
            if local(block) == "p":
                self._paragraph(block)
            else:
                self.flush_code()
                self.markdown.table(_rows(block))

    def flush_code(self) -> None:
        if self._code:
            self.markdown.code("\n".join(self._code))
            self._code = []

    def _paragraph(self, element: etree._Element) -> None:
        text = paragraph_text(element)
        properties = child(element, "pPr")
        style = self._style(properties)
        if style.code:
            self._code.append(text)
            return
        self.flush_code()
        numbering = _numbering(properties) or style.list_number
        if style.heading:
            self.markdown.heading(style.heading, text)
        elif numbering and numbering[0] != "0":
            bullet = self._styles.formats.get(numbering, "bullet") in {"bullet", "none"}
            self.markdown.item(text, level=numbering[1], number=None if bullet else 1)
        else:
            self.markdown.paragraph(text)

    def _style(self, properties: etree._Element | None) -> _Style:
        if properties is None:
            return _Style()
        name = child(properties, "pStyle")
        style_id = "" if name is None else attribute(name, "val") or ""
        style = self._styles.style(style_id)
        outline = _outline(properties)
        return _Style(outline, None, code=False) if outline else style


def paragraph_text(element: etree._Element) -> str:
    """The text of a paragraph or a cell; tabs and breaks kept, inner paragraphs on new lines."""
    pieces = []
    for node in element.iter(*_TEXT_TAGS):
        name = local(node)
        if name == "t":
            pieces.append(node.text or "")
        elif node is not element and local(node.getparent()) != "tabs":
            pieces.append(_SIGNS[name])
    return "".join(pieces).strip()


def _block_elements(parent: etree._Element) -> Iterator[etree._Element]:
    """Paragraphs and tables in order, through controls and markers that only wrap them."""
    for element in parent:
        name = local(element)
        if name in {"p", "tbl"}:
            yield element
        elif name in {"sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"}:
            yield from _block_elements(element)


def _rows(table: etree._Element) -> Iterator[list[str]]:
    """The rows of a table; a table inside a cell becomes text of that cell."""
    for row in table.iter("{*}tr"):
        if next(row.iterancestors("{*}tbl"), None) is table:
            yield [paragraph_text(cell) for cell in _cells(row)]


def _cells(row: etree._Element) -> Iterator[etree._Element]:
    for element in row:
        if local(element) == "tc":
            yield element
        elif local(element) in {"sdt", "sdtContent", "customXml", "ins"}:
            yield from _cells(element)


def _read_styles(archive: Archive, targets: dict[str, str]) -> _Styles:
    styles = _Styles()
    if content := archive.part(targets.get("styles", "")):
        for element in parse_xml(content, "docx").iter("{*}style"):
            styles.elements[attribute(element, "styleId") or ""] = element
    if content := archive.part(targets.get("numbering", "")):
        _read_formats(parse_xml(content, "docx"), styles.formats)
    return styles


def _read_style(element: etree._Element) -> _Style:
    named = child(element, "name")
    name = "" if named is None else attribute(named, "val") or ""
    match = _HEADING.match(name)
    heading = int(match[1]) if match else 1 if name.lower() == "title" else 0
    properties = child(element, "pPr")
    if properties is not None and not heading:
        heading = _outline(properties)
    return _Style(heading, _numbering(properties), code=_CODE.search(name) is not None)


def _outline(properties: etree._Element) -> int:
    level = child(properties, "outlineLvl")
    value = None if level is None else _integer(attribute(level, "val"))
    return 0 if value is None or value >= _BODY_LEVEL else value + 1


def _numbering(properties: etree._Element | None) -> tuple[str, int] | None:
    if properties is None:
        return None
    number = child(properties, "numPr", "numId")
    level = child(properties, "numPr", "ilvl")
    if number is None:
        return None
    depth = 0 if level is None else _integer(attribute(level, "val")) or 0
    return attribute(number, "val") or "0", max(0, depth)


def _read_formats(root: etree._Element, formats: dict[tuple[str, int], str]) -> None:
    abstract = {
        attribute(element, "abstractNumId"): element for element in root.iter("{*}abstractNum")
    }
    for number in root.iter("{*}num"):
        pointer = child(number, "abstractNumId")
        target = None if pointer is None else abstract.get(attribute(pointer, "val"))
        for level in [] if target is None else target.iter("{*}lvl"):
            shape = child(level, "numFmt")
            depth = _integer(attribute(level, "ilvl")) or 0
            formats[attribute(number, "numId") or "", depth] = (
                "bullet" if shape is None else attribute(shape, "val") or "bullet"
            )


def _integer(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None
