"""Passages of the demo's own documents and questions about them: the regression sets.

The Turkish and the English documents are parallel, section by section, so one topic
(`udhr#7`, `apache-logs#rotation`) names a passage in each language and one line of
`questions.jsonl` holds a Turkish and an English question about it. Asking either question of
either language's passages makes the sets. All are split by a hash of the topic: what is tuned
on `dev` is never seen in `check`, in neither language.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from selectolax.lexbor import LexborHTMLParser, LexborNode

from producers.demo import documents

Language = Literal["tr", "en"]
Split = Literal["dev", "check"]

LANGUAGES: Final[tuple[Language, Language]] = ("tr", "en")
PASSAGE_CHARS_MIN: Final = 50  # below it a section is a bare heading
QUESTIONS: Final = Path(__file__).with_name("questions.jsonl")


@dataclass(frozen=True, slots=True)
class Passage:
    """One document of an evaluation set."""

    id: str
    text: str
    language: Language


@dataclass(frozen=True, slots=True)
class Query:
    """One question and the ids of the passages that answer it."""

    id: str
    text: str
    language: Language
    relevant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Questions of one language asked of passages of one language."""

    name: str
    passages: list[Passage]
    queries: list[Query]


def regression_sets(split: Split) -> list[EvaluationSet]:
    """Return the four sets `<question language>_<passage language>` of one split.

    Args:
        split: `dev` to choose weights on, `check` to judge them by.

    Returns:
        Sets tr_tr, tr_en, en_tr and en_en. Passages of both splits are in every set, so the
        questions of a split compete with all text; only the questions are split.
    """
    lines = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    asked = [line for line in lines if split_of(line["topic"]) == split]
    sets = []
    for passage_language in LANGUAGES:
        passages = demo_passages(passage_language)
        for language in LANGUAGES:
            queries = [_query(line, language, passages) for line in asked]
            sets.append(EvaluationSet(f"{language}_{passage_language}", passages, queries))
    return sets


def split_of(topic: str) -> Split:
    """Return the split a topic belongs to; the same on every machine and for ever."""
    return "dev" if hashlib.sha256(topic.encode()).digest()[0] % 2 else "check"


def demo_passages(language: Language) -> list[Passage]:
    """Return the parallel documents of one language, cut at their headings."""
    passages: list[Passage] = []
    for path in documents():
        name, _, rest = path.name.partition(".")
        if rest == f"{language}.md":
            sections = _markdown_sections(path.read_text("utf-8"))
        elif rest == f"{language}.html":
            sections = _html_sections(path.read_text("utf-8"))
        else:
            continue
        passages += [
            Passage(f"{language}:{name}#{key}", text, language)
            for key, text in sections
            if len(text) >= PASSAGE_CHARS_MIN
        ]
    return passages


def _query(line: dict[str, str], language: Language, passages: list[Passage]) -> Query:
    """Pair a question with its passage and the parts (`rotation-logrotate`) of that passage."""
    topic = line["topic"]
    topics = [(passage.id.partition(":")[2], passage.id) for passage in passages]
    relevant = tuple(i for t, i in topics if t == topic or t.startswith(f"{topic}-"))
    return Query(f"{language}:{topic}", line[language], language, relevant)


def _markdown_sections(text: str) -> list[tuple[str, str]]:
    """Cut the Declaration into its preamble (0) and its articles (1 to 30)."""
    parts = text.split("\n## ")[1:]
    return [(str(number), part.strip()) for number, part in enumerate(parts)]


def _html_sections(text: str) -> list[tuple[str, str]]:
    """Cut a manual page at each h2 and h3 that has an anchor; the anchor is the key."""
    sections: list[tuple[str, str]] = []
    for section in LexborHTMLParser(text).css("div.section"):
        key, lines = "", list[str]()
        for node in section.iter():
            anchor = _anchor(node) if node.tag in {"h2", "h3"} else ""
            if anchor:
                sections.append((key, " ".join(lines)))
                key, lines = anchor, []
            lines.append(" ".join(node.text(separator=" ").replace("¶", "").split()))
        sections.append((key, " ".join(lines)))
    return sections


def _anchor(heading: LexborNode) -> str:
    anchor = heading if heading.id else heading.css_first("[id]")
    return str(anchor.id) if anchor else ""
