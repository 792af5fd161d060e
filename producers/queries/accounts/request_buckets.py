"""Token buckets of requests, one row a subject, in the owner's role."""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Grant:
    """What a bucket gave, and what is left in it."""

    granted: float
    tokens: float


# The first to come finds it full.
INSERT_BUCKET: Final = """
    INSERT INTO "RequestBucket" ("subject", "tokens", "filledAt")
    VALUES (%(subject)s, %(burst)s, clock_timestamp())
    ON CONFLICT ("subject") DO NOTHING
"""

# Half of what is there at most, so that other processes find some; one where less than two are.
# Who has waited for the row reads it again, with the moment at which the wait began: time that was
# counted already is not counted twice.
TAKE: Final = """
    WITH level AS (
        SELECT b."subject", greatest(b."filledAt", n."at") AS "at",
               least(%(burst)s::double precision, b."tokens" + %(returned)s::double precision
                   + %(per_s)s::double precision
                   * greatest(0, extract(epoch FROM n."at" - b."filledAt"))) AS "tokens"
        FROM (SELECT clock_timestamp() AS "at") n, "RequestBucket" b
        WHERE b."subject" = %(subject)s
        FOR UPDATE OF b
    ), share AS (
        SELECT l."subject", l."at", l."tokens",
               least(%(wanted)s::double precision,
                     greatest(least(1, floor(l."tokens")), floor(l."tokens" / 2))) AS "granted"
        FROM level l
    )
    UPDATE "RequestBucket" b SET "tokens" = s."tokens" - s."granted", "filledAt" = s."at"
    FROM share s WHERE b."subject" = s."subject"
    RETURNING s."granted"::double precision, b."tokens"
"""


def take(
    conn: Connection, subject: str, *, per_s: float, burst: float, wanted: float, returned: float
) -> Grant:
    """Take tokens out of a bucket, and give back what is left of those taken before.

    It is filled by the server's clock: however many processes take, no more come out of it.
    """
    values = {
        "subject": subject,
        "per_s": per_s,
        "burst": burst,
        "wanted": wanted,
        "returned": returned,
    }
    row = conn.execute(TAKE, values).fetchone()
    if row is None:
        conn.execute(INSERT_BUCKET, {"subject": subject, "burst": burst})
        row = conn.execute(TAKE, values).fetchone()
    assert row is not None, "inserted now or there before; only the sweep deletes, and not new ones"
    return Grant(*row)


# A burst is at most what its rate fills in a day: "RequestRule_rate_check". The time is compared
# once more for the one that is asked for meanwhile.
DELETE_FULL: Final = """
    DELETE FROM "RequestBucket" b
    WHERE b."filledAt" < now() - interval '1 day' AND b."subject" IN (
        SELECT f."subject" FROM "RequestBucket" f WHERE f."filledAt" < now() - interval '1 day'
        LIMIT %(limit)s)
"""


def delete_full(conn: Connection, *, limit: int) -> int:
    """Delete buckets that nobody has asked for a day: they are full. Returns how many."""
    return conn.execute(DELETE_FULL, {"limit": limit}).rowcount
