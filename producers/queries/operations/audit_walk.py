"""Reading the sealed audit log in its order, and what of it has no seal. In the auditor's role."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from shared.db import Connection

_ROWS_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """A seal and the entry that it names.

    `fields` are those of `audit_verifier.FIELDS`, None where the entry is gone; `tenant` is ""
    without one; `is_older`: the entry was there before seals were.
    """

    chain: str
    seq: int
    audit_id: str
    hash: bytes
    tenant: str
    is_older: bool
    fields: tuple[str | None, ...] | None


SELECT_SEALED: Final = """
    SELECT s."chain", s."seq", s."auditId", s."hash", coalesce(a."tenantId", '') AS "tenant",
           coalesce(a."xid" = t."begun", false) AS "isOlder",
           a."id", a."userId", a."action", a."resource", a."resourceId", a."ipAddress",
           a."userAgent", a."metadata"::text AS "metadata",
           to_char(a."createdAt", 'YYYY-MM-DD"T"HH24:MI:SS.MS') AS "createdAt"
    FROM "AuditState" t CROSS JOIN "AuditSeal" s LEFT JOIN "AuditLog" a ON a."id" = s."auditId"
    WHERE (%(chain)s::text IS NULL OR s."chain" = %(chain)s)
      AND (%(after)s::bigint IS NULL OR s."seq" > %(after)s)
      AND (%(to)s::bigint IS NULL OR s."seq" <= %(to)s)
    ORDER BY s."chain", s."seq"
"""


def select_sealed(
    conn: Connection, chain: str | None, *, after: int | None = None, to: int | None = None
) -> Iterator[SealedEntry]:
    """Yield the sealed entries of a chain, or of all, by chain and number.

    Args:
        conn: A connection in the audit reader's role.
        chain: Of this chain; None of all.
        after: From the number after this one.
        to: Up to this number.
    """
    with conn.cursor(name="sealed") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(SELECT_SEALED, {"chain": chain, "after": after, "to": to})
        for in_chain, seq, audit_id, hash_, tenant, is_older, *fields in cursor:
            found = None if fields[0] is None else tuple(fields)
            yield SealedEntry(in_chain, seq, audit_id, hash_, tenant, is_older, found)


COUNT_SEALED: Final = """
    SELECT coalesce(sum(c."seq"), 0)::bigint AS "entries" FROM "AuditChain" c
    WHERE %(chain)s::text IS NULL OR c."chain" = %(chain)s
"""


def count_sealed(conn: Connection, chain: str | None) -> int:
    """Return how many entries are sealed, of a chain or of all."""
    [count] = conn.execute(COUNT_SEALED, {"chain": chain}).fetchone() or (0,)
    return int(count)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """Entries without a seal.

    Attributes:
        pending: Committed after the last fold that was sealed.
        lost: Committed before it, so that no seal will come; `first` is the first of them.
    """

    pending: int
    lost: int
    first: str | None
    first_tenant: str | None


# What is sealed: transactions below "upto" but those that were open then; and of the fold that
# sealing stands in, what is up to its place. A transaction that is yet to come sealed nothing.
COUNT_UNSEALED: Final = """
    WITH place AS MATERIALIZED (
        SELECT f."upto", f."open", c."position" = 0 AS "isPart", t."xid", t."auditId",
               coalesce(f."lows", '{0}') AS "lows", coalesce(f."highs", ARRAY[f."fold"]) AS "highs",
               pg_snapshot_xmax(pg_current_snapshot()) AS "next"
        FROM "AuditState" t LEFT JOIN "EventCursor" c ON c."reader" = 'seals'
        LEFT JOIN "EventFold" f ON f."fold" = c."xid"
    ), bare AS (
        SELECT a."id", a."tenantId", a."xid" >= p."next" OR coalesce(
                   a."xid" < p."upto" AND a."xid" <> ALL (p."open")
                   AND NOT (p."isPart" AND (a."xid", a."id") > (p."xid", p."auditId") AND EXISTS (
                       SELECT FROM unnest(p."lows", p."highs") AS r("low", "high")
                       WHERE a."xid" >= r."low" AND a."xid" < r."high")), false) AS "isLost"
        FROM place p CROSS JOIN "AuditLog" a
        WHERE NOT EXISTS (SELECT FROM "AuditSeal" s WHERE s."auditId" = a."id")
          AND (%(chain)s::text IS NULL OR a."tenantId" = %(chain)s
               OR (%(chain)s = '' AND a."tenantId" IS NULL))
    )
    SELECT count(*) FILTER (WHERE NOT b."isLost") AS "pending",
           count(*) FILTER (WHERE b."isLost") AS "lost",
           min(b."id") FILTER (WHERE b."isLost") AS "first",
           (array_agg(coalesce(b."tenantId", '') ORDER BY b."id") FILTER (WHERE b."isLost"))[1]
               AS "firstTenant"
    FROM bare b
"""


def count_unsealed(conn: Connection, chain: str | None) -> Unsealed:
    """Count the entries without a seal, of a chain or of all."""
    # Planned for its chain: a tenant's entries are found by an index.
    row = conn.execute(COUNT_UNSEALED, {"chain": chain}, prepare=False).fetchone()
    assert row is not None, "a count yields a row"
    return Unsealed(*row)


SELECT_LIVING: Final = """
    SELECT t."id" FROM "Tenant" t WHERE t."id" = ANY (%(ids)s)
"""


def select_living(conn: Connection, ids: Collection[str]) -> set[str]:
    """Return which of these tenants exist. In the owner's role."""
    return {id_ for (id_,) in conn.execute(SELECT_LIVING, {"ids": list(ids)})}


PUT_RESULT: Final = """
    UPDATE "AuditState" SET "verifiedAt" = now(), "broken" = %(broken)s
"""


def put_result(conn: Connection, broken: str | None) -> None:
    """Store what the last verification of all chains has found; None if nothing."""
    conn.execute(PUT_RESULT, {"broken": broken})
