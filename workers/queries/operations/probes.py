"""The rows that probe jobs write."""

from collections.abc import Sequence
from typing import Final

from shared.db import Connection
from shared.ids import JobId

INSERT_ENTRY: Final = """
    INSERT INTO "ProbeEntry" ("jobId", "n") VALUES (%(job_id)s, %(n)s)
"""

INSERT_ENTRIES: Final = """
    INSERT INTO "ProbeEntry" ("jobId", "n")
    SELECT * FROM unnest(%(job_ids)s::text[], %(ns)s::int[])
"""


def insert_entry(conn: Connection, job_id: JobId, n: int) -> None:
    """Write one probe's row."""
    conn.execute(INSERT_ENTRY, {"job_id": job_id, "n": n})


def insert_entries(conn: Connection, entries: Sequence[tuple[JobId, int]]) -> None:
    """Write several probes' rows."""
    job_ids, ns = [job_id for job_id, _ in entries], [n for _, n in entries]
    conn.execute(INSERT_ENTRIES, {"job_ids": job_ids, "ns": ns})
