"""The invariants that hold after every fault, as one function.

I1 each accepted job has ended, once. I2 each has as many effects as its kind, 0 where it did not
complete. I4 each operator's act has its row in the audit log. I6 chunks and vectors fit. I7 every
process has its threads. I8 nothing lies with another tenant; connections and files are given
back. I9 what can run runs. I10 dead jobs and letters are the same. I11 no secret is in a log. I12
indexes are sound. And the ledger: what state a job is in is told by where its other row lies, and
counters count each ending once. I3 (money) and I5 (steps) come with wallets and workflows.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import psycopg

from tests.acceptance.faults.plant import KEY, Plant
from tests.support.patience import patience

OLDEST_S = 5.0
RECOVERED_S = 30.0
THREADS_S = 5.0
# What a process may have open over what it had when it was young: its pool, grown to its size.
FILES_MORE = 24


@dataclass
class Verdict:
    """What was found: sentences that say what is broken, and figures."""

    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


# Each finds rows that must not be. One line a kind of damage: the sentence, then the query.
NEVER = {
    "I1 a job has not ended just once": """
        SELECT j."id", j."state" FROM "Job" j LEFT JOIN (
            SELECT "jobId", count(*) FILTER (WHERE "what" IN ('COMPLETED', 'DEAD', 'CANCELLED'))
                     - count(*) FILTER (WHERE "what" = 'REPLAYED') AS "ends"
            FROM "JobEvent" GROUP BY 1
        ) e ON e."jobId" = j."id"
        WHERE coalesce(e."ends", 0) <> (j."state" IN ('COMPLETED', 'DEAD', 'CANCELLED'))::int""",
    "I2 an effect of no job, or of one that did not complete": """
        SELECT p."jobId" FROM "ProbeEntry" p LEFT JOIN "Job" j ON j."id" = p."jobId"
        WHERE j."state" IS DISTINCT FROM 'COMPLETED'""",
    "I2 an effect was had twice": """
        SELECT "jobId" FROM "ProbeEntry" GROUP BY 1 HAVING count(*) > 1""",
    "the other row of a job lies in a wrong place": """
        SELECT j."id", j."state", o."n", f."n" FROM "Job" j
        LEFT JOIN (SELECT "jobId", count(*) AS "n" FROM "JobOutbox" GROUP BY 1) o
            ON o."jobId" = j."id"
        LEFT JOIN (SELECT "jobId", count(*) AS "n" FROM "JobFlight" GROUP BY 1) f
            ON f."jobId" = j."id"
        WHERE coalesce(o."n", 0) + coalesce(f."n", 0)
                <> (j."state" IN ('PENDING', 'RUNNING'))::int
           OR j."state" = 'RUNNING' AND f."n" IS NULL""",
    "a row waits for a job that is not": """
        SELECT "jobId" FROM (SELECT "jobId" FROM "JobOutbox" UNION ALL
                             SELECT "jobId" FROM "JobFlight") w
        WHERE NOT EXISTS (SELECT FROM "Job" j WHERE j."id" = w."jobId")""",
    "I6 a chunk has no vector, or none of its tenant": """
        SELECT c."id" FROM "DocumentChunk" c LEFT JOIN "ChunkEmbedding" e ON e."chunkId" = c."id"
        WHERE (e."tenantId" IS DISTINCT FROM c."tenantId" OR vector_dims(e."embedding") <> 1536
           OR vector_norm(e."embedding") NOT BETWEEN 0.99 AND 1.01)
        EXCEPT SELECT jsonb_array_elements_text(j."payload" -> 'chunk_ids') FROM "Job" j
        WHERE j."job" = 'embed_chunks' AND j."state" = 'DEAD'""",
    "I6 a chunk is not what its document says there": """
        SELECT c."id" FROM "DocumentChunk" c JOIN "Document" d ON d."id" = c."documentId"
        WHERE c."tenantId" <> d."tenantId" OR d."ingestedSha256" <> d."contentSha256" OR c."content"
            <> substr(d."content", c."startOffset" + 1, c."endOffset" - c."startOffset")""",
    "I8 a row lies with another tenant": """
        SELECT j."id" FROM "Job" j LEFT JOIN "ProbeEntry" p ON p."jobId" = j."id"
        LEFT JOIN "DeadLetter" d ON d."jobId" = j."id" LEFT JOIN "Job" c ON c."id" = j."parentId"
        WHERE j."payload" ->> 'canary' <> 'canary-' || j."tenantId"
           OR p."tenantId" <> j."tenantId" OR d."tenantId" <> j."tenantId"
           OR c."tenantId" <> j."tenantId"
        UNION ALL SELECT e."jobId" FROM "JobEvent" e JOIN "Job" j ON j."id" = e."jobId"
        WHERE e."tenantId" <> j."tenantId"
        UNION ALL SELECT "id" FROM "Document"
        WHERE "content" LIKE '%%canary-%%'
          AND position('canary-' || "tenantId" in "content") = 0""",
    "I8 a transaction was left open": """
        SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()
          AND state LIKE 'idle in transaction%%' AND state_change < now() - interval '5 seconds'""",
    "I10 a dead job without its letter, or a letter without its job": """
        SELECT j."id", d."id" FROM (SELECT * FROM "Job" WHERE "state" = 'DEAD') j
        FULL JOIN "DeadLetter" d ON d."jobId" = j."id" WHERE j."id" IS NULL OR d."id" IS NULL""",
}
OLDEST = """
    SELECT coalesce(extract(epoch FROM now() - min(w."at")), 0)::float8 FROM (
        SELECT o."dueAt" AS "at" FROM "JobOutbox" o
        UNION ALL SELECT f."sentAt" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE j."state" = 'PENDING') w WHERE w."at" < now()
