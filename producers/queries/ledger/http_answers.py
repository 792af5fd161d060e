"""Answers of the HTTP API to requests with an Idempotency-Key, one row a tenant and key."""

from dataclasses import dataclass, field
from typing import Final

from psycopg.types.json import Jsonb

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer, to the byte, and the hash of the request that it was given to."""

    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


# Until the transaction ends. Names and keys of tenants hash to one number each: two that collide
# by chance answer 409 to the second of two requests at once.
LOCK_KEY: Final = """
    SELECT pg_try_advisory_xact_lock(
        hashtextextended(current_setting('app.tenant_id') || ' ' || %(key)s, 0))
"""


def lock_key(conn: Connection, key: str) -> bool:
    """Whether no other request with this key is being answered now."""
    row = conn.execute(LOCK_KEY, {"key": key}).fetchone()
    assert row is not None, "a function yields a row"
    return bool(row[0])


LOCK_ADDRESS: Final = """
    SELECT pg_advisory_xact_lock(
        hashtextextended(current_setting('app.tenant_id') || ' at ' || %(path)s, 0))
"""


def lock_address(conn: Connection, path: str) -> None:
    """Wait until no other conditional request of the tenant changes what is at this address."""
    conn.execute(LOCK_ADDRESS, {"path": path})


SELECT_ANSWER: Final = """
    SELECT a."fingerprint", a."status", a."headers", a."body" FROM "HttpAnswer" a
    WHERE a."tenantId" = current_setting('app.tenant_id') AND a."key" = %(key)s
"""


def select_answer(conn: Connection, key: str) -> KeptAnswer | None:
    """What a request with this key was answered."""
    row = conn.execute(SELECT_ANSWER, {"key": key}).fetchone()
    return None if row is None else KeptAnswer(*row)


INSERT_ANSWER: Final = """
    INSERT INTO "HttpAnswer" ("tenantId", "key", "fingerprint", "status", "headers", "body")
    VALUES (current_setting('app.tenant_id'), %(key)s, %(fingerprint)s, %(status)s, %(headers)s,
            %(body)s)
"""


def insert_answer(conn: Connection, key: str, answer: KeptAnswer) -> None:
    """Keep an answer; it commits with what it answers."""
    values = {
        "key": key,
        "fingerprint": answer.fingerprint,
        "status": answer.status,
        "headers": Jsonb(answer.headers),
        "body": answer.body,
    }
    conn.execute(INSERT_ANSWER, values)


DELETE_OLD: Final = """
    DELETE FROM "HttpAnswer" WHERE ("tenantId", "key") IN (
        SELECT "tenantId", "key" FROM "HttpAnswer"
        WHERE "createdAt" < now() - make_interval(secs => %(kept_s)s)
        ORDER BY "createdAt" LIMIT %(limit)s)
"""


def delete_old(conn: Connection, *, kept_s: float, limit: int) -> int:
    """Delete answers that are older, in the relay's role. Returns how many."""
    return conn.execute(DELETE_OLD, {"kept_s": kept_s, "limit": limit}).rowcount
