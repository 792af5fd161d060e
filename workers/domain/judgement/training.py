"""Training examples from answers: good completions, and preferences between two."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shared.ids import MessageId, UserId

GOOD_AT: Final = 0.75  # four stars of five
BAD_AT: Final = 0.25


@dataclass(frozen=True, slots=True)
class Rated:
    """An answer and its rating, in [0, 1].

    Attributes:
        is_clean: Neither it nor its question is flagged, and nobody it belongs to has withdrawn.
        user_id: Whose conversation it is.
    """

    id: MessageId
    text: str
    worth: float
    is_clean: bool
    user_id: UserId


@dataclass(frozen=True, slots=True)
class Example:
    """A completion worth imitating, of a user; with `rejected`, one that was preferred to it."""

    prompt: str
    completion: str
    rating: float
    message_id: MessageId
    user_id: UserId
    rejected: str | None = None
    rejected_id: MessageId | None = None

    @property
    def source(self) -> str:
        """`feedback` or `preference`."""
        return "feedback" if self.rejected is None else "preference"

    @property
    def digest(self) -> str:
        """SHA-256 of the words in hex: equal words by different people are one example."""
        parts = [self.prompt, self.completion, self.rejected]
        return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def taught(prompt: str, answer: Rated, others: Sequence[Rated]) -> Iterator[Example]:
    """Yield the training examples of an answer, given the other answers to its question.

    Args:
        prompt: The question; '' yields nothing.
        answer: The one that was rated now.
        others: Rated answers to the same question.
    """
    if not prompt.strip() or not answer.is_clean:
        return
    if answer.worth >= GOOD_AT:
        yield Example(prompt, answer.text, answer.worth, answer.id, answer.user_id)
    for other in others:
        if not other.is_clean or other.text == answer.text:
            continue
        if answer.worth >= GOOD_AT and other.worth <= BAD_AT:
            yield _preference(prompt, answer, other)
        if answer.worth <= BAD_AT and other.worth >= GOOD_AT:
            yield _preference(prompt, other, answer)


def _preference(prompt: str, good: Rated, bad: Rated) -> Example:
    margin = good.worth - bad.worth
    return Example(prompt, good.text, margin, good.id, good.user_id, bad.text, bad.id)
