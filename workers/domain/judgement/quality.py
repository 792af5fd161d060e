"""Quality of an answer, estimated from its text, its question and the passages it rests on.

raw = sum over the factors of weight * factor, x 0.4 for a refusal; each factor is in [0, 1]:

groundedness  the mean over the answer's sentences of how far the passages support each: the share
              of its words that one sentence of a passage holds, or, where a model compared the
              two, the mean of that and of their similarity, if that is more. Without passages
              nothing speaks for or against it: 0.5.
relevance     the same for the question: the share of its words that the answer or its passages
              hold, or with the similarity of question and answer; 1 where it is not known.
variety       the share of the answer's three-word sequences that are not repeated.
length        how near it comes to eight words.
language      1 where it is in the question's language, 0 where it is not.
formatting    1 less a half for each of: a code fence left open, a table with ragged rows, an
              answer that breaks off within a sentence.

The weights are a starting point: ratings correct the estimate by calibration, not by new weights.
A similarity is a cosine rescaled between those of unrelated and of equal sentences of that model,
so that the compressed cosines of one model mean what another's do.

Source: the factors are those by which people judge answers of retrieval systems, after Es et al.,
"RAGAS: automated evaluation of retrieval augmented generation" (2023), without a model as a judge.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from shared.text.letters import plain
from shared.text.stems import stem

WEIGHTS: Final = {
    "groundedness": 0.45,
    "relevance": 0.25,
    "variety": 0.10,
    "length": 0.08,
    "language": 0.07,
    "formatting": 0.05,
}
REFUSAL_FACTOR: Final = 0.4
UNGROUNDED: Final = 0.5
# A sentence this far held by a passage needs no model to compare them.
HELD_AT: Final = 0.95
SENTENCES_MAX: Final = 12
_COMPARED: Final = 2
_WORD: Final = re.compile(r"\w{3,}")
_STEM_CHARS: Final = 6  # one more than elsewhere: a similar word does not support it
_REFUSALS: Final = re.compile(
    r"\b(i cannot|i can't|i am unable|i'm unable|i'm not able|as an ai|no answer to this)\b"
    r"|yanit yok|cevap veremem|yanit veremem|yardimci olamam|yapay zeka (modeli )?olarak"
)
_WORDS_WANTED: Final = 8
_BROKEN_OFF: Final = re.compile(r"[\w,;:(]\s*$")
_FAULT: Final = 0.5

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class QualityInput:
    """An answer to score, with its question and passages.

    Attributes:
        text: The answer.
        sentences: Its sentences.
        question: What was asked; '' where that is not known.
        passages: The sentences of what it cites.
        is_same_language: Whether question and answer are of one language.
    """

    text: str
    sentences: Sequence[str]
    question: str = ""
    passages: Sequence[str] = ()
    is_same_language: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score in [0, 1], and the factors it is made of, each in [0, 1]."""

    score: float
    factors: dict[str, float] = field(default_factory=dict)
    is_refusal: bool = False


def pairs(answer: QualityInput) -> Iterator[Pair]:
    """The texts that a model should compare: sentences with the nearest of the passages by words.

    Those that the passages hold word by word need no model, nor those that share no word.
    """
    sources = [(text, _word_set(text)) for text in answer.passages]
    for sentence in answer.sentences[:SENTENCES_MAX]:
        words = _word_set(sentence)
        if not words:
            continue
        shares = sorted(((_share(words, held), text) for text, held in sources), reverse=True)
        if shares and shares[0][0] < HELD_AT:
            yield from ((sentence, text) for share, text in shares[:_COMPARED] if share > 0)
    if answer.question and answer.text:
        yield answer.question, answer.text


def estimate(answer: QualityInput, similarities: Mapping[Pair, float] | None = None) -> Estimate:
    """Estimate how good an answer is.

    Args:
        answer: With its question and passages.
        similarities: Of pairs of texts, in [0, 1], where a model has compared them.
    """
    similarities = similarities or {}
    factors = {
        "groundedness": _groundedness(answer, similarities),
        "relevance": _relevance(answer, similarities),
        "variety": _variety(_words(answer.text)),
        "length": min(len(_words(answer.text)) / _WORDS_WANTED, 1.0),
        "language": float(answer.is_same_language),
        "formatting": _formatting(answer.text),
    }
    is_refusal = _REFUSALS.search(_plain(answer.text)) is not None
    return Estimate(raw_score(factors, is_refusal=is_refusal), factors, is_refusal)


def raw_score(factors: Mapping[str, float], *, is_refusal: bool) -> float:
    """The blend of factors, in [0, 1], before calibration."""
    blend = sum(weight * factors[name] for name, weight in WEIGHTS.items())
    return min(blend * (REFUSAL_FACTOR if is_refusal else 1.0), 1.0)


def _groundedness(answer: QualityInput, similarities: Mapping[Pair, float]) -> float:
    if not answer.passages:
        return UNGROUNDED
    sources = [(text, _word_set(text)) for text in answer.passages]
    support = []
    for sentence in answer.sentences:
        if words := _word_set(sentence):
            support.append(
                max(
                    _with_model(_share(words, held), similarities.get((sentence, text)))
                    for text, held in sources
                )
            )
    return sum(support) / len(support) if support else 0.0


def _relevance(answer: QualityInput, similarities: Mapping[Pair, float]) -> float:
    asked = _word_set(answer.question)
    if not asked:
        return 1.0
    known = _word_set(answer.text).union(*(_word_set(text) for text in answer.passages))
    return _with_model(_share(asked, known), similarities.get((answer.question, answer.text)))


def _with_model(share: float, similarities: float | None) -> float:
    return share if similarities is None else max(share, (share + similarities) / 2)


def _share(words: frozenset[str], held: frozenset[str]) -> float:
    return len(words & held) / len(words)


def _variety(words: Sequence[str]) -> float:
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def _formatting(text: str) -> float:
    rows = [line.count("|") for line in text.splitlines() if line.lstrip().startswith("|")]
    faults = (
        text.count("```") % 2 == 1,
        len(set(rows)) > 1,
        len(_words(text)) > 3 * _WORDS_WANTED and _BROKEN_OFF.search(text) is not None,
    )
    return max(1.0 - _FAULT * sum(faults), 0.0)


@lru_cache(maxsize=4_096)  # a passage is read for each answer that cites it, three times
def _word_set(text: str) -> frozenset[str]:
    return frozenset(_words(text))


def _words(text: str) -> list[str]:
    return [stem(word, _STEM_CHARS) for word in _WORD.findall(_plain(text))]


def _plain(text: str) -> str:
    return plain(text).replace("’", "'")
