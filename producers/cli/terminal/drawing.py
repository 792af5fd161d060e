"""The console of bars and live pages: colours of ours, and no control character of a stranger."""

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from producers.cli.terminal.visible import unescaped, visible


class _VisibleConsole(Console):
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def console(stream: TextIO) -> Console:
    """A console on stdout or stderr; imported late, because it is slow and for terminals only."""
    return _VisibleConsole(file=unescaped(stream), highlight=False)
