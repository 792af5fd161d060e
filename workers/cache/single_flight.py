"""One caller at a time for one question: within the process, and among processes through Redis."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from redis import Redis

from shared.ledger.wakeups import AWAY
from shared.observability import outages

LOCK_S: Final = 90.0  # longer than the longest call of a model that is not given up
_POLL_S: Final = 0.05
_KEY: Final = "{namespace}:cache:lock:{name}"
# A caller whose lock has expired must not release its successor's.
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(slots=True)
class _Turn:
    """The callers of one name in this process."""

    lock: Lock = field(default_factory=Lock)
    callers: int = 0


_guard = Lock()
_here: dict[str, _Turn] = {}


@contextmanager
def alone(redis: Redis | None, key: tuple[str, str], *, wait_s: float) -> Iterator[None]:
    """Run one caller at a time; one that has waited too long runs all the same.

    Args:
        redis: The shared server, or None for this process alone. A failing one is ignored: a
            question may then be answered once a process.
        key: The namespace of our keys, and the name of the lock.
        wait_s: The longest wait, in seconds.
    """
    until = time.monotonic() + wait_s
    namespace, name = key
    with _guard:
        turn = _here.setdefault(name, _Turn())
        turn.callers += 1
    is_here = turn.lock.acquire(timeout=wait_s)
    try:
        if redis is None:
            yield
        else:
            with _alone_there(redis, _KEY.format(namespace=namespace, name=name), until):
                yield
    finally:
        if is_here:
            turn.lock.release()
        with _guard:
            turn.callers -= 1
            if turn.callers == 0:
                del _here[name]


@contextmanager
def _alone_there(redis: Redis, key: str, until: float) -> Iterator[None]:
    token = secrets.token_hex(16)
    held = _take(redis, key, token)
    while held is False and time.monotonic() < until:
        time.sleep(_POLL_S)
        held = _take(redis, key, token)
    try:
        yield
    finally:
        if held:
            _release(redis, key, token)


def _take(redis: Redis, key: str, token: str) -> bool | None:
    """Return whether the lock is ours now; None where Redis is unavailable."""
    try:
        return bool(redis.set(key, token, nx=True, px=int(LOCK_S * 1000)))
    except AWAY as error:
        outages.note(error)
        return None


def _release(redis: Redis, key: str, token: str) -> None:
    try:
        redis.eval(_RELEASE, 1, key, token)
    except AWAY as error:  # it ends by itself
        outages.note(error)
