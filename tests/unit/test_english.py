"""The words of this project are those that an operator would search for.

Earlier texts had an idiom of their own. These patterns find its commonest turns, in pages and in
the code's sentences; each has what to write in its place.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support import pages, source_code
from tests.support.source_code import ROOT

_USUAL = "more|longer|faster|slower|later|less|help"
# pattern: what to write
IDIOM = {
    r"(?<!\bthere )\b(?:is|are|was|were|be) no (?!(?:"
    rf"{_USUAL})\b)[a-zA-Z]": "is not a ..., invalid, is missing",
    r"\banew\b": "again; re-...",
    r"\bwhoever\b": "name them: the caller, the operator",
    r"\bfor who\b|\bof who\b|\bto who\b|\bby who\b": "for callers that, for people who",
    r"\bnobody of\b|\bnobody is named\b": "no user of",
    r"\bwhat is looked for\b": "the query",
    r"\bthere stands\b|\bstands there\b": "is",
    r"\bis right, \d": "is valid",
    r"\bof it all\b": "of all of it",
    r"\bso long as nobody\b": "until somebody",
}
_IDIOM = re.compile("|".join(f"(?:{pattern})" for pattern in IDIOM), re.IGNORECASE)
CODE = ("shared", "producers", "workers")


def found_in(text: str) -> list[str]:
    """The turns of the private idiom in a text."""
    plain = " ".join(text.split())
    return [plain[max(0, it.start() - 20) : it.end() + 20] for it in _IDIOM.finditer(plain)]


def sentences(path: str) -> Iterator[tuple[int, str]]:
    """Every text of a module that somebody reads: docstrings, messages, help."""
    for node in ast.walk(source_code.tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def idiom_of_code(*rooms: str) -> list[str]:
    """Where the code of some rooms speaks the private idiom."""
    return [
        f"{path}:{line}: {turn}"
        for path in source_code.files(*rooms)
        for line, text in sentences(path)
        for turn in found_in(text)
    ]


@pytest.mark.parametrize("page", pages.pages())
def test_pages_speak_the_words_of_the_field(page: str):
    prose = pages.fenced_out((ROOT / page).read_text())

    assert found_in(prose) == [], f"write instead: {IDIOM}"


def test_code_speaks_the_words_of_the_field():
    assert idiom_of_code(*CODE) == [], f"write instead: {IDIOM}"


@pytest.mark.parametrize(
    "text",
    [
        "The file is no UTF-8 text.",
        "Write the figures anew.",
        "Whoever takes it first has it.",
        "For who asks why.",
        "hello.yaml is right, 1 step.",
    ],
)
def test_the_idiom_is_found(text: str):
    assert found_in(text)


@pytest.mark.parametrize(
    "text",
    ["It is no longer there.", "A new job.", "There is no other way.", "It is no faster.", "Gone."],
)
def test_plain_words_are_left_alone(text: str):
    assert found_in(text) == []
