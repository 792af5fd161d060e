"""Trust: store events, compute scores from them, read both."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A row of "TrustEvent"; of two about one source the greater revision holds."""

    user_id: UserId
    kind: str
    source_id: str
    value: float
    occurred_at: datetime
    revision: datetime
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class Weights:
    """The factors of the formula, a column each; half-lives in seconds."""

    kinds: Sequence[str]
    weights: Sequence[float]
    half_lives_s: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]
    base: float


UPDATE: Final = """
    SELECT "userId", "score" FROM ailydian_update_trust(
        %(people)s::text[], %(kinds)s::text[], %(sources)s::text[], %(values)s::float8[],
        %(occurred)s::timestamptz[], %(revisions)s::timestamptz[], %(withdrawals)s::bool[],
        %(factors)s::text[], %(weights)s::float8[], %(half_lives_s)s::float8[],
        %(lows)s::float8[], %(highs)s::float8[], %(base)s::float8,
        coalesce(%(at)s::timestamptz, now()))
"""


def update(
    conn: Connection,
    events: Sequence[NewEvent],
    weights: Weights,
    *,
    also: Sequence[UserId] = (),
    at: datetime | None = None,
) -> dict[UserId, float]:
    """Store events and compute the scores of the people concerned: one statement.

    Once a transaction: people are locked in the order of their ids, and a second statement would
    lock out of order.

    Args:
        conn: A connection of the tenant.
        events: In any order; those that were noted before change nothing.
        weights: The formula's numbers.
        also: More people to recompute; time alone changes scores.
        at: The time that ages are computed at; the transaction's by default.

    Returns:
        The scores, by person.
    """
    values: dict[str, object] = {
        "people": [*(one.user_id for one in events), *also],
        "kinds": [one.kind for one in events],
        "sources": [one.source_id for one in events],
        "values": [one.value for one in events],
        "occurred": [one.occurred_at for one in events],
        "revisions": [one.revision for one in events],
        "withdrawals": [one.withdrawn for one in events],
        "factors": list(weights.kinds),
        "weights": list(weights.weights),
        "half_lives_s": list(weights.half_lives_s),
        "lows": list(weights.lows),
        "highs": list(weights.highs),
        "base": weights.base,
        "at": at,
    }
    return {user_id: score for user_id, score in conn.execute(UPDATE, values)}


SELECT_SCORES: Final = """
    SELECT t."userId", t."score" FROM "TrustScore" t WHERE t."userId" = ANY(%(people)s::text[])
"""


def select_scores(conn: Connection, people: Sequence[UserId]) -> dict[UserId, float]:
    """The scores of those who have one."""
    rows = conn.execute(SELECT_SCORES, {"people": list(people)})
    return {user_id: score for user_id, score in rows}


SELECT_PEOPLE: Final = """
    SELECT u."id" FROM "User" u WHERE u."id" > %(after)s ORDER BY u."id" LIMIT %(limit)s
"""


def select_people(conn: Connection, after: str, *, limit: int) -> list[UserId]:
    """The tenant's people after an id, by id."""
    return [row[0] for row in conn.execute(SELECT_PEOPLE, {"after": after, "limit": limit})]


@dataclass(frozen=True, slots=True)
class TrustRow:
    """A person's trust: `factors` add up to `score`, together with `base`."""

    user_id: UserId
    email: str | None
    score: float
    factors: dict[str, float]
    updated_at: datetime


SELECT_TRUST: Final = """
    SELECT t."userId", u."email", t."score", t."factors",
           t."updatedAt" AT TIME ZONE 'UTC' AS "updatedAt"
    FROM "TrustScore" t LEFT JOIN "User" u ON u."id" = t."userId"
    WHERE t."tenantId" = current_setting('app.tenant_id')
      AND (%(user_id)s::text IS NULL OR t."userId" = %(user_id)s::text)
      AND t."score" < %(below)s
    ORDER BY t."score", t."userId" LIMIT %(limit)s
"""


