"""Which streams of the Redis door are read when: a flood in its turn, a quiet publisher at once.

A stream that has more entries than a quiet one is a flood. Floods are read one after another, a
batch at a time, and after each batch every quiet stream is looked at. A batch takes a quarter of a
second: one that took longer, because its entries are large or refused one by one, is followed by a
smaller one. So an entry of a quiet publisher waits for one batch, however many flood.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from producers.ledger.ingress_streams import BATCH_MAX, Stream

QUIET_MAX: Final = 20
BATCH_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Flood:
    """A stream whose turn it is, and how many entries of it to read."""

    stream: Stream
    count: int


class Floods:
    """The streams that have more than a few entries, in the order of their turns."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Return whether any stream has more than a few entries."""
        return bool(self._counts)

    def quiet(self, streams: Sequence[Stream]) -> list[Stream]:
        """Return the streams of which nobody knows that they have more than a few entries."""
        return [stream for stream in streams if stream.key not in self._counts]

    def begin(self, stream: Stream) -> None:
        """Read a stream in its turn from now on."""
        self._counts[stream.key] = 2 * QUIET_MAX

    def next(self, streams: Sequence[Stream]) -> Flood | None:
        """Take the stream whose turn it is; it is back after `served`."""
        by_key = {stream.key: stream for stream in streams}
        while self._counts:
            key = next(iter(self._counts))
            count = self._counts.pop(key)
            if key in by_key:  # its publisher may have been removed
                return Flood(by_key[key], count)
        return None

    def served(self, flood: Flood, entries: int, took_s: float) -> None:
        """Note how long the entries took that were read of a flood; fewer than asked end it."""
        if entries < flood.count:
            return
        slower = flood.count // 2 if took_s > BATCH_S else flood.count
        faster = 2 * flood.count if took_s < BATCH_S / 2 else slower
        self._counts[flood.stream.key] = min(max(faster, 1), BATCH_MAX)
