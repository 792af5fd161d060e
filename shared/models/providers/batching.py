"""Batching of texts from concurrent threads into shared requests."""

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProviderRefused, ProviderUnavailable

INPUTS_MAX: Final = 2_048
TOKENS_MAX: Final = 300_000
WINDOW_S: Final = 0.05
PROBES: Final = 8
_NAMED_MAX: Final = 10
_RECENT_S: Final = 0.25  # a thread that left this recently is expected back with more texts

Rows = NDArray[np.float32]
Send = Callable[[list[str], int], Rows]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class TextRefused(ProviderRefused):
    """The provider rejects a request; parts of it may pass without the rest.

    Attributes:
        refused: Why each rejected text of the call was, by its position.
        rows: The rows of the call's other texts, zeros for the rejected; None where all were.
    """

    def __init__(
        self, message: str, *, refused: Mapping[int, str] | None = None, rows: Rows | None = None
    ) -> None:
        super().__init__(message)
        self.refused = dict(refused or {})
        self.rows = rows


def halved(
    items: Sequence[Item], send: Callable[[Sequence[Item]], Sequence[Answer]], refused: TextRefused
) -> list[Answer | TextRefused]:
    """Send what was refused together in halves, until the items at fault are left alone.

    So one bad text costs nobody else, and a server that takes fewer items a request gets fewer.
    Where a single item is refused before anything was accepted, a few others are tried alone; if
    none of them passes either, the server takes nothing, and the rest is not sent.

    Args:
        items: What one request carried.
        send: Sends some of them in one request; raises `TextRefused`, or what ends all.
        refused: The refusal of them all.

    Returns:
        The answer to each item, in order, or why it was refused.
    """
    answers: list[Answer | TextRefused] = [refused] * len(items)
    middle = len(items) // 2
    pending = [(middle, len(items)), (0, middle)] if middle else []
    accepted = False
    while pending:
        start, stop = pending.pop()
        try:
            answers[start:stop] = send(items[start:stop])
            accepted = True
        except TextRefused as error:
            answers[start:stop] = [error] * (stop - start)
            middle = (start + stop) // 2
            if middle > start:
                pending += [(middle, stop), (start, middle)]
            elif not accepted:
                spread = items[:: -(-len(items) // PROBES)]
                accepted = any(_passes(item, send) for item in spread)
                if not accepted:
                    break
    return answers


def _passes(item: Item, send: Callable[[Sequence[Item]], Sequence[Answer]]) -> bool:
    try:
        send([item])
    except TextRefused:
        return False
    return True


@dataclass(eq=False, slots=True)
class _Call:
    """One caller's texts and what came back for them so far."""

    texts: Sequence[str]
    tokens: Sequence[int]
    missing: int
    thread: int = field(default_factory=threading.get_ident)
    rows: Rows | None = None
    error: BaseException | None = None
    refused: dict[int, TextRefused] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.missing == 0 or self.error is not None


@dataclass(frozen=True, slots=True)
class _Part:
    """A slice of one call that travels in one request."""

    call: _Call = field(repr=False)
    start: int
    stop: int
    tokens: int

    @property
    def texts(self) -> Sequence[str]:
        return self.call.texts[self.start : self.stop]

    @property
    def weighed(self) -> list[tuple[str, int]]:
        """The texts with their estimated tokens."""
        return list(zip(self.texts, self.call.tokens[self.start : self.stop], strict=True))


Outcome = Rows | BaseException | list[Rows | TextRefused]


class Batcher:
    """Packs the texts of concurrent calls into requests; callers' own threads send them.

    A request leaves when it is full, when its first text has waited for the window, or at once
    when no thread that embedded a moment ago is still on its way: so a lone caller never waits,
    and a busy pool sends one request for all of its threads.
    """

    def __init__(
        self,
        send: Send,
        *,
        inputs_max: int = INPUTS_MAX,
        in_flight_max: int = 4,
        window_s: float = WINDOW_S,
    ) -> None:
        """Wrap a way to send.

        Args:
            send: Given texts and their estimated tokens, returns one row per text or raises;
                called from several threads at once.
            inputs_max: How many texts a request may carry.
            in_flight_max: How many requests may be under way at a time.
            window_s: How long a text waits for company at most.
        """
        self._send = send
        self._inputs_max = inputs_max
        self._in_flight_max = in_flight_max
        self._window_s = window_s
        self._changed = threading.Condition()
        self._queue: deque[_Part] = deque()
        self._flush_at = 0.0
        self._in_flight = 0
        self._left_at: dict[int, float] = {}

    def embed(self, texts: Sequence[str], tokens: Sequence[int]) -> Rows:
        """Return one row per text, in order, once all of them are there.

        Args:
            texts: At least one.
            tokens: The estimated tokens of each, none above `TOKENS_MAX`.

        Raises:
            TextRefused: Texts of this call are rejected: which, and the rows of the others, are in
                it. Other callers are not affected.
            TransientError: A request that carried texts of this call has failed.
        """
        call = _Call(texts, tokens, missing=len(texts))
        with self._changed:
            self._left_at.pop(call.thread, None)
            if not self._queue:
                self._flush_at = time.monotonic() + self._window_s
            self._queue.extend(_parts(call, self._inputs_max))
            try:
                self._work_until_over(call)
            finally:
                # An exception from outside, such as a time limit, leaves nothing behind either.
                if call.missing:
                    self._queue = deque(part for part in self._queue if part.call is not call)
                self._left_at[call.thread] = time.monotonic()
        if call.error is not None:
            raise copy.copy(call.error)  # each thread its own: tracebacks grow at raise
        if call.refused:
            why = {position: str(error) for position, error in sorted(call.refused.items())}
            raise rejected(len(texts), why, call.rows)
        assert call.rows is not None
        return call.rows

    def _work_until_over(self, call: _Call) -> None:
        """Send due requests, also for others, and wait in between; holds the lock."""
        while not call.is_over:
            now = time.monotonic()
            if not self._queue or self._in_flight == self._in_flight_max:
                self._changed.wait()  # until a request comes back
            elif self._is_due(now):
                self._send_pack(self._take_pack())
            else:
                all_gone_at = max(self._left_at.values()) + _RECENT_S
                self._changed.wait(max(min(self._flush_at, all_gone_at) - now, 0.0))

    def _is_due(self, now: float) -> bool:
        for thread, left_at in list(self._left_at.items()):
            if now - left_at >= _RECENT_S:
                del self._left_at[thread]
        queued = sum(part.stop - part.start for part in self._queue)
        is_full = queued >= self._inputs_max or sum(p.tokens for p in self._queue) >= TOKENS_MAX
        return is_full or not self._left_at or now >= self._flush_at

    def _take_pack(self) -> list[_Part]:
        pack: list[_Part] = []
        inputs = tokens = 0
        while self._queue:
            part = self._queue[0]
            inputs, tokens = inputs + part.stop - part.start, tokens + part.tokens
            if pack and (inputs > self._inputs_max or tokens > TOKENS_MAX):
                break
            pack.append(self._queue.popleft())
        return pack

    def _send_pack(self, pack: list[_Part]) -> None:
        """Send one request without the lock, and give every caller in it what is theirs."""
        self._in_flight += 1
        self._changed.release()
        outcome: list[tuple[_Part, Outcome]] = []
        try:
            outcome = self._answers(pack)
        finally:
            self._changed.acquire()
            self._in_flight -= 1
            if not outcome:  # our own thread was interrupted; the others may try again
                lost = ProviderUnavailable("The request to the provider was interrupted.")
                outcome = [(part, lost) for part in pack]
            for part, answer in outcome:
                _deliver(part, answer)
                # From now on it is expected back, though it may take a while to wake up.
                self._left_at[part.call.thread] = time.monotonic()
            self._changed.notify_all()

    def _answers(self, pack: list[_Part]) -> list[tuple[_Part, Outcome]]:
        texts = [text for part in pack for text in part.texts]
        try:
            rows = self._send(texts, sum(part.tokens for part in pack))
        except TextRefused as error:
            return self._without_refused(pack, error)
        except Exception as error:  # handed to every caller whose texts were in it
            return [(part, error) for part in pack]
        ends = np.cumsum([part.stop - part.start for part in pack])[:-1]
        return list(zip(pack, np.split(rows, ends), strict=True))

    def _without_refused(
        self, pack: list[_Part], refused: TextRefused
    ) -> list[tuple[_Part, Outcome]]:
        weighed = [pair for part in pack for pair in part.weighed]

        def send(pairs: Sequence[tuple[str, int]]) -> list[Rows]:
            return list(self._send([text for text, _ in pairs], sum(it for _, it in pairs)))

        try:
            answers = halved(weighed, send, refused)
        except Exception as error:
            return [(part, error) for part in pack]
        outcome: list[tuple[_Part, Outcome]] = []
        for part in pack:
            size = part.stop - part.start
            outcome.append((part, answers[:size]))
            answers = answers[size:]
        return outcome


def _parts(call: _Call, inputs_max: int) -> list[_Part]:
    """Cut a call where one request would grow too large; mostly it stays whole."""
    parts, start, held = [], 0, 0
    for position, weight in enumerate(call.tokens):
        if position > start and (position - start == inputs_max or held + weight > TOKENS_MAX):
            parts.append(_Part(call, start, position, held))
            start, held = position, 0
        held += weight
    return [*parts, _Part(call, start, len(call.texts), held)]


def _deliver(part: _Part, answer: Outcome) -> None:
    call = part.call
    if isinstance(answer, BaseException):
        call.error = call.error or answer
        return
    if isinstance(answer, list):
        for position, row in enumerate(answer, start=part.start):
            if isinstance(row, TextRefused):
                call.refused[position] = row
            else:
                _put(call, position, row[None])
    elif len(answer) == len(call.texts):
        call.rows = answer
    else:
        _put(call, part.start, answer)
    call.missing -= len(answer)


def _put(call: _Call, start: int, rows: Rows) -> None:
    if call.rows is None:
        call.rows = np.zeros((len(call.texts), rows.shape[1]), dtype=np.float32)
    call.rows[start : start + len(rows)] = rows


def rejected(count: int, refused: Mapping[int, str], rows: Rows | None) -> TextRefused:
    """The one error of a call of `count` texts, some of which were rejected."""
    first = next(iter(refused.values()))
    if count == 1:
        return TextRefused(first, refused=refused)
    numbers = ", ".join(str(position + 1) for position in list(refused)[:_NAMED_MAX])
    more = " and others" if len(refused) > _NAMED_MAX else ""
    return TextRefused(
        f"{len(refused)} of {count} texts were rejected, number {numbers}{more}. {first}",
        refused=refused,
        rows=rows,
    )
