r"""Text of strangers on a terminal: control characters are printed as `\u001b`, never sent.

A document's name, a comment or a tenant may hold sequences that clear the screen, rename the window
or turn lines around. All that commands print goes through these streams, errors and usage too; the
escape is also JSON's own, so that a document of `--json` stays one.
"""

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from shared.observability import log_files

# C0 but tab and line feed, DEL, C1, and what changes the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# A byte that is not UTF-8, as Python reads arguments and the names of files.
_BYTES = re.compile("[\udc80-\udcff]")


def visible(text: str) -> str:
    """The text with its control characters escaped; line feeds and tabs stay."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def bytes_escaped(text: str) -> str:
    r"""A file's name or an argument, with each byte that is not UTF-8 escaped, such as `\xe7`."""
    return _BYTES.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)


class _Visible(io.TextIOWrapper):
    unescaped: TextIO

    def write(self, text: str) -> int:
        return super().write(visible(text))

    def close(self) -> None:
        """Flush: the stream below is not ours to close, and exporters write until the very end."""
        with contextlib.suppress(OSError, ValueError):  # the reader has left, or it is closed
            self.flush()


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Let stdout and stderr escape control characters while the block runs."""
    before = sys.stdout, sys.stderr
    # A closed pipe ends a command whose result it was to carry; what stderr cannot take is dropped.
    log_files.keep_descriptors()
    sys.stdout, sys.stderr = _wrapped(sys.stdout), _wrapped(log_files.guarded(sys.stderr))
    mine = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in mine:
            if isinstance(stream, _Visible):
                stream.close()


def _wrapped(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # closed, or somebody's own: not a terminal
    stream.flush()
    # ASCII would be taken for a mistake, and its buffer written to directly.
    plain = stream.encoding.lower() in {"ascii", "us-ascii", "ansi_x3.4-1968"}
    wrapped = _Visible(
        stream.buffer,
        encoding="utf-8" if plain else stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    wrapped.unescaped = stream
    return wrapped


def unescaped(stream: TextIO) -> TextIO:
    """The stream below: for what draws on a terminal and prints nothing of strangers."""
    found: TextIO = getattr(stream, "unescaped", stream)
    return found
