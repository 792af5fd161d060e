"""Intents of messages, learnt from labelled examples: see `label_classifier`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.judgement import label_classifier

UNKNOWN: Final = "unknown"
EXAMPLES: Final = Path(__file__).with_name("intents.yaml")
# Least similarity: chosen on the marked sentences of tests/unit/judgement/test_intents.py.
_SIMILARITY_MIN: Final = 0.24
_PART_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent by name, or `unknown`; `similarity` is near 1 at an example, not a probability."""

    name: str
    similarity: float


def intent_of(text: str) -> Intent:
    """The intent of one text."""
    return intents_of([text])[0]


def intents_of(texts: Sequence[str]) -> list[Intent]:
    """The intents of texts, in their order.

    Of a long text the first and the last line are read, each by itself: what is wanted stands
    before or after what it is about.
    """
    parts = [(at, part) for at, text in enumerate(texts) for part in _parts(text)]
    found = [Intent(UNKNOWN, 0.0)] * len(texts)
    if not parts:
        return found
    known = label_classifier.trained(EXAMPLES)
    rows = known.similarities(label_classifier.embedded([part for _, part in parts]))
    for (at, _), row in zip(parts, rows, strict=True):
        best = int(row.argmax())
        if row[best] > found[at].similarity:
            name = known.names[best] if row[best] >= _SIMILARITY_MIN else UNKNOWN
            found[at] = Intent(name, float(row[best]))
    return found


def names() -> list[str]:
    """The names of all intents, without `unknown`."""
    return list(label_classifier.trained(EXAMPLES).names)


def _parts(text: str) -> list[str]:
    text = text.strip()
    if not text:
        return []
    if len(text) <= 2 * _PART_CHARS:
        return [text]
    lines = text.splitlines()
    return [lines[0][:_PART_CHARS], lines[-1][-_PART_CHARS:]]
