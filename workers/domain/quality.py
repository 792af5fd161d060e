"""Quality of an answer, estimated from its text, its question and the passages it rests on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WEIGHTS: Final = {"groundedness": 0.5, "relevance": 0.25, "variety": 0.15, "length": 0.1}
REFUSAL_FACTOR: Final = 0.4
SUPPORTED_AT: Final = 0.6
_SENTENCE: Final = re.compile(r"[^.!?\n]+")
_WORD: Final = re.compile(r"\w{3,}")
_FOLD: Final = str.maketrans("İIıçğöşü’", "iiicgosu'")
_REFUSALS: Final = re.compile(
    r"\b(i cannot|i can't|i am unable|as an ai|no answer)\b|yanit yok|cevap veremem|yardimci olamam"
)
_WORDS_WANTED: Final = 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score in [0, 1] and the factors it is made of, each in [0, 1]."""

    score: float
    factors: dict[str, float]
    is_refusal: bool


def estimate(answer: str, *, question: str, passages: Sequence[str]) -> Estimate:
    """Estimate how good an answer is.

    score = (0.5 groundedness + 0.25 relevance + 0.15 variety + 0.1 length), x 0.4 for a refusal.
    groundedness: share of the sentences of which at least 60 % of the words stand in one passage;
    relevance: share of the question's words that the answer or its passages hold;
    variety: share of the answer's three-word sequences that are not repetitions;
    length: how near it comes to eight words. The weights are a beginning, not learnt.

    Args:
        answer: The answer's text.
        question: What was asked; '' where that is unknown, which counts as relevant.
        passages: What the answer cites.
    """
    words = _words(answer)
    sources = [frozenset(_words(passage)) for passage in passages]
    asked = frozenset(_words(question))
    known = frozenset(words).union(*sources)
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    factors = {
        "groundedness": _grounded(answer, sources),
        "relevance": len(asked & known) / len(asked) if asked else 1.0,
        "variety": len(set(trigrams)) / len(trigrams) if trigrams else 1.0,
        "length": min(len(words) / _WORDS_WANTED, 1.0),
    }
    refusal = _REFUSALS.search(_plain(answer)) is not None
    score = sum(WEIGHTS[name] * value for name, value in factors.items())
    return Estimate(score * REFUSAL_FACTOR if refusal else score, factors, refusal)


def _grounded(answer: str, sources: Sequence[frozenset[str]]) -> float:
    sentences = [words for one in _SENTENCE.findall(answer) if (words := _words(one))]
    if not sentences:
        return 0.0
    supported = sum(
        any(len(source.intersection(words)) >= SUPPORTED_AT * len(set(words)) for source in sources)
        for words in sentences
    )
    return supported / len(sentences)


def _words(text: str) -> list[str]:
    return _WORD.findall(_plain(text))


def _plain(text: str) -> str:
    return text.translate(_FOLD).lower().translate(_FOLD)
