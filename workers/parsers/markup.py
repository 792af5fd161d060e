"""HTML to Markdown: the main content with its headings, lists, tables and code."""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from shared.errors import DocumentRefused
from workers.parsers.encoding import decode
from workers.parsers.markdown import Markdown
from workers.parsers.model import Gauge, KindName, Parsed, ParserLimits

_DROPPED = [
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "math",
    "iframe",
    "object",
    "select",
    "button",
    "head",
]
_FURNITURE = frozenset({"nav", "footer", "aside"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend",
    "li", "main", "ol", "p", "section", "summary", "table", "tbody", "td", "tfoot", "th",
    "thead", "tr", "ul",
})
# fmt: on
# Elements that close themselves or each other, so that an open one does not nest.
_FLAT = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li td tr th dt dd "
    b"option optgroup thead tbody tfoot colgroup".split()
)
_TAG = re.compile(rb"<(/?)([a-z][a-z0-9:-]{0,40})|<!--", re.IGNORECASE)
_RAW = frozenset({b"script", b"style", b"textarea", b"title", b"xmp", b"svg", b"math"})
_SPACE = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)


def parse_html(data: bytes, limits: ParserLimits, *, lossy: bool) -> Parsed:
    """An HTML page as Markdown.

    Raises:
        DocumentRefused: `too_large`, `bad_encoding`, `nesting_limit`, `output_limit`.
    """
    if len(data) > limits.text_bytes_max:
        raise DocumentRefused("too_large", f"A page must be at most {limits.text_bytes_max} bytes.")
    html, encoding = decode(data, declared=declared_charset(data), lossy=lossy)
    out = html_to_markdown(html, limits)
    return Parsed(out.text(), KindName("html"), "markdown", title=out.title, encoding=encoding)


def declared_charset(data: bytes) -> str | None:
    """The charset an HTML page claims in its first 2,048 bytes."""
    match = _CHARSET.search(data[:2048])
    return match[1].decode("ascii", "ignore") if match else None


def refuse_deep_nesting(html: str, limits: ParserLimits) -> None:
    """Refuse a page before the parser sees it: 120,000 open divs cost lexbor 30 CPU seconds.

    Raises:
        DocumentRefused: `nesting_limit`.
    """
    page = html.encode("utf-8", "replace").lower()
    if page.count(b"<") <= limits.nesting_max:
        return
    depth = position = 0
    while match := _TAG.search(page, position):
        position = match.end()
        closing, name = match.groups()
        if name is None or (name in _RAW and not closing):
            position = page.find(b"-->" if name is None else b"</" + name, position)
            if position < 0:
                return
        elif name not in _FLAT:
            depth = max(0, depth - 1) if closing else depth + 1
            if depth > limits.nesting_max:
                raise DocumentRefused("nesting_limit", "Its elements nest too deeply.")


def html_to_markdown(html: str, limits: ParserLimits, out: Markdown | None = None) -> Markdown:
    """Append a page's main content to `out`, or to a new writer.

    Args:
        html: The page, decoded.
        limits: Nesting and output it may reach.
        out: Where to go on writing, for books and mails.

    Returns:
        The writer; its title is the page's `<title>`, else its first heading.

    Raises:
        DocumentRefused: `nesting_limit`, `output_limit`.
    """
    html = html.replace("\0", "")
    refuse_deep_nesting(html, limits)
    out = out or Markdown(limits)
    tree = LexborHTMLParser(html)
    named = tree.css_first("head > title")
    if named is not None and not out.title:
        out.title = _SPACE.sub(" ", named.text()).strip() or None
    tree.strip_tags(_DROPPED)
    root = tree.css_first("main, [role=main]") or tree.body
    if root is not None:
        _Walk(out, limits).run(root)
    return out


class _Walk:
    """Goes through the tree without recursion and writes a block whenever one ends."""

    def __init__(self, out: Markdown, limits: ParserLimits) -> None:
        self._out = out
        self._gauge = Gauge(limits)
        self._line: list[str] = []
        self._heading = 0
        self._lists: list[int | None] = []
        self._item = False

    def run(self, root: LexborNode) -> None:
        top = root.mem_id
        node = root.child
        while node is not None:
            following = node.child if self._enter(node) else None
            if following is None:
                self._leave(node)
                following = node.next
            while following is None:
                node = node.parent
                if node is None or node.mem_id == top:
                    self._flush()
                    return
                self._leave(node)
                following = node.next
            node = following

    def _enter(self, node: LexborNode) -> bool:
        """Enter a node. Returns whether to visit its children."""
        tag = node.tag
        if tag == "-text":
            self._line.append(self._gauge.add(node.text_content or ""))
            return False
        if tag is None or tag in _FURNITURE or tag.startswith(("-", "!")):
            return False
        if tag == "header" and node.css_first("h1, h2") is None:
            return False
        if tag == "br":
            self._line.append("\0")
        elif tag in _HEADINGS:
            self._flush()
            self._heading = _HEADINGS[tag]
        elif tag == "pre":
            self._flush()
            self._out.code(node.text())
            return False
        elif tag == "table":
            self._flush()
            return not self._table(node)
        elif tag in _BLOCKS:
            self._block(tag)
        return True

    def _block(self, tag: str) -> None:
        self._flush()
        if tag in {"ul", "ol"}:
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._item = True
            if self._lists and self._lists[-1] is not None:
                self._lists[-1] += 1

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag
        if tag in _HEADINGS or tag in _BLOCKS:
            self._flush()
            if tag in {"ul", "ol"} and self._lists:
                self._lists.pop()
            elif tag == "li":
                self._item = False

    def _flush(self) -> None:
        if not self._line:
            return
        # NUL, which no parsed page holds, stands for <br> until the white space is collapsed.
        lines = _SPACE.sub(" ", "".join(self._line)).split("\0")
        text = "\n".join(line.strip() for line in lines).strip()
        self._line = []
        if not text:
            return
        if self._heading:
            self._out.heading(self._heading, text)
        elif self._item:
            number = self._lists[-1] if self._lists else None
            self._out.item(text, level=max(0, len(self._lists) - 1), number=number)
            self._item = False
        else:
            self._out.paragraph(text)
        self._heading = 0

    def _table(self, node: LexborNode) -> bool:
        """Write a table of cells; a layout table (nested, or of one column) is walked instead."""
        if node.css_first("table table, table h1, table h2, table pre, table ul") is not None:
            return False
        rows = [
            [_SPACE.sub(" ", cell.text(separator=" ")).strip() for cell in row.css("td, th")]
            for row in node.css("tr")
        ]
        if max(map(len, rows), default=0) <= 1:
            return False
        caption = node.css_first("caption")
        if caption is not None:
            self._out.paragraph(_SPACE.sub(" ", caption.text()))
        self._out.table(rows)
        return True
