"""Token buckets: the providers' in Redis, shared by every worker that uses the same key.

One bucket per API key and model holds two budgets, tokens and requests a minute. Each budget
is one number, the time until which it is spent; a reservation moves that time on by its cost,
so callers go in the order in which they reserved and never faster than the limit together.

Source: the generic cell rate algorithm (ITU-T I.371), with `now` taken from Redis itself.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from redis import Redis, RedisError

from shared.errors import ProviderBudgetSpent

BURST_MS: Final = 500.0  # burst of an idle bucket: half a second's worth
WAIT_MAX_S: Final = 20.0  # longer waits belong in the ledger, not in a thread
BLOCK_MAX_S: Final = 900.0
_LOCAL_FOR_S: Final = 5.0  # after a failure of Redis, how long it is not called again
_FLOOR: Final = 100  # a provider's header slows us down to a hundredth of the setting, no lower

_PRELUDE: Final = """
local now = tonumber(ARGV[1])
if now < 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + clock[2] / 1000
end
local held = redis.call('HMGET', KEYS[1], 'tokens_ms', 'requests_ms', 'tpm', 'rpm')
local tokens_ms, requests_ms = tonumber(held[1]) or 0, tonumber(held[2]) or 0
local function store(...)
  redis.call('HSET', KEYS[1], ...)
  redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(tokens_ms, requests_ms) - now) + 3600000)
end
"""

_ACQUIRE: Final = (
    _PRELUDE
    + """
local tokens, requests, burst, wait_max = ARGV[2], ARGV[3], ARGV[6], tonumber(ARGV[7])
local tpm = math.min(tonumber(ARGV[4]), tonumber(held[3]) or math.huge)
local rpm = math.min(tonumber(ARGV[5]), tonumber(held[4]) or math.huge)
local go = math.max(now, tokens_ms, requests_ms)
if go - now <= wait_max then
  tokens_ms = math.max(tokens_ms, go - burst) + tokens * 60000 / tpm
  requests_ms = math.max(requests_ms, go - burst) + requests * 60000 / rpm
  store('tokens_ms', tokens_ms, 'requests_ms', requests_ms)
end
return string.format('%.3f', go - now)
"""
)

_LEARN: Final = (
    _PRELUDE
    + """
tokens_ms = math.max(tokens_ms, now + ARGV[2])
requests_ms = math.max(requests_ms, now + ARGV[3])
store('tokens_ms', tokens_ms, 'requests_ms', requests_ms)
if ARGV[4] ~= '' then store('tpm', ARGV[4]) end
if ARGV[5] ~= '' then store('rpm', ARGV[5]) end
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Heard:
    """The provider's own bucket, as reported by a response; None if not reported.

    Attributes:
        block_s: Seconds in which nothing may be sent, from Retry-After.
        limit_tokens: Tokens a minute.
        limit_requests: Requests a minute.
        left_tokens: Tokens left in the provider's bucket.
        left_requests: Requests left in it.
    """

    block_s: float | None = None
    limit_tokens: float | None = None
    limit_requests: float | None = None
    left_tokens: float | None = None
    left_requests: float | None = None


