"""`local-extractive`: answers made of the best sentences of the given passages, verbatim.

No generative model is used. It is free, invents nothing, follows no instruction in a passage, and
draws no conclusion that no passage states.
"""

import math
import re
from collections import Counter
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProviderRefused
from shared.models.providers import LOCAL_COMPLETER as MODEL
from shared.models.providers import Embedder, uses
from shared.models.providers.completions import (
    AnswerCitation,
    AnswerPassage,
    Completion,
    CompletionRequest,
    OnText,
)
from shared.text import tokens
from shared.text.sentences import Sentence, sentences
from shared.text.stems import stems

SENTENCES_MAX: Final = 5
_RANKED_MAX: Final = 400
_STEMS_MIN: Final = 3  # a heading or a page number does not answer
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")  # replaced one by one, so that offsets hold
_MEANING_CHARS_MAX: Final = 1_000
_LONG_STEMS: Final = 25
_TASKS: Final = frozenset({"summa", "ozet", "ozetl", "ozeti", "ozetc", "abstr", "tldr"})
# Shares of likeness to the question, of its words, and of likeness to all the other sentences.
_ASKED: Final = np.array([0.50, 0.40, 0.10])
_SUMMED_UP: Final = np.array([0.15, 0.15, 0.70])
_SAME_AGAIN: Final = 0.5  # penalty for similarity to a sentence already taken
_FAR_BEHIND: Final = 0.6  # of the best one's score: what is below says something else


class _Candidate(NamedTuple):
    """A sentence of a passage, with its stems."""

    passage: AnswerPassage
    place: int
    sentence: Sentence
    stems: frozenset[str]


class ExtractiveCompleter:
    """Sentences ranked by meaning, by words and by how much they stand for the rest."""

    model = MODEL

    def __init__(self, embedder: Embedder) -> None:
        """Rank with a local embedder, which costs nothing either."""
        self._embedder = embedder

    def complete(self, question: CompletionRequest, on_text: OnText | None = None) -> Completion:
        """Answer with at most five sentences, in their original order; they come all at once.

        Raises:
            ProviderRefused: No passages were given.
        """
        if not question.passages:
            raise ProviderRefused(
                f"{MODEL} needs passages to answer from, and got none; "
                f"set OPENAI_API_KEY for a generative model."
            )
        question = replace(
            question,
            prompt=_storable(question.prompt),
            passages=tuple(replace(it, content=_storable(it.content)) for it in question.passages),
        )
        found = _candidates(question)
        taken = sorted(self._best(question, found), key=lambda it: (it.place, it.sentence.start))
        text = "\n".join(" ".join(it.sentence.text.split()) for it in taken)
        if on_text is not None:
            on_text(text)
        read = tokens.count(question.prompt) + sum(
            tokens.count_many([passage.content for passage in question.passages])
        )
        written = tokens.count(text)
        uses.note(MODEL, read, written)
        return Completion(
            text=text,
            model=MODEL,
            citations=tuple(
                AnswerCitation(
                    it.passage.chunk_id, it.passage.document_id, it.sentence.start, it.sentence.end
                )
                for it in taken
            ),
            tokens_in=read,
            tokens_out=written,
        )

    def close(self) -> None:
        """Do nothing: the embedder belongs to the process."""

    def _best(self, question: CompletionRequest, found: list[_Candidate]) -> list[_Candidate]:
        """Take the best, then the best that says something else, while the answer has room."""
        if not found:
            return []
        asked = set(stems(question.prompt))
        words = _word_shares(asked - _TASKS, found)
        if len(found) > _RANKED_MAX:
            kept = sorted(np.argsort(-words, kind="stable")[:_RANKED_MAX].tolist())
            found, words = [found[at] for at in kept], words[kept]
        vectors = self._embedder.embed([it.sentence.text[:_MEANING_CHARS_MAX] for it in found])
        near = vectors @ self._embedder.embed_query(question.prompt)
        likeness = vectors @ vectors.T
        signals = np.stack([near, words, likeness.mean(axis=1)])
        sums_up = bool(asked & _TASKS)
        scores = (_SUMMED_UP if sums_up else _ASKED) @ signals
        if not sums_up:
            scores[scores < _FAR_BEHIND * scores.max()] = -np.inf
        sizes = tokens.count_many([it.sentence.text for it in found])
        taken = _taken(scores, likeness, sizes, question.tokens_max)
        if not taken:  # not one fits
            at = int(np.argmax(scores))
            return [_shortened(found[at], question.tokens_max / sizes[at])]
        return [found[at] for at in taken]


def _candidates(question: CompletionRequest) -> list[_Candidate]:
    """Every sentence once, though chunks overlap; headings only where there is nothing else."""
    seen: set[str] = set()
    found = []
    for place, passage in enumerate(question.passages):
        for sentence in sentences(passage.content):
            plain = " ".join(sentence.text.split())
            if plain not in seen:
                seen.add(plain)
                words = frozenset(stems(plain))
                found.append(_Candidate(passage, place, sentence, words))
    said = [it for it in found if len(it.stems) >= _STEMS_MIN and it.sentence.text[0] not in "#|"]
    return said or found


def _storable(text: str) -> str:
    return _NO_TEXT.sub("\ufffd", text)


def _shortened(it: _Candidate, part: float) -> _Candidate:
    """Truncate a sentence at a word's end, assuming tokens of equal length."""
    text = it.sentence.text[: max(1, int(len(it.sentence.text) * part))]
    text = (text.rpartition(" ")[0] or text).rstrip()
    start = it.sentence.start
    return it._replace(sentence=Sentence(start, start + len(text), text))


def _word_shares(asked: set[str], found: list[_Candidate]) -> NDArray[np.float64]:
    """Of what the question's words weigh, the share that each sentence holds; rare ones weigh more.

    Returns:
        Shape (len(found),), in [0, 1]; zeros where the question has no word of meaning.
    """
    held = Counter(stem for it in found for stem in it.stems & asked)
    weights = {stem: math.log(1 + len(found) / (1 + held[stem])) for stem in asked}
    whole = sum(weights.values()) or 1.0
    shares = np.array([sum(weights[stem] for stem in it.stems & asked) for it in found]) / whole
    # A sentence of a hundred words holds any word: beyond some thirty, each counts against it.
    longer = np.array([max(len(it.stems) - _LONG_STEMS, 0) for it in found])
    return shares / (1 + longer / _LONG_STEMS)


def _taken(
    scores: NDArray[np.float64], likeness: NDArray[np.float32], sizes: list[int], tokens_max: int
) -> list[int]:
    """Return the indexes of the chosen sentences, best first: maximal marginal relevance.

    Source: Carbonell and Goldstein 1998.
    """
    taken: list[int] = []
    left = tokens_max
    again = np.zeros(len(scores))
    for _ in range(SENTENCES_MAX):
        open_to = np.array([size <= left for size in sizes])
        open_to[taken] = False
        worth = np.where(open_to, scores - _SAME_AGAIN * again, -np.inf)
        best = int(np.argmax(worth))
        if worth[best] == -np.inf:
            break
        taken.append(best)
        left -= sizes[best]
        again = np.maximum(again, np.maximum(likeness[best], 0.0))
    return taken
