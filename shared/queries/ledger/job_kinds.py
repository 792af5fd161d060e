"""The kinds of jobs that the database knows."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from shared.db import Connection

INSERT_MISSING: Final = """
    INSERT INTO "JobKind" ("job", "queue", "schemaVersion", "attemptsMax", "audience")
    SELECT * FROM unnest(%(jobs)s::text[], %(queues)s::text[], %(versions)s::int[],
                         %(attempts)s::int[], %(audiences)s::text[])
    ON CONFLICT ("job") DO NOTHING
"""


class JobKindRow(NamedTuple):
    """What the database knows of a contract."""

    job: str
    queue: str
    schema_version: int
    attempts_max: int
    audience: str


def insert_missing(conn: Connection, kinds: Sequence[JobKindRow]) -> int:
    """Register kinds; known ones stay as they are.

    Returns:
        How many were new.
    """
    jobs, queues, versions, attempts, audiences = zip(*kinds, strict=True)
    values = {
        "jobs": list(jobs),
        "queues": list(queues),
        "versions": list(versions),
        "attempts": list(attempts),
        "audiences": list(audiences),
    }
    return conn.execute(INSERT_MISSING, values).rowcount


# A database that was told of no kinds knows nothing against any.
SELECT_UNREGISTERED: Final = """
    SELECT m."job" FROM unnest(%(jobs)s::text[]) AS m("job")
    WHERE EXISTS (SELECT FROM "JobKind")
      AND NOT EXISTS (SELECT FROM "JobKind" k WHERE k."job" = m."job")
"""


def select_unregistered(conn: Connection, jobs: Sequence[str]) -> set[str]:
    """Those of these kinds that no process has registered."""
    return {job for (job,) in conn.execute(SELECT_UNREGISTERED, {"jobs": list(jobs)})}
