"""Worker processes: who lives, on which queues."""

from typing import Final

from shared.db import Connection

UPSERT_PROCESS: Final = """
    INSERT INTO "WorkerProcess" ("id", "host", "pid", "queues", "threads")
    VALUES (%(id)s, %(host)s, %(pid)s, %(queues)s::text[], %(threads)s)
    ON CONFLICT ("id") DO UPDATE SET "seenAt" = now()
"""


def upsert_process(conn: Connection, process: dict[str, object]) -> None:
    """Say that a worker process lives: its id, host, pid, queues and threads."""
    conn.execute(UPSERT_PROCESS, process)


DELETE_PROCESS: Final = """
    DELETE FROM "WorkerProcess" WHERE "id" = %(id)s
"""


def delete_process(conn: Connection, worker_id: str) -> None:
    """Say that a worker process has ended."""
    conn.execute(DELETE_PROCESS, {"id": worker_id})


DELETE_SILENT: Final = """
    DELETE FROM "WorkerProcess" WHERE "seenAt" < now() - %(silent_s)s::float8 * interval '1 second'
"""


def delete_silent(conn: Connection, *, silent_s: float) -> int:
    """Forget processes that were not heard of for `silent_s`. Returns how many."""
    return conn.execute(DELETE_SILENT, {"silent_s": silent_s}).rowcount


COUNT_PROCESSES: Final = """
    SELECT count(*) FROM "WorkerProcess" WHERE "seenAt" > now() - interval '20 seconds'
"""


def count_processes(conn: Connection) -> int:
    """How many worker processes were heard of lately."""
    row = conn.execute(COUNT_PROCESSES).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])
