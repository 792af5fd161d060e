"""Rich text through striprtf, behind a check of its groups."""

import re

from striprtf.striprtf import rtf_to_text

from shared.errors import DocumentRefused
from workers.parsers.model import KindName, Parsed, ParserLimits

_BRACE = re.compile(r"\\.|([{}])", re.DOTALL)
_CODE_PAGE = re.compile(r"\\ansicpg(\d{3,5})")
_TITLE = re.compile(r"\{\\title ([^{}\\]{1,300})\}")


def parse_rtf(data: bytes, limits: ParserLimits) -> Parsed:
    """An rtf as plain text. Embedded objects, fields and remote templates stay shut.

    Raises:
        DocumentRefused: `corrupt_rtf` if its groups do not close, `nesting_limit`.
    """
    # RTF is ASCII by definition; a stray high byte means its code page.
    source = data.decode("latin-1")
    _check_groups(source, limits)
    page = _CODE_PAGE.search(source[:4096])
    encoding = f"cp{page[1]}" if page else "cp1252"
    source = data.decode(encoding if _known(encoding) else "cp1252", "replace")
    text = str(rtf_to_text(source, encoding=encoding, errors="replace"))  # type: ignore[no-untyped-call]
    title = _TITLE.search(source[:65536])
    return Parsed(text, KindName("rtf"), "plain", title=title[1] if title else None)


def _check_groups(source: str, limits: ParserLimits) -> None:
    depth = 0
    for match in _BRACE.finditer(source):
        if match[1] == "{":
            depth += 1
            if depth > limits.nesting_max:
                raise DocumentRefused("nesting_limit", "Its groups nest too deeply.")
        elif match[1]:
            depth -= 1
            if depth <= 0:
                return
    raise DocumentRefused("corrupt_rtf", "It ends in the middle of a group.")


def _known(encoding: str) -> bool:
    try:
        "".encode(encoding)
    except LookupError:
        return False
    return True
