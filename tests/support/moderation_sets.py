"""What moderation is measured with: labelled abuse, sentences with difficult words, clean texts."""

import ast
import re
import sysconfig
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser

from tests.support.source_code import ROOT

PASSAGE_CHARS = 1_500
# Their examples are meant to be found; ours are those of the README.
# The last two show a URL with a password in it, and a token.
_ABOUT_ABUSE = {
    *("ailydian-workers", "alt-profanity-check", "vaderSentiment"),
    *("pyrate-limiter", "joserfc"),
}
_DEMO = ROOT / "producers/demo/documents"


@dataclass(frozen=True)
class Labelled:
    """A sentence of tests/data/abusive.txt; `part` is `tuned` or `held`."""

    part: str
    language: str
    category: str
    text: str


def labelled(part):
    """The labelled sentences of one part."""
    lines = [line for line in _lines(ROOT / "tests/data/abusive.txt") if line.startswith(part)]
    split = (line.split(" | ", 1) for line in lines)
    return [Labelled(*head.split(" ", 2), text) for head, text in split]


def difficult(section):
    """The sentences of one section of tests/data/clean.txt, `clean` or `flagged`."""
    found, here = [], ""
    for line in _lines(ROOT / "tests/data/clean.txt"):
        if line.startswith("["):
            here = line.strip("[]")
        elif here == section:
            found.append(line)
    return found


def clean_english():
    """What stands on every machine: the library's docstrings, the packages' own descriptions."""
    library = Path(sysconfig.get_path("stdlib"))
    modules = sorted([*library.glob("*.py"), *library.glob("[a-z]*/__init__.py")])
    # Some of its tests are there to hold nonsense.
    texts = [_docstring(path) for path in modules if "test" not in path.parts]
    texts += [one.metadata.get_payload() for one in distributions() if one.name not in _ABOUT_ABUSE]
    return [passage for text in texts for passage in _passages(str(text))]


def clean_turkish():
    """The Turkish documents that `ailydian demo` ingests."""
    files = [path for path in sorted(_DEMO.iterdir()) if ".tr." in path.name]
    texts = [(_DEMO / "toplanti-notlari.txt").read_text("utf-8")]
    for path in files:
        text = path.read_text("utf-8")
        if path.suffix == ".html":
            body = LexborHTMLParser(text).body
            assert body
            text = body.text(separator=" ")
        texts.append(text)
    return [passage for text in texts for passage in _passages(text, chars=300)]


def _lines(path):
    lines = path.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _docstring(path):
    return ast.get_docstring(ast.parse(path.read_bytes())) or ""


def _passages(text, *, chars=PASSAGE_CHARS):
    text = re.sub(r"\s+", " ", text)
    parts = (text[start : start + chars] for start in range(0, len(text), chars))
    return [part for part in parts if len(part) >= 100]
