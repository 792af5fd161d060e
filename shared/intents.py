"""What a person wants of an assistant, told from labelled examples: see `shared.likeness`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared import likeness

UNKNOWN: Final = "unknown"
EXAMPLES: Final = "intents.yaml"
# Least likeness: chosen on the sentences of tests/unit/test_intents.py that are marked so.
_LIKENESS_MIN: Final = 0.24
_PART_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent by name, or `unknown`; `likeness` is near 1 at an example, no probability."""

    name: str
    likeness: float


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
    known = likeness.learnt(EXAMPLES)
    rows = known.likeness(likeness.embedded([part for _, part in parts]))
    for (at, _), row in zip(parts, rows, strict=True):
        best = int(row.argmax())
        if row[best] > found[at].likeness:
            name = known.names[best] if row[best] >= _LIKENESS_MIN else UNKNOWN
            found[at] = Intent(name, float(row[best]))
    return found


def names() -> list[str]:
    """The intents there are, without `unknown`."""
    return list(likeness.learnt(EXAMPLES).names)


def _parts(text: str) -> list[str]:
    text = text.strip()
    if not text:
        return []
    if len(text) <= 2 * _PART_CHARS:
        return [text]
    lines = text.splitlines()
    return [lines[0][:_PART_CHARS], lines[-1][-_PART_CHARS:]]
