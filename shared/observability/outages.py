"""Outages of Postgres and Redis as this process sees them: few log lines, and a word to the others.

What catches an error of a server notes it here. One line at its start, one a minute with a count,
one at its end; more are only counted. What Postgres can still be read with, such as a full disk,
is told to the other processes through Redis, so that /ready and `status` can say it.
"""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import redis
import structlog

from shared import server_errors
from shared.errors import ServerUnavailable
from shared.observability import error_texts
from shared.server_errors import POSTGRES, REDIS, Trouble

log = structlog.get_logger()

AGAIN_S: Final = 60.0
# An outage is over when something has worked and nothing has failed for so long: on a full disk
# reading goes on.
OVER_S: Final = 5.0
REPORT_EVERY_S: Final = 5.0
REPORT_KEPT_S: Final = 20
# Shorter ones are no incident; and how long after its end one still is.
LASTING_S: Final = 10.0
RECENT_S: Final = 300.0
INTERRUPTED: Final = "interrupted"


@dataclass(slots=True)
class Outage:
    """An outage; times are monotonic, `times` counts errors since the last log line."""

    trouble: Trouble
    since: float
    seen_at: float
    logged_at: float
    reported_at: float = -math.inf
    times: int = 0
    total: int = 0
    over: bool = False


class Outages:
    """The outages of one process, by server and kind; safe to use from every thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Outage] = {}
        self._open = 0
        self.errors = 0  # of Postgres, so far
        self._client: redis.Redis | None = None
        self._namespace = ""

    def report_to(self, client: redis.Redis | None, namespace: str = "") -> None:
        """Tell other processes through this Redis, and ask it what they tell."""
        self._client, self._namespace = client, namespace

    def note(self, error: Exception, **where: object) -> None:
        """Note an error of a server, and log it unless it was logged a moment ago."""
        trouble = server_errors.trouble_of(error)
        if trouble is None:
            code = INTERRUPTED if isinstance(error, ServerUnavailable) else "statement_failed"
            trouble = Trouble(POSTGRES, code, error_texts.message(error))
        now = self._clock()
        with self._lock:
            self.errors += trouble.server == POSTGRES
            key = (trouble.server, trouble.code)
            one = self._known.get(key)
            if one is None or one.over:
                one = self._known[key] = Outage(trouble, now, now, now)
                self._open += 1
                tell = True
            else:
                tell = now - one.logged_at >= AGAIN_S
            one.seen_at, one.trouble = now, trouble
            one.times += 1
            one.total += 1
            times, seconds = one.times, round(now - one.since, 1)
            if tell:
                one.times, one.logged_at = 0, now
            report = now - one.reported_at >= REPORT_EVERY_S
            if report:
                one.reported_at = now
        if tell:
            event = f"{trouble.server}.{'away' if trouble.code == 'away' else 'failing'}"
            more = {"times": times, "seconds": seconds} if times > 1 else {}
            log.warning(event, code=trouble.code, error=trouble.sentence, **more, **where)
        if report and trouble.server == POSTGRES and trouble.code in server_errors.READABLE:
            self._report(trouble.code)

    def worked(self, server: str) -> None:
        """Note that a server did what it was asked; ends its outages that are quiet."""
        if not self._open:
            return
        now = self._clock()
        ended = []
        with self._lock:
            for one in self._known.values():
                quiet = now - one.seen_at >= OVER_S
                if one.trouble.server == server and not one.over and quiet:
                    one.over = True
                    self._open -= 1
                    ended.append((one.trouble.code, one.seen_at - one.since, one.total))
        event = f"{server}.back"
        for code, seconds, total in ended:
            log.warning(event, code=code, seconds=round(seconds, 1), times=total)

    def lasting(self) -> list[Trouble]:
        """Return troubles of some duration that are or were just here, or that others tell."""
        now = self._clock()
        with self._lock:
            found = {
                key: one.trouble
                for key, one in self._known.items()
                if now - one.seen_at <= RECENT_S
                and one.seen_at - one.since >= LASTING_S
                and one.trouble.code != INTERRUPTED
            }
        if self._client is not None:
            for trouble in reported(self._client, self._namespace):
                found.setdefault((POSTGRES, trouble.code), trouble)
        return [trouble for _, trouble in sorted(found.items())]

    def probe_redis(self) -> None:
        """Write to Redis, and note what it answers."""
        if self._client is None:
            return
        try:
            probe(self._client, self._namespace)
        except (redis.RedisError, OSError) as error:
            self.note(error)
        else:
            self.worked(REDIS)

    def _report(self, code: str) -> None:
        if self._client is not None:
            with suppress(redis.RedisError, OSError):
                self._client.set(_key(self._namespace, code), "1", ex=REPORT_KEPT_S)


def reported(client: redis.Redis, namespace: str) -> list[Trouble]:
    """The troubles of Postgres that processes told of late; none where Redis is away."""
    codes = sorted(server_errors.READABLE)
    try:
        answers = client.mget([_key(namespace, code) for code in codes])
    except (redis.RedisError, OSError):
        return []
    assert isinstance(answers, list), "a client that does not run a pipeline answers at once"
    return [
        Trouble(POSTGRES, code, server_errors.READABLE[code])
        for code, told in zip(codes, answers, strict=True)
        if told is not None
    ]


def probe(client: redis.Redis, namespace: str) -> None:
    """Write a key: a Redis that can only be read serves nobody.

    Raises:
        redis.RedisError, OSError: It is not responding, or refuses to write.
    """
    client.set(f"{namespace}:probe", "1", ex=REPORT_KEPT_S)


def _key(namespace: str, code: str) -> str:
    return f"{namespace}:outage:{code}"


_ours = Outages()
report_to = _ours.report_to
note = _ours.note
worked = _ours.worked
lasting = _ours.lasting
probe_redis = _ours.probe_redis


def errors() -> int:
    """How many errors of Postgres this process has noted so far."""
    return _ours.errors
