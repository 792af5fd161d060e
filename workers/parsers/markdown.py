"""A writer of Markdown blocks that every structured format shares."""

from collections.abc import Iterable, Sequence

from workers.parsers.model import Gauge, ParserLimits

_LEVEL_MAX = 6


class Markdown:
    """Collects blocks; blank lines part them, except between the items of a list."""

    def __init__(self, limits: ParserLimits) -> None:
        self._gauge = Gauge(limits)
        self._parts: list[str] = []
        self._last = ""
        self.title: str | None = None

    def heading(self, level: int, text: str) -> None:
        """Add a heading; the first one is the title unless the document names another."""
        line = " ".join(text.split())
        if line:
            self.title = self.title or line
            self._add("heading", f"{'#' * min(max(level, 1), _LEVEL_MAX)} {line}")

    def paragraph(self, text: str) -> None:
        """Add running text; it may have several lines."""
        if text := text.strip():
            self._add("paragraph", text)

    def item(self, text: str, *, level: int = 0, number: int | None = None) -> None:
        """Add an item of a list; `number` makes it an ordered one, `level` counts from 0."""
        if text := text.strip():
            indent = "    " * min(level, 8)
            sign = "-" if number is None else f"{number}."
            self._add("item", f"{indent}{sign} " + text.replace("\n", f"\n{indent}  "))

    def quote(self, text: str) -> None:
        """Add a quotation, such as a speaker's note."""
        if text := text.strip():
            self._add("quote", "> " + text.replace("\n", "\n> "))

    def code(self, text: str) -> None:
        """Add preformatted text between fences longer than any inside it."""
        if not text.strip():
            return
        fence = "```"
        while fence in text:
            fence += "`"
        self._add("code", f"{fence}\n{text.strip(chr(10))}\n{fence}")

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Add a pipe table whose first row is its head; rows without text are left out."""
        kept = [trimmed for row in rows if (trimmed := self._cells(row))]
        width = max(map(len, kept), default=0)
        if width == 0:
            return
        # Only the head is filled up: short rows are valid, and a sheet may be wide and sparse.
        head = kept[0] + [""] * (width - len(kept[0]))
        lines = [_line(head), _line(["---"] * width), *map(_line, kept[1:])]
        self._parts.append(("\n\n" if self._parts else "") + "\n".join(lines))
        self._last = "table"

    def text(self) -> str:
        """Everything so far."""
        return "".join(self._parts)

    def _cells(self, row: Sequence[str]) -> list[str]:
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        for cell in cells:
            self._gauge.add(cell)
        return cells

    def _add(self, block: str, text: str) -> None:
        joint = "\n" if block == self._last == "item" else "\n\n"
        self._parts.append(self._gauge.add((joint if self._parts else "") + text))
        self._last = block


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
