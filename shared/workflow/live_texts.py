"""Texts of models while they come, by Redis: from the worker that asks to those who follow a run.

They are for eyes alone. What a run has answered is its output in Postgres; a text that is lost here
is lost for those who watch, and nothing else. Nobody writes for a run that nobody follows.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

import redis

from shared.ledger.wakeups import Wire
from shared.observability import outages

KEPT_S: Final = 900
# Readers renew it, at least every three seconds.
FOLLOWED_S: Final = 30
# Of a run, the newest: minutes of what a model writes. With 500 characters each, 4 MB at most.
PIECES_MAX: Final = 2_000
READ_MAX: Final = 500
FIRST: Final = "0-0"
_FIELDS: Final = (b"step", b"attempt", b"number", b"text", b"sig")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of a text.

    Attributes:
        step: Whose text it is; an item of a mapped step is step[3].
        attempt: Of the step: a later one begins again.
        number: Its place in the text, from 1.
        text: The piece.
    """

    step: str
    attempt: int
    number: int
    text: str


class LiveTexts:
    """The texts of runs in Redis, signed: who can write there cannot put words into a mouth."""

    def __init__(self, client: redis.Redis, wire: Wire) -> None:
        """Describe; nothing is sent yet.

        Args:
            client: With short timeouts.
            wire: Our namespace and signatures.
        """
        self._client = client
        self._wire = wire

    def follow(self, run_id: str) -> None:
        """Have workers tell the texts of a run from now on, for a while."""
        try:
            self._client.set(self._wanted(run_id), 1, ex=FOLLOWED_S)
        except redis.RedisError as error:
            outages.note(error)

    def is_followed(self, run_id: str) -> bool:
        """Whether somebody follows a run."""
        try:
            return bool(self._client.exists(self._wanted(run_id)))
        except redis.RedisError as error:
            outages.note(error)
            return False

    def add(self, run_id: str, piece: TextPiece) -> bool:
        """Tell a piece. Returns whether it was told."""
        fields: dict[Any, Any] = {
            "step": piece.step,
            "attempt": piece.attempt,
            "number": piece.number,
            "text": piece.text,
            "sig": self._wire.sign(*_signed(run_id, piece)),
        }
        try:
            with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(self._place(run_id), fields, maxlen=PIECES_MAX, approximate=False)
                pipe.expire(self._place(run_id), KEPT_S)
                pipe.execute()
        except redis.RedisError as error:
            outages.note(error)
            return False
        return True

    def read(self, run_id: str, after: str) -> list[tuple[str, TextPiece | None]]:
        """Return the next pieces with their ids; None for one that is not signed by us."""
        try:
            entries = self._client.xrange(self._place(run_id), f"({after}", count=READ_MAX)
        except redis.RedisError as error:
            outages.note(error)
            return []
        known = cast("list[tuple[bytes, dict[bytes, bytes]]]", entries)
        return [(entry_id.decode(), self._genuine(run_id, fields)) for entry_id, fields in known]

    def _genuine(self, run_id: str, fields: dict[bytes, bytes]) -> TextPiece | None:
        try:
            step, attempt, number, text, signature = (fields[name].decode() for name in _FIELDS)
            piece = TextPiece(step, int(attempt), int(number), text)
        except (KeyError, ValueError):
            return None
        is_ours = self._wire.is_signed(signature, *_signed(run_id, piece))
        return piece if is_ours else None

    def _place(self, run_id: str) -> str:
        return f"{self._wire.namespace}:text:{run_id}"

    def _wanted(self, run_id: str) -> str:
        return f"{self._wire.namespace}:follow:{run_id}"


def _signed(run_id: str, piece: TextPiece) -> tuple[str | int, ...]:
    return ("text", run_id, piece.step, piece.attempt, piece.number, piece.text)