def select_trust(
    conn: Connection, user_id: UserId | None = None, *, below: float = 2.0, limit: int = 1
) -> list[TrustRow]:
    """Those who are trusted least first: all, those below a score, or one person."""
    values = {"user_id": user_id, "below": below, "limit": limit}
    return [TrustRow(*row) for row in conn.execute(SELECT_TRUST, values)]


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event for or against a person."""

    kind: str
    source_id: str
    value: float
    occurred_at: datetime
    withdrawn: bool


SELECT_EVENTS: Final = """
    SELECT e."kind", e."sourceId", e."value", e."occurredAt", e."withdrawn" FROM "TrustEvent" e
    WHERE e."tenantId" = current_setting('app.tenant_id') AND e."userId" = %(user_id)s
    ORDER BY e."occurredAt" DESC, e."kind", e."sourceId" LIMIT %(limit)s
"""


def select_events(conn: Connection, user_id: UserId, *, limit: int) -> list[EventRow]:
    """The events of a person, newest first."""
    values = {"user_id": user_id, "limit": limit}
    return [EventRow(*row) for row in conn.execute(SELECT_EVENTS, values)]


@dataclass(frozen=True, slots=True)
class TrustSignal:
    """A row of the platform that is evidence about a person and not an event yet."""

    user_id: UserId
    kind: str
    source_id: str
    occurred_at: datetime
    ip_address: str | None
    user_agent: str | None


# A session from an address or a browser that its person never had before, except their first one
# (an unknown value does not count as new); and payments. Those of the last days: what is older was
# seen before.
SELECT_SIGNALS: Final = """
    SELECT s."userId", 'session' AS "kind", s."id" AS "sourceId",
           s."createdAt" AT TIME ZONE 'UTC' AS "occurredAt", s."ipAddress", s."userAgent"
    FROM "Session" s
    WHERE s."createdAt" > (now() - interval '3 days') AT TIME ZONE 'UTC'
      AND s."userId" = ANY(%(people)s::text[])
      AND EXISTS (SELECT FROM "Session" o
                  WHERE o."userId" = s."userId" AND o."createdAt" < s."createdAt")
      AND ((s."ipAddress" IS NOT NULL AND NOT EXISTS (
                SELECT FROM "Session" o WHERE o."userId" = s."userId"
                  AND o."createdAt" < s."createdAt" AND o."ipAddress" = s."ipAddress"))
        OR (s."userAgent" IS NOT NULL AND NOT EXISTS (
                SELECT FROM "Session" o WHERE o."userId" = s."userId"
                  AND o."createdAt" < s."createdAt" AND o."userAgent" = s."userAgent")))
      AND NOT EXISTS (SELECT FROM "TrustEvent" e
                      WHERE e."tenantId" = current_setting('app.tenant_id')
                        AND e."userId" = s."userId" AND e."kind" = 'session'
                        AND e."sourceId" = s."id")
    UNION ALL
    SELECT w."userId", 'payment', t."id", t."createdAt" AT TIME ZONE 'UTC', NULL, NULL
    FROM "WalletTransaction" t JOIN "Wallet" w ON w."id" = t."walletId"
    WHERE t."type" = 'CREDIT' AND t."amount" > 0
      AND t."createdAt" > (now() - interval '3 days') AT TIME ZONE 'UTC'
      AND w."userId" = ANY(%(people)s::text[])
      AND NOT EXISTS (SELECT FROM "TrustEvent" e
                      WHERE e."tenantId" = current_setting('app.tenant_id')
                        AND e."userId" = w."userId" AND e."kind" = 'payment'
                        AND e."sourceId" = t."id")
    ORDER BY 1, 2, 3 LIMIT %(limit)s
"""


def select_signals(conn: Connection, people: Sequence[UserId], *, limit: int) -> list[TrustSignal]:
    """Sessions from new places, and payments, that are not events yet."""
    values = {"people": list(people), "limit": limit}
    return [TrustSignal(*row) for row in conn.execute(SELECT_SIGNALS, values)]
