"""Progress bars on a terminal; nothing in a pipe."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Advance = Callable[[], None]


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Advance]:
    """Show a progress bar on stderr if that is a terminal.

    Args:
        total: Number of items.
        what: Label, such as `Ingesting`.

    Yields:
        A function to call when an item is done.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415

    from producers.cli.terminal import drawing  # noqa: PLC0415 - as rich

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=drawing.console(sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
