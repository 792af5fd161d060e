"""The wire format: Redis keys, and the signed wake-up that represents a job in Redis.

A wake-up says `{"v": 1, "job": id, "attempt": attempts made so far, "sig": signature}`. It holds
no arguments and no options: a writer to Redis can at most repeat a wake-up, and the ledger
ignores a repeated one.
"""

import json
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import AilydianError
from shared.ids import JobId
from shared.ledger import signatures

log = structlog.get_logger()

WAKEUP_BYTES_MAX = 1_024
BLOCK_S = 5.0

# What redis-py raises when Redis is down, full, read-only, loading or slow: never our bug.
AWAY = (redis.RedisError, OSError)


class BadWakeup(AilydianError):
    """Bytes in a queue that are not a valid wake-up; `reason` is a stable code."""

    code = "bad_wakeup"

    def __init__(self, reason: str) -> None:
        super().__init__(f"not a wake-up of ours: {reason}")
        self.reason = reason


class Wire:
    """Key names and signatures of one namespace on one Redis."""

    def __init__(self, namespace: str, signing_key: bytes) -> None:
        self.namespace = namespace
        self._key = signing_key

    def queue_key(self, queue: str) -> str:
        """Return the Redis list that wakes up the workers of a queue."""
        return f"{self.namespace}:queue:{queue}"

    @property
    def epoch_key(self) -> str:
        """Return a marker key whose absence reveals that Redis was wiped."""
        return f"{self.namespace}:epoch"

    def wakeup(self, queue: str, job_id: JobId, attempt: int) -> bytes:
        """Build the message that wakes a worker of `queue` up for one attempt of one job."""
        signature = signatures.sign(self._key, self.namespace, queue, job_id, attempt)
        named = f'"{job_id}"' if _is_plain(job_id) else json.dumps(job_id)
        message = f'{{"v":1,"job":{named},"attempt":{attempt},"sig":"{signature}"}}'
        return message.encode()

    def sign(self, *parts: str | int) -> str:
        """Sign something else that goes through Redis; the first part says what it is."""
        return signatures.sign(self._key, self.namespace, *parts)

    def is_signed(self, signature: str, *parts: str | int) -> bool:
        """Whether `sign` made this signature of the parts."""
        try:
            return signatures.verify(signature, self._key, self.namespace, *parts)
        except UnicodeEncodeError:
            return False

    def read(self, queue: str, message: bytes) -> tuple[JobId, int]:
        """Check a message taken from a queue.

        Returns:
            The job's id and the number of attempts made when the message was sent.

        Raises:
            BadWakeup: Not a wake-up signed for this queue.
        """
        if len(message) > WAKEUP_BYTES_MAX:
            raise BadWakeup("too_large")
        try:
            fields = json.loads(message, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError):
            raise BadWakeup("not_json") from None
        if not isinstance(fields, dict) or fields.keys() != {"v", "job", "attempt", "sig"}:
            raise BadWakeup("wrong_fields")
        job_id, attempt, signature = fields["job"], fields["attempt"], fields["sig"]
        if not (isinstance(job_id, str) and type(attempt) is int and isinstance(signature, str)):
            raise BadWakeup("wrong_types")
        try:
            genuine = signatures.verify(
                signature, self._key, self.namespace, queue, job_id, attempt
            )
        except UnicodeEncodeError:
            raise BadWakeup("not_unicode") from None
        if not genuine:
            raise BadWakeup("wrong_signature")
        if fields["v"] != 1:
            raise BadWakeup("unknown_version")
        return JobId(job_id), attempt


def connect(url: str, *, timeout_s: float = BLOCK_S + 5.0) -> redis.Redis:
    """Create a Redis client with time limits; retrying is left to the caller.

    Args:
        url: The URL of Redis.
        timeout_s: Time limit of a reply; above `BLOCK_S` if reads block that long.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, 5.0),
        retry=Retry(NoBackoff(), 0),
    )


def is_wrong_type(answer: object) -> bool:
    """Whether Redis reports that one of our keys has the wrong type."""
    return isinstance(answer, redis.ResponseError) and str(answer).startswith("WRONGTYPE")


def mend(client: redis.Redis, key: str) -> None:
    """Delete one of our keys that was overwritten with the wrong type.

    Nothing is lost: wake-ups are sent again from Postgres.
    """
    client.delete(key)
    log.error("redis.mended", key=key)


def _is_plain(text: str) -> bool:
    """Whether a text needs no escapes in JSON: our ids need none, a publisher's may."""
    return text.isprintable() and '"' not in text and "\\" not in text


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field appears twice")
    return fields