"""
FOLDED = """
    SELECT (SELECT coalesce(sum("completed" + "dead"), 0) FROM "JobStat"),
           (SELECT count(*) FROM "JobEvent" WHERE "what" IN ('COMPLETED', 'DEAD'))
"""
INDEXES = """
    SELECT c.relname, c.oid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_am a ON a.oid = c.relam
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'i' AND a.amname = 'btree'
      AND i.indisvalid
"""


def check(plant: Plant, *, patience_s: float = 90.0, indexes: bool = True) -> Verdict:
    """Wait until the plant is calm again, then look for everything that must not be.

    Args:
        plant: The plant; the fault is over, and nobody publishes.
        patience_s: How long all jobs may take to end.
        indexes: Whether to read every index through.

    Returns:
        What is broken, in sentences, and how long it took to recover and to end.
    """
    verdict = Verdict()
    began = time.monotonic()
    recovery_s = _until(plant, lambda: _oldest_s(plant) < patience(OLDEST_S), patience_s)
    verdict.figures["recovery_s"] = recovery_s
    if recovery_s > patience(RECOVERED_S):
        verdict.broken.append(f"I9 what can run waited for {recovery_s:.0f} s")
    _until(plant, plant.is_calm, patience_s)
    verdict.figures["ended_s"] = time.monotonic() - began
    verdict.broken += _accepted(plant)
    for sentence, query in NEVER.items():
        if found := plant.rows(query):
            verdict.broken.append(f"{sentence}: {len(found)}, as {found[:3]}")
    verdict.broken += _counted(plant) + _audited(plant) + _processes(plant) + _logs(plant)
    if indexes:
        verdict.broken += _indexes(plant)
    return verdict


def _until(plant: Plant, true: Callable[[], bool], patience_s: float) -> float:
    began = time.monotonic()
    while not true() and time.monotonic() - began < patience(patience_s):
        plant.pause(0.1)
    return time.monotonic() - began


def _oldest_s(plant: Plant) -> float:
    return float(plant.rows(OLDEST)[0][0])


def _accepted(plant: Plant) -> list[str]:
    states = dict(plant.rows('SELECT "id", "state" FROM "Job"'))
    effects = dict(plant.rows('SELECT "jobId", count(*) FROM "ProbeEntry" GROUP BY 1'))
    broken = []
    missing = plant.accepted.keys() - states.keys()
    if missing:
        broken.append(f"I1 accepted and gone: {len(missing)}, as {sorted(missing)[:3]}")
    waiting = [job_id for job_id, state in states.items() if state in {"PENDING", "RUNNING"}]
    if waiting:
        broken.append(f"I1 not ended: {len(waiting)}, as {waiting[:3]}")
    wrong = [
        job_id
        for job_id, expected in plant.accepted.items()
        if states.get(job_id) == "COMPLETED" and effects.get(job_id, 0) != expected
    ]
    if wrong:
        broken.append(f"I2 completed with a wrong number of effects: {len(wrong)}, as {wrong[:3]}")
    return broken


def _counted(plant: Plant) -> list[str]:
    def equal() -> bool:
        [(counted, noted)] = plant.rows(FOLDED)
        return int(counted) == int(noted)

    _until(plant, equal, 10.0)
    return [] if equal() else [f"endings counted and noted differ: {plant.rows(FOLDED)}"]


def _audited(plant: Plant) -> list[str]:
    [(count,)] = plant.rows('SELECT count(*) FROM "AuditLog"')
    return [] if count == plant.acts else [f"I4 {plant.acts} acts have {count} audit rows"]


def _processes(plant: Plant) -> list[str]:
    """I7 and the counts of I8: threads, files and connections."""
    expected = sum(
        int(role.arguments[role.arguments.index("--processes") + 1])
        for role in plant.roles("supervisor")
    ) + len(plant.roles("worker"))
    took_s = _until(plant, lambda: len(plant.workers()) == expected, 3 * THREADS_S)
    broken = []
    if len(plant.workers()) != expected or took_s > patience(THREADS_S):
        broken.append(f"I7 {len(plant.workers())} of {expected} workers live after {took_s:.1f} s")
    for worker in plant.workers():
        try:
            threads, files = worker.num_threads(), worker.num_fds()
        except psutil.NoSuchProcess:
            continue
        most = 2 * _threads(plant) + FILES_MORE
        if files > most:
            broken.append(f"I8 worker {worker.pid} has {files} files open, at most {most} expected")
        if _has_begun(plant, worker.pid) and threads < _threads(plant):
            broken.append(f"I7 worker {worker.pid} has only {threads} threads")
    broken += [
        f"I7 worker {pid} says that {alive} of {threads} threads are alive"
        for pid, alive, threads in plant.rows(
            """SELECT "pid", ("figures" ->> 'threadsAlive')::int, "threads" FROM "WorkerProcess"
               WHERE "role" = 'worker' AND ("figures" ->> 'threadsAlive')::int < "threads"
                 AND "seenAt" > now() - interval '5 seconds'"""
        )
    ]
    [(connections,)] = plant.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    )
    pools = expected * (_threads(plant) + 4) + 4 * len(plant.roles("relay")) + 12
    if connections > pools:
        broken.append(f"I8 {connections} connections, at most {pools} expected")
    return broken


def _threads(plant: Plant) -> int:
    roles = plant.roles("supervisor") + plant.roles("worker")
    return max(int(role.arguments[role.arguments.index("--threads") + 1]) for role in roles)


def _has_begun(plant: Plant, pid: int) -> bool:
    return pid in plant.registered().values()


def _logs(plant: Plant) -> list[str]:
    broken = []
    for path in plant.logs.iterdir():
        text = path.read_text(errors="replace")
        broken += [f"I11 {path.name} holds {mark}" for mark in (KEY, "canary-") if mark in text]
    return broken


def _indexes(plant: Plant) -> list[str]:
    broken = []
    with psycopg.connect(plant.database_url, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        for name, oid in conn.execute(INDEXES).fetchall():
            try:
                conn.execute("SELECT bt_index_check(%s::regclass, true)", [oid])
            except psycopg.DatabaseError as error:
                broken.append(f"I12 the index {name} is damaged: {error}")
    return broken
