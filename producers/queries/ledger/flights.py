"""Jobs in flight: what there is to mend. In the relay's role."""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class FlightFigures:
    """The jobs in flight of a queue: how many are unclaimed, and what there is to mend."""

    queue: str
    waiting: int
    late: bool
    stale: bool
    lapsed: bool


# Where an open transaction keeps vacuum away, every look passes all flights since: one tells what
# else is to be done, and reads the table from end to end.
READ_WHOLE: Final = """
    SET LOCAL enable_seqscan = on
"""

SELECT_FLIGHTS: Final = """
    SELECT f."queue", count(*) FILTER (WHERE j."state" = 'PENDING') AS "waiting",
           coalesce(bool_or(j."state" = 'PENDING' AND f."sentAt"
               < now() - %(older_s)s::float8 * interval '1 second'), false) AS "late",
           bool_or(coalesce(j."state" NOT IN ('PENDING', 'RUNNING'), true)) AS "stale",
           coalesce(bool_or(j."state" = 'RUNNING' AND j."leaseUntil" < now()), false) AS "lapsed"
    FROM "JobFlight" f LEFT JOIN "Job" j ON j."id" = f."jobId" GROUP BY f."queue"
"""


def select_flights(conn: Connection, *, older_s: float) -> list[FlightFigures]:
    """The figures of each queue; `late` are wake-ups that were sent more than `older_s` ago."""
    return [FlightFigures(*row) for row in conn.execute(SELECT_FLIGHTS, {"older_s": older_s})]


# A flight whose job has ended is left by a duplicate that was claimed while the first waited.
DELETE_STALE: Final = """
    DELETE FROM "JobFlight" f
    WHERE NOT EXISTS (
        SELECT 1 FROM "Job" j WHERE j."id" = f."jobId" AND j."state" IN ('PENDING', 'RUNNING'))
"""


def delete_stale(conn: Connection) -> int:
    """Remove flights of jobs that have ended. Returns how many."""
    return conn.execute(DELETE_STALE).rowcount
