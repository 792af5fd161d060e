"""Links that sign in once, in the owner's role."""

from dataclasses import dataclass, field
from typing import Final

from shared.db import Connection
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class NewLink:
    """What is stored of a link: a hash of its secret."""

    hash: str = field(repr=False)
    user_id: UserId
    made_by: str
    lasts_s: float


INSERT_LINK: Final = """
    INSERT INTO "LoginLink" ("hash", "userId", "madeBy", "expiresAt")
    VALUES (%(hash)s, %(user_id)s, %(made_by)s,
            now() + make_interval(secs => %(lasts_s)s::double precision))
"""


def insert_link(conn: Connection, link: NewLink) -> None:
    """Store a link."""
    values = {
        "hash": link.hash,
        "user_id": link.user_id,
        "made_by": link.made_by,
        "lasts_s": link.lasts_s,
    }
    conn.execute(INSERT_LINK, values)


USE_LINK: Final = """
    UPDATE "LoginLink" l SET "usedAt" = now()
    WHERE l."hash" = ANY(%(hashes)s) AND l."usedAt" IS NULL AND l."expiresAt" > now()
    RETURNING l."userId"
"""


def use_link(conn: Connection, hashes: list[str]) -> UserId | None:
    """Use a link up. Returns whose it was; None where it is unknown, used or expired."""
    row = conn.execute(USE_LINK, {"hashes": hashes}).fetchone()
    return None if row is None else UserId(row[0])


DELETE_OLD_LINKS: Final = """
    DELETE FROM "LoginLink" WHERE "hash" IN (
        SELECT l."hash" FROM "LoginLink" l WHERE l."expiresAt" < now() - interval '1 day'
        LIMIT %(limit)s)
"""


def delete_old_links(conn: Connection, *, limit: int) -> int:
    """Delete links that expired a day ago. Returns how many."""
    return conn.execute(DELETE_OLD_LINKS, {"limit": limit}).rowcount
