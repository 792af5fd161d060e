"""Phrases that should not pass, in Turkish and English, over words without their disguises.

A pattern is matched to the words of a text, folded and one space apart, and only where a word
begins as one of its triggers does: most texts meet no pattern at all. The score is how sure the
rule is; only what is said in earnest to somebody, or has no clean use, reaches 0.9.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Final, NamedTuple

from workers.domain.judgement.moderation.folding import FoldedWord

_PREFIX: Final = 3
_SENTENCE_END: Final = re.compile(r"[.!?;:…]\S{0,3}\s")
_FILE: Final = Path(__file__).with_suffix(".txt")


class PhraseMatch(NamedTuple):
    """A phrase found, with its place in the visible text."""

    category: str
    score: float
    start: int
    end: int


class _Rule(NamedTuple):
    scores: tuple[tuple[str, float], ...]
    pattern: re.Pattern[str]


def phrases_in(found: list[FoldedWord], text: str) -> Iterator[PhraseMatch]:
    """Find phrases in a text that should not pass.

    Args:
        found: As `folding.words` gave them.
        text: The visible text that they came from; nothing is said across the end of a sentence.
    """
    due = {
        rule
        for word in found
        for trigger, rules in _BY_PREFIX.get(word.plain[:_PREFIX], ())
        if word.plain.startswith(trigger)
        for rule in rules
    }
    if not due:
        return
    ends = (text[one.end : other.start] for one, other in pairwise(found))
    gaps = [" . " if _SENTENCE_END.search(between) else " " for between in ends]
    pieces = [word.plain + gap for word, gap in zip(found, [*gaps, ""], strict=True)]
    line = "".join(pieces)
    starts = list(accumulate(map(len, pieces), initial=0))
    for number in sorted(due):
        rule = _COMPILED[number]
        for one in rule.pattern.finditer(line):
            first = found[bisect_right(starts, one.start()) - 1]
            last = found[bisect_right(starts, max(one.end() - 1, one.start())) - 1]
            for category, score in rule.scores:
                yield PhraseMatch(category, score, first.start, last.end)


def _read() -> tuple[list[_Rule], dict[str, list[tuple[str, list[int]]]]]:
    """The rules of the file, and by three letters the triggers that begin so with their rules."""
    names: dict[str, str] = {}
    rules: list[_Rule] = []
    by_trigger: dict[str, list[int]] = defaultdict(list)
    for line in _FILE.read_text("utf-8").splitlines():
        if line.startswith("{"):
            name, _, pattern = line.partition(" = ")
            names[name] = pattern
        elif line and not line.startswith("#"):
            scores, triggers, pattern = line.split(" | ", 2)
            for trigger in triggers.split():
                by_trigger[trigger].append(len(rules))
            rules.append(_Rule(_scores(scores), _compiled(pattern, names)))
    by_prefix: dict[str, list[tuple[str, list[int]]]] = defaultdict(list)
    for trigger, numbers in by_trigger.items():
        by_prefix[trigger[:_PREFIX]].append((trigger, numbers))
    return rules, dict(by_prefix)


def _scores(text: str) -> tuple[tuple[str, float], ...]:
    pairs = (part.rsplit(" ", 1) for part in text.split(", "))
    return tuple((category, float(score)) for category, score in pairs)


def _compiled(pattern: str, names: dict[str, str]) -> re.Pattern[str]:
    while braces := re.search(r"\{[a-z_]+\}", pattern):
        pattern = pattern.replace(braces[0], names[braces[0]])
    return re.compile(rf"\b(?:{pattern})")


_COMPILED, _BY_PREFIX = _read()
