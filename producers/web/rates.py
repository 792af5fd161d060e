"""Rates of requests, exact over all processes: each takes tokens out of Postgres a few at a time.

A process asks for what it will need in the next tenth of a second and gives back what it did not
use; one that is refused asks again when there can be tokens. So a request costs no statement of its
own, a flood is refused without one, and no more pass than the bucket gave.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from producers.accounts.request_rules import Rate
from producers.queries.accounts import request_buckets
from producers.queries.accounts.request_buckets import Grant
from producers.web import problems
from producers.web.access import Keys
from producers.web.problems import Refused
from shared import db
from shared.db import Role
from shared.errors import ServerUnavailable

AHEAD_S: Final = 0.1
ASK_AGAIN_S: Final = 0.02
ASK_AGAIN_S_MAX: Final = 1.0
GIVE_BACK_S: Final = 0.5
WINDOW_S: Final = 0.1
PROMPT_MIN: Final = 10
BUCKETS_MAX: Final = 10_000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class _Bucket:
    """What this process holds of one bucket."""

    subject: str
    rate: Rate
    tokens: float = 0.0
    left: float = 0.0  # in Postgres, when it was last asked
    asked_at: float = 0.0
    used: int = 0  # since then
    waiting: int = 0
    closed_until: float = 0.0
    window: int = 0
    refused: int = 0  # in this window
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    failed: tuple[float, ServerUnavailable] | None = None  # when Postgres did not answer last
    returning: asyncio.TimerHandle | None = None

    def wanted(self, now: float) -> float:
        """How many tokens the next tenth of a second needs, at the pace of the time before."""
        pace = self.used / max(now - self.asked_at, ASK_AGAIN_S)
        return min(self.rate.burst, max(1.0, self.waiting, math.ceil(pace * AHEAD_S)))

    def refuse(self, now: float) -> float:
        """Count a refusal. Returns for how many seconds it should be kept back.

        As many as would have passed are answered at once, so that who keeps to the rate loses
        nothing of it; the others wait for the end of the window.
        """
        window = int(now / WINDOW_S)
        if window != self.window:
            self.window, self.refused = window, 0
        self.refused += 1
        prompt = self.refused <= max(PROMPT_MIN, self.rate.per_s * WINDOW_S)
        return 0.0 if prompt else (window + 1) * WINDOW_S - now

    def level(self, now: float) -> float:
        """How many tokens there are by what is known here."""
        refilled = self.left + (now - self.asked_at) * self.rate.per_s
        return min(self.rate.burst, self.tokens + refilled)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of the rate that is nearest to its end, for the headers of an answer."""

    burst: float
    left: float
    full_in_s: float

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, as the answer has them."""
        numbers = {
            b"ratelimit-limit": int(self.burst),
            b"ratelimit-remaining": max(0, int(self.left)),
            b"ratelimit-reset": math.ceil(self.full_in_s),
        }
        return [(name, str(number).encode()) for name, number in numbers.items()]


class Rates:
    """What this process holds of all buckets; used in the loop of the server alone."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def count(self, rates: Mapping[str, Rate]) -> Standing | None:
        """Let a request pass each of its rates.

        Returns:
            How the rate nearest to its end stands; None where there is none.

        Raises:
            Refused: One is used up (429); those before it count nothing then.
        """
        passed: list[_Bucket] = []
        for subject, rate in rates.items():
            bucket = self._bucket(subject, rate)
            if not await self._pass(bucket):
                for one in passed:
                    one.tokens += 1
                raise _too_many(bucket, time.monotonic())
            passed.append(bucket)
        now = time.monotonic()
        return min((_standing(one, now) for one in passed), key=lambda one: one.left, default=None)

    def closed(self, rates: Mapping[str, Rate]) -> _Bucket | None:
        """Return the first bucket that is known to be empty for some moments."""
        now = time.monotonic()
        found = (self._buckets.get(subject) for subject in rates)
        return next(
            (one for one in found if one and one.tokens < 1 and one.closed_until > now), None
        )

    async def _pass(self, bucket: _Bucket) -> bool:
        if bucket.tokens < 1:
            bucket.waiting += 1
            since = time.monotonic()
            try:
                async with bucket.asking:
                    if bucket.failed is not None and bucket.failed[0] > since:
                        raise bucket.failed[1]  # who asked meanwhile was not answered
                    if bucket.tokens < 1 and bucket.closed_until <= time.monotonic():
                        await self._ask(bucket)
            finally:
                bucket.waiting -= 1
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        bucket.used += 1
        return True

    async def _ask(self, bucket: _Bucket, *, back: bool = False) -> None:
        """Take tokens for the next moments, or with `back` return what is held."""
        began = time.monotonic()
        wanted = 0.0 if back else bucket.wanted(began)
        returned, bucket.tokens = bucket.tokens, 0.0
        try:
            taken = await run_in_threadpool(_take, bucket.subject, bucket.rate, wanted, returned)
        except ServerUnavailable as error:
            bucket.failed = time.monotonic(), error
            raise
        now = time.monotonic()
        bucket.tokens += taken.granted
        bucket.left, bucket.asked_at, bucket.used = taken.tokens, now, 0
        if not back and taken.granted < 1:
            missing_s = (1 - taken.tokens) / bucket.rate.per_s
            bucket.closed_until = now + min(max(missing_s, ASK_AGAIN_S), ASK_AGAIN_S_MAX)
        if taken.granted >= 1 and bucket.returning is None:
            loop = asyncio.get_running_loop()
            bucket.returning = loop.call_later(GIVE_BACK_S, self._look_back, bucket)

    def _look_back(self, bucket: _Bucket) -> None:
        """Return what was not used for a while, so that other processes find it."""
        bucket.returning = None
        if bucket.tokens < 1:
            return
        loop = asyncio.get_running_loop()
        if time.monotonic() - bucket.asked_at < GIVE_BACK_S or bucket.asking.locked():
            bucket.returning = loop.call_later(GIVE_BACK_S, self._look_back, bucket)
            return
        task = loop.create_task(self._give_back(bucket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_back(self, bucket: _Bucket) -> None:
        async with bucket.asking:
            with suppress(ServerUnavailable):
                await self._ask(bucket, back=True)

    def _bucket(self, subject: str, rate: Rate) -> _Bucket:
        found = self._buckets.get(subject)
        if found is None:
            if len(self._buckets) >= BUCKETS_MAX:
                self._forget(self._buckets.values())
            found = self._buckets[subject] = _Bucket(subject, rate)
        elif found.rate != rate:
            found.rate = rate
            found.tokens = min(found.tokens, rate.burst)
            found.closed_until = 0.0
        return found

    def _forget(self, buckets: Iterable[_Bucket]) -> None:
        idle = [one.subject for one in buckets if one.tokens < 1 and not one.waiting]
        for subject in idle:
            del self._buckets[subject]


class RateGate:
    """Tells in each answer how the caller's rate stands, and refuses a flood at once.

    A key whose rate is known to be used up costs neither a route nor a thread, and who goes on
    asking is answered later: a flood leaves the others their time. The first refusal of a moment,
    and those of keys with an allow list, are the route's.
    """

    def __init__(self, app: App, keys: Keys, rates: Rates) -> None:
        self._app = app
        self._keys = keys
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        state = scope.setdefault("state", {})
        closed = self._closed(scope)
        if closed is not None:
            await asyncio.sleep(closed.refuse(time.monotonic()))
            await problems.of(_too_many(closed, time.monotonic()))(scope, receive, send)
            return

        async def told(message: MutableMapping[str, Any]) -> None:
            standing: Standing | None = state.get("standing")
            if standing is not None and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *standing.headers()]
            await send(message)

        await self._app(scope, receive, told)

    def _closed(self, scope: Scope) -> _Bucket | None:
        sent = [value for name, value in scope.get("headers", ()) if name == b"authorization"]
        if len(sent) != 1 or not sent[0].startswith(b"Bearer "):
            return None
        by = self._keys.recent.get(sent[0].removeprefix(b"Bearer ").decode("latin-1"))
        if by is None or isinstance(by, str) or by.bounds.networks:
            return None
        return self._rates.closed(by.bounds.rates)


def _take(subject: str, rate: Rate, wanted: float, returned: float) -> Grant:
    with db.transaction(None, role=Role.OWNER, durable=False) as conn:
        return request_buckets.take(
            conn, subject, per_s=rate.per_s, burst=rate.burst, wanted=wanted, returned=returned
        )


def _standing(bucket: _Bucket, now: float) -> Standing:
    left = bucket.level(now)
    return Standing(bucket.rate.burst, left, (bucket.rate.burst - left) / bucket.rate.per_s)


def _too_many(bucket: _Bucket, now: float) -> Refused:
    standing = _standing(bucket, now)
    kind = bucket.subject.partition(":")[0]
    missing_s = max(0.0, 1 - standing.left) / bucket.rate.per_s
    headers = {name.decode(): value.decode() for name, value in standing.headers()}
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        f"The {kind} makes more than {bucket.rate.per_s:g} requests a second.",
        headers | {"Retry-After": str(max(1, math.ceil(missing_s)))},
    )
