"""The quarantine: invalid messages from Redis. In the relay's role."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.db import Connection

KEPT_MAX = 100_000
KEPT_SLACK = 5_000
# Counting costs milliseconds: one batch in sixteen pays for it.
_LOOKS = "0"


@dataclass(frozen=True, slots=True)
class QuarantineFilters:
    """Filters on messages; None matches any. `error` is a regular expression on the reason."""

    queue: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BadMessage:
    """An invalid message."""

    reason: str
    head: bytes
    size: int
    sha256: str


INSERT_QUARANTINED: Final = """
    INSERT INTO "Quarantine" ("queue", "source", "reason", "message", "bytes", "sha256", "seen")
    SELECT %(queue)s, %(source)s, q."reason", q."message", q."bytes", q."sha256", q."seen"
    FROM unnest(%(reasons)s::text[], %(messages)s::bytea[], %(bytes)s::bigint[],
                %(hashes)s::text[], %(seen)s::bigint[])
         AS q("reason", "message", "bytes", "sha256", "seen")
    ORDER BY q."sha256"
    ON CONFLICT ("queue", "sha256") DO UPDATE
    SET "seen" = "Quarantine"."seen" + excluded."seen", "seenAt" = now()
"""


def insert_quarantined(
    conn: Connection, queue: str, messages: Sequence[BadMessage], *, source: str = "wakeup"
) -> None:
    """Store invalid messages, for operators to inspect; `source` is `wakeup` or `door`.

    The same bytes again are only counted. Of more than `KEPT_MAX` messages the oldest go: a flood
    of nonsense does not fill the disk.
    """
    seen = Counter(message.sha256 for message in messages)
    messages = list({message.sha256: message for message in messages}.values())
    values: dict[str, object] = {
        "queue": queue,
        "source": source,
        "reasons": [message.reason for message in messages],
        "messages": [message.head for message in messages],
        "bytes": [message.size for message in messages],
        "hashes": [message.sha256 for message in messages],
        "seen": [seen[message.sha256] for message in messages],
    }
    conn.execute(INSERT_QUARANTINED, values)
    if any(message.sha256.startswith(_LOOKS) for message in messages[:1]):
        trim(conn)


# The limit may be exceeded a little, so that many are deleted at once and the audit log gets one
# row for all of them.
TRIM: Final = """
    WITH gone AS (
        DELETE FROM "Quarantine" q WHERE q."id" = ANY(ARRAY(
            SELECT o."id" FROM "Quarantine" o
            WHERE EXISTS (SELECT FROM "Quarantine" x
                          ORDER BY x."receivedAt" DESC OFFSET %(most)s LIMIT 1)
              AND o."receivedAt" <= (SELECT x."receivedAt" FROM "Quarantine" x
                                     ORDER BY x."receivedAt" DESC OFFSET %(kept)s LIMIT 1)
            ORDER BY o."receivedAt" LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ))
        RETURNING q."queue"
    ), counted AS (
        SELECT g."queue", count(*) AS "count" FROM gone g GROUP BY g."queue"
    ), noted AS (
        INSERT INTO "AuditLog" ("userId", "action", "resource", "metadata")
        SELECT 'platform', 'quarantine.trim', 'Quarantine',
               jsonb_build_object('count', sum(c."count"),
                                  'queues', jsonb_object_agg(c."queue", c."count"))
        FROM counted c HAVING count(*) > 0
    )
    SELECT coalesce(sum(c."count"), 0)::bigint FROM counted c
"""


def trim(conn: Connection, *, kept: int = KEPT_MAX, slack: int = KEPT_SLACK) -> int:
    """Delete the oldest messages above the limit. Returns how many.

    Args:
        conn: A connection in the relay's role.
        kept: How many stay.
        slack: How many more there may be before any goes.
    """
    values = {"kept": kept, "most": kept + slack, "limit": 2 * slack}
    row = conn.execute(TRIM, values).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A quarantined message; `message` is its beginning."""

    id: str
    queue: str
    reason: str
    size_bytes: int
    sha256: str
    received_at: datetime
    source: str
    seen: int
    seen_at: datetime
    edits: list[dict[str, Any]]
    message: bytes


