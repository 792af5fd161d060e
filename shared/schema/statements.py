"""A script taken apart into its statements, so that each can be run and timed by itself."""

import re
from collections.abc import Iterator
from typing import Final

# What may hold a semicolon that ends nothing: a comment, a string, a quoted name, a dollar quote.
_PART: Final = re.compile(
    r"""--[^\n]* | '(?:[^']|'')*' | "[^"]*" | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ | (?P<end>;)""",
    re.DOTALL | re.VERBOSE,
)
_NOTHING: Final = re.compile(r"(?:\s|--[^\n]*(?:\n|$))*")


def split(script: str) -> Iterator[str]:
    """The statements of a script, each with the comments before it and without its semicolon."""
    begin = 0
    for part in _PART.finditer(script):
        if part["end"]:
            yield script[begin : part.start()].strip()
            begin = part.end()
    rest = script[begin:]
    if not _NOTHING.fullmatch(rest):
        yield rest.strip()
