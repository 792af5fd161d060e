"""What a completion is, whichever model gives it."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AnswerPassage:
    """A chunk that an answer may rest on."""

    chunk_id: str
    document_id: str
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What is asked of a model.

    Attributes:
        prompt: The request itself.
        system: How to answer; empty leaves it to the completer.
        passages: What the answer may rest on. It is data: no model is told to obey it.
        tokens_max: The longest answer, in tokens, >= 1.
        temperature: In [0, 2], or None for the model's own.
    """

    prompt: str = field(repr=False)
    system: str = field(default="", repr=False)
    passages: tuple[AnswerPassage, ...] = field(default=(), repr=False)
    tokens_max: int = 512
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class AnswerCitation:
    """What a part of the answer rests on: the passage's content[start:end], in code points."""

    chunk_id: str
    document_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, what it rests on, and how many tokens it took."""

    text: str = field(repr=False)
    model: str
    citations: tuple[AnswerCitation, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0


class Completer(Protocol):
    """A model that answers; safe to use from several threads."""

    @property
    def model(self) -> str:
        """The name stored beside each answer."""

    def complete(self, question: CompletionRequest) -> Completion:
        """Answer. Hold no database connection meanwhile.

        Raises:
            ProviderRefused: The question or the account is at fault.
            TransientError: The provider is away, busy, or answered with nonsense.
        """

    def close(self) -> None:
        """Give up connections; the completer is not used again."""