SELECT_QUARANTINED: Final = """
    SELECT q."id", q."queue", q."reason", q."bytes" AS "sizeBytes", q."sha256", q."receivedAt",
           q."source", q."seen", q."seenAt", q."edits", q."message"
    FROM "Quarantine" q
    WHERE (%(ids)s::text[] IS NULL OR q."id" = ANY(%(ids)s))
      AND (%(queue)s::text IS NULL OR q."queue" = %(queue)s)
      AND (%(error)s::text IS NULL OR q."reason" ~ %(error)s)
      AND (%(since)s::timestamptz IS NULL OR q."receivedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR q."receivedAt" <= %(until)s)
      AND (%(before)s::timestamptz IS NULL
           OR (q."receivedAt", q."id") < (%(before)s, %(before_id)s::text))
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

# Pages go by the primary key, without the messages themselves.
SELECT_IDS: Final = """
    SELECT q."id" FROM "Quarantine" q
    WHERE q."id" > %(after)s
      AND (%(ids)s::text[] IS NULL OR q."id" = ANY(%(ids)s))
      AND (%(queue)s::text IS NULL OR q."queue" = %(queue)s)
      AND (%(error)s::text IS NULL OR q."reason" ~ %(error)s)
      AND (%(since)s::timestamptz IS NULL OR q."receivedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR q."receivedAt" <= %(until)s)
    ORDER BY q."id" LIMIT %(limit)s
"""


def select_quarantined(
    conn: Connection,
    wanted: QuarantineFilters,
    *,
    ids: Sequence[str] | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[QuarantinedRow]:
    """Quarantined messages, newest first; of the filters, `error` matches the reason.

    Args:
        conn: A connection in the relay's role.
        wanted: Filters.
        ids: Of messages; None means any.
        before: Time and id of the last row of the page before.
        limit: Maximum rows.
    """
    at, before_id = before or (None, None)
    values = _values(wanted, ids) | {"before": at, "before_id": before_id, "limit": limit}
    return [QuarantinedRow(*row) for row in conn.execute(SELECT_QUARANTINED, values)]


def count_quarantined(
    conn: Connection, wanted: QuarantineFilters, *, ids: Sequence[str] | None = None
) -> int:
    """Count quarantined messages."""
    row = conn.execute(COUNT_QUARANTINED, _values(wanted, ids)).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


def select_ids(
    conn: Connection,
    wanted: QuarantineFilters,
    *,
    ids: Sequence[str] | None,
    after: str,
    limit: int,
) -> list[str]:
    """The ids of a page of messages, those after `after`."""
    values = _values(wanted, ids) | {"after": after, "limit": limit}
    return [row[0] for row in conn.execute(SELECT_IDS, values)]


@dataclass(frozen=True, slots=True)
class TakenRow:
    """A message that has just left the quarantine, whole or (`size_bytes` larger) its head."""

    id: str
    queue: str
    size_bytes: int
    message: bytes


DISCARD: Final = """
    DELETE FROM "Quarantine" WHERE "id" = ANY(%(ids)s::text[])
    RETURNING "id", "queue", "bytes" AS "sizeBytes", ''::bytea AS "message"
"""

# Only what was kept whole can be sent again.
TAKE_WHOLE: Final = """
    DELETE FROM "Quarantine"
    WHERE "id" = ANY(%(ids)s::text[]) AND "bytes" = octet_length("message")
      AND "source" = 'wakeup'
    RETURNING "id", "queue", "bytes" AS "sizeBytes", "message"
"""


# What a door's reader may still add to is locked until it is sent.
SELECT_ENTRIES: Final = """
    SELECT q."id", q."queue", q."bytes" AS "sizeBytes", q."message" FROM "Quarantine" q
    WHERE q."id" = ANY(%(ids)s::text[]) AND q."bytes" = octet_length(q."message")
      AND q."source" = 'door'
    ORDER BY q."id" FOR UPDATE
"""


def select_entries(conn: Connection, ids: Sequence[str]) -> list[TakenRow]:
    """Lock those messages that are whole entries of the Redis door, to send them again."""
    return [TakenRow(*row) for row in conn.execute(SELECT_ENTRIES, {"ids": list(ids)})]


def discard(conn: Connection, ids: Sequence[str]) -> list[TakenRow]:
    """Delete messages. Returns those that existed, without their bytes."""
    return [TakenRow(*row) for row in conn.execute(DISCARD, {"ids": list(ids)})]


def take_whole(conn: Connection, ids: Sequence[str]) -> list[TakenRow]:
    """Take messages out to send them again before this transaction commits.

    Until then the rows are locked: the same bytes, arriving once more, wait and become a new row.
    """
    return [TakenRow(*row) for row in conn.execute(TAKE_WHOLE, {"ids": list(ids)})]


EDIT: Final = """
    UPDATE "Quarantine"
    SET "message" = %(message)s, "bytes" = octet_length(%(message)s::bytea),
        "sha256" = %(sha256)s, "edits" = "edits" || %(diff)s::jsonb
    WHERE "id" = %(id)s AND "sha256" = %(before)s
"""


def edit(
    conn: Connection, row: QuarantinedRow, message: bytes, sha256: str, diff: Mapping[str, Any]
) -> bool:
    """Replace the bytes of a message. Returns False if it no longer exists or was changed.

    Raises:
        psycopg.errors.UniqueViolation: The queue's quarantine holds these bytes already.
    """
    values = {
        "id": row.id,
        "before": row.sha256,
        "message": message,
        "sha256": sha256,
        "diff": Jsonb([dict(diff)]),
    }
    return conn.execute(EDIT, values).rowcount == 1


def _values(wanted: QuarantineFilters, ids: Sequence[str] | None) -> dict[str, object]:
    return {
        "ids": None if ids is None else list(ids),
        "queue": wanted.queue,
        "error": wanted.error,
        "since": wanted.since,
        "until": wanted.until,
    }
