"""Quarantined messages: bytes from Redis that are none of ours. In the relay's role."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Filters:
    """Which messages are meant; None means any. `error` is a regular expression on the reason."""

    queue: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BadMessage:
    """Bytes that are no wake-up of ours."""

    reason: str
    head: bytes
    size: int
    sha256: str


INSERT_QUARANTINED: Final = """
    INSERT INTO "Quarantine" ("queue", "reason", "message", "bytes", "sha256")
    SELECT %(queue)s, q."reason", q."message", q."bytes", q."sha256"
    FROM unnest(%(reasons)s::text[], %(messages)s::bytea[], %(bytes)s::bigint[],
                %(hashes)s::text[]) AS q("reason", "message", "bytes", "sha256")
    ORDER BY q."sha256"
    ON CONFLICT ("queue", "sha256") DO UPDATE
    SET "seen" = "Quarantine"."seen" + 1, "seenAt" = now()
"""


def insert_quarantined(conn: Connection, queue: str, messages: Sequence[BadMessage]) -> None:
    """Keep messages that could not be understood, for people to look at."""
    messages = list({message.sha256: message for message in messages}.values())
    values: dict[str, object] = {
        "queue": queue,
        "reasons": [message.reason for message in messages],
        "messages": [message.head for message in messages],
        "bytes": [message.size for message in messages],
        "hashes": [message.sha256 for message in messages],
    }
    conn.execute(INSERT_QUARANTINED, values)


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """Bytes that arrived in Redis and are no wake-up of ours; `message` is their beginning."""

    id: str
    queue: str
    reason: str
    size_bytes: int
    sha256: str
    received_at: datetime
    message: bytes


SELECT_QUARANTINED: Final = """
    SELECT q."id", q."queue", q."reason", q."bytes", q."sha256", q."receivedAt", q."message"
    FROM "Quarantine" q
    WHERE (%(ids)s::text[] IS NULL OR q."id" = ANY(%(ids)s))
      AND (%(queue)s::text IS NULL OR q."queue" = %(queue)s)
      AND (%(error)s::text IS NULL OR q."reason" ~ %(error)s)
      AND (%(since)s::timestamptz IS NULL OR q."receivedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR q."receivedAt" <= %(until)s)
    ORDER BY q."receivedAt" DESC, q."id" DESC LIMIT %(limit)s
"""

COUNT_QUARANTINED: Final = """
    SELECT count(*) FROM "Quarantine" q
    WHERE (%(ids)s::text[] IS NULL OR q."id" = ANY(%(ids)s))
      AND (%(queue)s::text IS NULL OR q."queue" = %(queue)s)
      AND (%(error)s::text IS NULL OR q."reason" ~ %(error)s)
      AND (%(since)s::timestamptz IS NULL OR q."receivedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR q."receivedAt" <= %(until)s)
"""

DELETE_QUARANTINED: Final = """
    DELETE FROM "Quarantine" q
    WHERE (%(ids)s::text[] IS NULL OR q."id" = ANY(%(ids)s))
      AND (%(queue)s::text IS NULL OR q."queue" = %(queue)s)
      AND (%(error)s::text IS NULL OR q."reason" ~ %(error)s)
      AND (%(since)s::timestamptz IS NULL OR q."receivedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR q."receivedAt" <= %(until)s)
"""


def select_quarantined(
    conn: Connection, wanted: Filters, *, ids: Sequence[str] | None = None, limit: int
) -> list[QuarantinedRow]:
    """Quarantined messages, newest first; of the filters, `error` matches the reason."""
    values = _of_quarantine(wanted, ids) | {"limit": limit}
    return [QuarantinedRow(*row) for row in conn.execute(SELECT_QUARANTINED, values)]


def count_quarantined(
    conn: Connection, wanted: Filters, *, ids: Sequence[str] | None = None
) -> int:
    """How many messages are quarantined."""
    row = conn.execute(COUNT_QUARANTINED, _of_quarantine(wanted, ids)).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


def delete_quarantined(
    conn: Connection, wanted: Filters, *, ids: Sequence[str] | None = None
) -> int:
    """Throw quarantined messages away. Returns how many."""
    return conn.execute(DELETE_QUARANTINED, _of_quarantine(wanted, ids)).rowcount


def _of_quarantine(wanted: Filters, ids: Sequence[str] | None) -> dict[str, object]:
    return {
        "ids": None if ids is None else list(ids),
        "queue": wanted.queue,
        "error": wanted.error,
        "since": wanted.since,
        "until": wanted.until,
    }
