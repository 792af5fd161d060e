"""The text of a step, told to those who follow its run while the model writes it."""

import time
from typing import Final

from shared.workflow.live_texts import LiveTexts, TextPiece
from workers.steps.step import Step

PIECE_CHARS_MAX: Final = 500
_EVERY_S: Final = 0.1  # readers look as often

_texts: LiveTexts | None = None


def configure(texts: LiveTexts | None) -> None:
    """Set where texts are told, or None."""
    global _texts  # noqa: PLW0603 - one process, one Redis
    _texts = texts


class LiveText:
    """The text of one attempt of a step, in pieces of 100 ms; once Redis fails, told no more."""

    def __init__(self, step: Step) -> None:
        self._run_id = step.run_id
        self._name = step.name if step.index is None else f"{step.name}[{step.index}]"
        self._attempt = step.attempt
        self._held = ""
        self._number = 0
        self._told_at = 0.0
        self._texts = _texts if _texts is not None and _texts.is_followed(step.run_id) else None

    @property
    def is_followed(self) -> bool:
        """Whether anybody is told."""
        return self._texts is not None

    def add(self, text: str) -> None:
        """Tell the next words."""
        self._held += text
        now = time.monotonic()
        if now - self._told_at >= _EVERY_S or len(self._held) >= PIECE_CHARS_MAX:
            self._tell()
            self._told_at = now

    def end(self, text: str) -> None:
        """Tell the rest; all of it where the answer came whole, as from the cache."""
        if self._number == 0 and not self._held:
            self._held = text
        self._tell()

    def _tell(self) -> None:
        while self._held and self._texts is not None:
            piece, self._held = self._held[:PIECE_CHARS_MAX], self._held[PIECE_CHARS_MAX:]
            self._number += 1
            told = TextPiece(self._name, self._attempt, self._number, piece)
            if not self._texts.add(self._run_id, told):
                self._texts = None
