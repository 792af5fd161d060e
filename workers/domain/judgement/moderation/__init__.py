"""Moderation by rules and a classifier: find content that should not pass.

Turkish and English. Words and phrases are looked for with their disguises undone, personal data
by check digits, secrets by form; a classifier for English, passed in, sees what no list names.
Scores are how sure a rule is, in OpenAI's categories and `pii`, `secret`, `prompt-injection`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from shared.text.language import reads_turkish
from workers.domain.judgement.moderation.folding import (
    FoldedWord,
    Visible,
    broken,
    folded,
    visible,
    words,
)
from workers.domain.judgement.moderation.personal import personal_data
from workers.domain.judgement.moderation.phrases import phrases_in
from workers.domain.judgement.moderation.secrets import secrets_in
from workers.domain.judgement.moderation.stems import abuses

ENGINE: Final = "local-rules-3+alt-profanity-check"
BLIND: Final = (
    "meaning and irony, images and sound, languages other than Turkish and English,"
    " abuse without listed words or phrases, who is quoted and who speaks"
)
WINDOW_CHARS: Final = 20_000
WINDOW_OVERLAP: Final = 400
CLASSIFIED_WORDS: Final = 100  # a window of the classifier; four fifths on, the next begins
CLASSIFIED_STEP: Final = 80
SPANS_MAX: Final = 200

# The classifier's probability as a score of harassment: (probability, score), straight between.
# Below 0.5 it says nothing. 0.7 is where no clean document was found, so it flags from there; it
# never blocks by itself: it takes "what the hell" for as bad as a threat.
_MAPPING: Final = ((0.5, 0.3), (0.7, 0.5), (1.0, 0.75))

English = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Span:
    """The place of a finding: code points [start, end) of the text, and its score."""

    category: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings in one text.

    Attributes:
        scores: By category in [0, 1]; a category without findings is absent.
        spans: The places, the surest first, at most `SPANS_MAX`.
        engine: Who judged.
        blind: What this engine cannot see.
    """

    scores: dict[str, float]
    spans: tuple[Span, ...]
    engine: str = ENGINE
    blind: str = BLIND


def judge_many(texts: Sequence[str], *, english: English) -> list[Findings]:
    """Judge texts of any length, by windows: a category's score is that of its worst window.

    Args:
        texts: Any Unicode.
        english: Gives each of some English texts a probability in [0, 1] that it is abusive;
            called once, with every window that is not Turkish.

    Returns:
        One per text, in order.
    """
    found: list[list[Span]] = [[] for _ in texts]
    owners: list[tuple[int, int, int]] = []
    windows: list[str] = []
    for number, text in enumerate(texts):
        for start, window in _windows(text):
            seen = visible(window)
            plain = folded(seen.text)
            read = words(plain)
            found[number] += _moved(_ruled(seen.text, plain, read), seen, start)
            for part in _classified(read, seen.text):
                begin, end = seen.span(part[0].start, part[-1].end)
                owners.append((number, start + begin, start + end))
                windows.append(" ".join(word.plain for word in part))
    if windows:
        for (number, begin, end), probability in zip(owners, english(windows), strict=True):
            if score := _mapped(probability):
                found[number].append(Span("harassment", begin, end, score))
    return [_findings(spans) for spans in found]


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """Yield the start and text of each window: they overlap, and end between words if possible."""
    start = 0
    while start + WINDOW_CHARS < len(text):
        end = _blank(text, start + WINDOW_CHARS)
        yield start, text[start:end]
        start = _blank(text, end - WINDOW_OVERLAP // 2)
    yield start, text[start:]


def _blank(text: str, end: int) -> int:
    """The last place before `end` where white space stands, within half an overlap."""
    begin = end - WINDOW_OVERLAP // 2
    found = max(text.rfind(sign, begin, end) for sign in (" ", "\n", "\t"))
    return end if found < 0 else found


def _ruled(text: str, plain: str, read: list[FoldedWord]) -> Iterator[tuple[str, float, int, int]]:
    """Yield the findings of the rules in a visible text: category, score, start, end."""
    yield from abuses(read, broken(plain), text)
    yield from phrases_in(read, text)
    yield from (("pii", *found) for found in personal_data(text))
    yield from (("secret", *found) for found in secrets_in(text))
    yield from (("prompt-injection", 0.75, *one.span()) for one in _MARKUP.finditer(text))


def _moved(
    found: Iterator[tuple[str, float, int, int]], seen: Visible, offset: int
) -> Iterator[Span]:
    for category, score, start, end in found:
        begin, stop = seen.span(start, end)
        yield Span(category, offset + begin, offset + stop, score)


def _classified(read: list[FoldedWord], text: str) -> Iterator[list[FoldedWord]]:
    """The windows that the classifier sees: whole words, not Turkish ones."""
    for start in range(0, max(len(read) - CLASSIFIED_WORDS + CLASSIFIED_STEP, 1), CLASSIFIED_STEP):
        part = read[start : start + CLASSIFIED_WORDS]
        plain = {word.plain for word in part}
        if part and not reads_turkish(plain, text[part[0].start : part[-1].end]):
            yield part


def _mapped(probability: float) -> float:
    """A probability as a score: 0 below the mapping, straight between its points."""
    for (low, from_), (high, to) in pairwise(_MAPPING):
        if low <= probability <= high:
            return round(from_ + (probability - low) / (high - low) * (to - from_), 4)
    return 0.0


def _findings(spans: list[Span]) -> Findings:
    scores: dict[str, float] = {}
    for span in spans:
        scores[span.category] = max(scores.get(span.category, 0.0), span.score)
    kept = sorted(set(spans), key=lambda span: (-span.score, span.start, span.end, span.category))
    return Findings(dict(sorted(scores.items())), tuple(kept[:SPANS_MAX]))


# What only the prompts of chat models are written in.
_MARKUP: Final = re.compile(r"<\|im_start\|>\s?(?:system|user|assistant)|\[INST\]\s?\w|<<SYS>>")