class ProviderBucket:
    """The rate budget of one API key and model, in Redis; a local share while Redis is down."""

    def __init__(
        self,
        redis: "Redis | None",
        key: str,
        *,
        tokens_per_minute: float,
        requests_per_minute: float,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe a bucket; nothing is sent yet.

        Args:
            redis: Where the bucket is stored; None means in this process.
            key: From `bucket_key`.
            tokens_per_minute: The account's limit.
            requests_per_minute: The account's limit.
            share: The share of both that this process uses while Redis is down, in (0, 1].
            clock: Seconds, for the local bucket and for when to call Redis again.
        """
        self._key = key
        self._redis = redis
        self._acquire_script = redis.register_script(_ACQUIRE) if redis is not None else None
        self._learn_script = redis.register_script(_LEARN) if redis is not None else None
        self._tpm, self._rpm = float(tokens_per_minute), float(requests_per_minute)
        self._local = _LocalBucket(self._tpm * share, self._rpm * share)
        self._clock = clock
        self._local_until = float("-inf")
        self._reported: tuple[float | None, float | None] = (None, None)

    def acquire(self, tokens: int, requests: int = 1, *, now_ms: float | None = None) -> float:
        """Reserve tokens and requests; return how long to wait for them.

        Call it, and wait, while no database connection is held.

        Args:
            tokens: Estimated tokens to be sent, >= 0.
            requests: Requests to be sent, >= 1.
            now_ms: Replaces Redis's clock; a test's time.

        Returns:
            Seconds to wait before sending, in [0, 20].

        Raises:
            ProviderBudgetSpent: The wait would exceed 20 s; nothing is reserved.
        """
        wait_s = self._acquire(tokens, requests, now_ms) / 1000
        if wait_s > WAIT_MAX_S:
            raise ProviderBudgetSpent(
                f"The provider's rate budget is spent for the next {wait_s:.0f} s.",
                retry_after_s=wait_s,
            )
        return wait_s

    def learn(self, heard: Heard, *, tokens: int = 0, now_ms: float | None = None) -> None:
        """Slow down to the provider's reported limits; never above the configured ones.

        Args:
            heard: The limits reported by the response's headers.
            tokens: Tokens of the answered request; the next one like it must fit as well.
            now_ms: Replaces Redis's clock; a test's time.
        """
        limits = (
            _lowered(heard.limit_tokens, self._tpm) or self._reported[0],
            _lowered(heard.limit_requests, self._rpm) or self._reported[1],
        )
        delay_ms = min(max(heard.block_s or 0.0, 0.0), BLOCK_MAX_S) * 1000
        tokens_ms = max(delay_ms, _refill_ms(tokens, heard.left_tokens, limits[0] or self._tpm))
        requests_ms = max(delay_ms, _refill_ms(1, heard.left_requests, limits[1] or self._rpm))
        if not tokens_ms and not requests_ms and limits == self._reported:
            return  # nothing new: spares Redis a call an answer
        self._reported = limits
        self._local.delay(tokens_ms, requests_ms, self._now_ms(now_ms))
        if self._learn_script is not None and self._clock() >= self._local_until:
            now = -1 if now_ms is None else now_ms
            said = ["" if limit is None else limit for limit in limits]
            try:
                self._learn_script(keys=[self._key], args=[now, tokens_ms, requests_ms, *said])
            except (RedisError, OSError):
                self._local_until = self._clock() + _LOCAL_FOR_S

    def _acquire(self, tokens: int, requests: int, now_ms: float | None) -> float:
        """Return milliseconds to wait, by Redis, or by the local share while Redis is down."""
        if self._acquire_script is not None and self._clock() >= self._local_until:
            now = -1 if now_ms is None else now_ms
            costs = [tokens, requests, self._tpm, self._rpm]
            try:
                answer = self._acquire_script(
                    keys=[self._key], args=[now, *costs, BURST_MS, WAIT_MAX_S * 1000]
                )
                return float(answer)
            except (RedisError, OSError):
                self._local_until = self._clock() + _LOCAL_FOR_S
        return self._local.acquire(tokens, requests, self._now_ms(now_ms))

    def _now_ms(self, now_ms: float | None) -> float:
        return self._clock() * 1000 if now_ms is None else now_ms


class _LocalBucket:
    """The same arithmetic in this process, while Redis is down."""

    def __init__(self, tokens_per_minute: float, requests_per_minute: float) -> None:
        self._tpm, self._rpm = tokens_per_minute, requests_per_minute
        self._tokens_ms = self._requests_ms = float("-inf")
        self._lock = Lock()

    def acquire(self, tokens: int, requests: int, now: float) -> float:
        with self._lock:
            go = max(now, self._tokens_ms, self._requests_ms)
            if go - now <= WAIT_MAX_S * 1000:
                spent = go - BURST_MS
                self._tokens_ms = max(self._tokens_ms, spent) + tokens * 60_000 / self._tpm
                self._requests_ms = max(self._requests_ms, spent) + requests * 60_000 / self._rpm
            return go - now

    def delay(self, tokens_ms: float, requests_ms: float, now: float) -> None:
        with self._lock:
            self._tokens_ms = max(self._tokens_ms, now + tokens_ms)
            self._requests_ms = max(self._requests_ms, now + requests_ms)


def bucket_key(namespace: str, api_key: str, model: str) -> str:
    """Return the Redis key of a bucket; it contains the API key as a hash only."""
    account = hashlib.sha256(f"{api_key}\0{model}".encode()).hexdigest()[:24]
    return f"{namespace}:limits:{account}"


def _lowered(limit: float | None, configured: float) -> float | None:
    """Return a provider's limit, at most ours, but never so low that nothing moves."""
    if limit is None or limit <= 0:
        return None
    return min(max(limit, configured / _FLOOR), configured)


def _refill_ms(cost: float, left: float | None, per_minute: float) -> float:
    """Return how long the provider's bucket needs until a request like the last one fits."""
    if left is None or left >= cost:
        return 0.0
    return min((cost - max(left, 0.0)) * 60_000 / per_minute, BLOCK_MAX_S * 1000)
