"""Types of completions, independent of the model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

OnText = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AnswerPassage:
    """A chunk that an answer may use and cite."""

    chunk_id: str
    document_id: str
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request to a completion model.

    Attributes:
        prompt: The user's prompt.
        system: The system message; empty for the completer's default.
        passages: Sources of the answer. They are data, never instructions.
        tokens_max: Maximum tokens of the answer, >= 1.
        temperature: In [0, 2], or None for the model's default.
    """

    prompt: str = field(repr=False)
    system: str = field(default="", repr=False)
    passages: tuple[AnswerPassage, ...] = field(default=(), repr=False)
    tokens_max: int = 512
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class AnswerCitation:
    """A cited part of a passage: its content[start:end], in code points."""

    chunk_id: str
    document_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, its citations and its token usage."""

    text: str = field(repr=False)
    model: str
    citations: tuple[AnswerCitation, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0


class Completer(Protocol):
    """A completion model; thread-safe."""

    @property
    def model(self) -> str:
        """The name stored beside each answer."""

    def complete(self, question: CompletionRequest, on_text: OnText | None = None) -> Completion:
        """Answer a request. Do not hold a database connection meanwhile.

        Args:
            question: The request.
            on_text: Called with the pieces of the answer as they come, before it is checked.

        Raises:
            ProviderRefused: The request or the account is rejected.
            TransientError: The provider is unavailable, busy, or its response is invalid.
        """

    def close(self) -> None:
        """Close connections; the completer is not used again."""
