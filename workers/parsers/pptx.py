"""PowerPoint: every slide's title, text and tables in the order of the show, then its notes."""

from lxml import etree  # type: ignore[import-untyped]

from workers.parsers.archive import Archive
from workers.parsers.markdown import Markdown
from workers.parsers.model import KindName, Parsed, ParserLimits
from workers.parsers.package import main_part, package_title, relations
from workers.parsers.safe_xml import attribute, child, local, parse_xml

_TITLES = {"title", "ctrTitle"}
# Furniture of a slide that says nothing about its subject.
_SKIPPED = {"sldNum", "dt", "ftr", "hdr", "sldImg"}


def parse_pptx(archive: Archive, limits: ParserLimits) -> Parsed:
    """A pptx as Markdown: a heading a slide, lists, pipe tables, notes as quotations.

    Raises:
        DocumentRefused: `corrupt_pptx`, `output_limit`.
    """
    main = main_part(archive)
    targets = {key: target for _, target, key in relations(archive, main)}
    show = child(parse_xml(archive.part(main), "pptx"), "sldIdLst")
    out = Markdown(limits)
    slides = [] if show is None else [_slide_part(entry, targets) for entry in show]
    for part in slides:
        if not archive.part(part):
            continue
        _shapes(parse_xml(archive.part(part), "pptx"), out)
        for kind, target, _ in relations(archive, part):
            if kind == "notesSlide" and archive.part(target):
                _notes(parse_xml(archive.part(target), "pptx"), out)
    title = package_title(archive) or out.title
    return Parsed(out.text(), KindName("pptx"), "markdown", title=title, pages=len(slides))


def _slide_part(entry: etree._Element, targets: dict[str, str]) -> str:
    # The entry has a numeric `id` of its own beside `r:id`, which is the relationship.
    keys = [str(value) for key, value in entry.attrib.items() if str(key).endswith("}id")]
    return targets.get(keys[0], "") if keys else ""


def _shapes(root: etree._Element, out: Markdown) -> None:
    etree.strip_elements(root, "{*}Fallback", with_tail=False)
    for shape in root.iter("{*}sp", "{*}tbl"):
        if local(shape) == "tbl":
            out.table([[_text(cell) for cell in row.iter("{*}tc")] for row in shape.iter("{*}tr")])
            continue
        role = _role(shape)
        if role in _SKIPPED:
            continue
        if role in _TITLES:
            out.heading(2, _text(shape))
            continue
        for paragraph in shape.iter("{*}p"):
            properties = child(paragraph, "pPr")
            level = "" if properties is None else attribute(properties, "lvl") or ""
            if role in {"body", "obj"}:
                out.item(_line(paragraph), level=int(level) if level.isdecimal() else 0)
            else:
                out.paragraph(_line(paragraph))


def _notes(root: etree._Element, out: Markdown) -> None:
    for shape in root.iter("{*}sp"):
        if _role(shape) == "body":
            out.quote(_text(shape))


def _role(shape: etree._Element) -> str:
    """The placeholder's type: a placeholder without one is the body, a plain shape is ""."""
    place = child(shape, "nvSpPr", "nvPr", "ph")
    return "" if place is None else attribute(place, "type") or "body"


def _text(element: etree._Element) -> str:
    return "\n".join(line for p in element.iter("{*}p") if (line := _line(p)))


def _line(paragraph: etree._Element) -> str:
    return "".join(
        (node.text or "") if local(node) == "t" else "\n"
        for node in paragraph.iter("{*}t", "{*}br")
    ).strip()
