"""Whether a function that runs as its owner reaches another tenant: each is tried with foreign ids.

Tenant `a` acts, tenant `b` is acted upon: whatever `a` calls, in whatever state a superuser has
put the rows beforehand, b's rows stay as they are and nothing of them is told.
"""

from collections.abc import Iterator

import psycopg
from psycopg import sql

from tests.support import attacks, attacks_on_runs
from tests.support.attacks import Attack
from tests.support.platform_rows import act_as

SECRET = "secret-of-b"
WATCHED = (
    "Workflow", "WorkflowVersion", "WorkflowNode", "WorkflowRun", "WorkflowStep", "WorkflowWait",
    "WorkflowSignal", "WorkflowSlot", "WorkflowOutput", "Job", "JobOutbox", "JobFlight", "JobEvent",
    "SemanticCache", "CacheSource", "Document", "DocumentChunk", "ChunkText", "ChunkVector",
    "Incident",
)  # fmt: skip

SEED = """
    INSERT INTO "Tenant" ("id", "name", "slug") VALUES (%(t)s, %(t)s, %(t)s);
    INSERT INTO "JobKind" ("job", "queue", "schemaVersion", "attemptsMax")
    VALUES ('run_step', 'workflow', 1, 3) ON CONFLICT DO NOTHING;
    INSERT INTO "Workflow" ("id", "name", "tenantId", "dag")
    VALUES ('w' || %(t)s, 'flow', %(t)s, '{}');
    INSERT INTO "WorkflowVersion" ("id", "tenantId", "workflowId", "version", "definition",
                                   "digest", "steps", "ends", "timeoutS")
    VALUES ('v' || %(t)s, %(t)s, 'w' || %(t)s, 1, '{}', 'd', 2, 1, 0);
    INSERT INTO "WorkflowNode" ("tenantId", "versionId", "position", "name", "uses", "spec",
        "needs", "dependents", "reads", "listReads", "mapped", "onError", "attemptsMax", "backoffS",
        "timeoutS")
    VALUES (%(t)s, 'v' || %(t)s, 0, 'one', 'signal',
            jsonb_build_object('said', 'secret-of-' || %(t)s), 0, '{1}', '{}', '{}', false, 'fail',
            3, 1, 60),
           (%(t)s, 'v' || %(t)s, 1, 'ask', 'approval', '{}', 1, '{}', '{0}', '{}', false, 'fail', 3,
            1, 60);
    INSERT INTO "Document" ("id", "tenantId", "title", "content")
    VALUES ('d' || %(t)s, %(t)s, '', '');
    INSERT INTO "DocumentChunk" ("id", "documentId", "content", "chunkIndex")
    VALUES ('c' || %(t)s, 'd' || %(t)s, '', 0), ('e' || %(t)s, 'd' || %(t)s, '', 1);
    INSERT INTO "ChunkText" ("tenantId", "chunkId", "documentId", "language", "tsv")
    VALUES (%(t)s, 'c' || %(t)s, 'd' || %(t)s, 'en',
            public.ailydian_lexemes('en', 'red green blue')),
           (%(t)s, 'e' || %(t)s, 'd' || %(t)s, 'en', public.ailydian_lexemes('en', 'green'));
    INSERT INTO "SemanticCache" ("id", "tenantId", "queryHash", "queryEmbedding", "response",
                                 "modelId", "expiresAt")
    VALUES ('s' || %(t)s, %(t)s, 's' || %(t)s, array_fill(0.5, ARRAY[1536])::vector,
            'secret-of-' || %(t)s, 'm', now());
    SELECT set_config('app.tenant_id', %(t)s, true);
"""

START = """
    SELECT public.ailydian_start_run(%(id)s, %(version)s, %(input)s::jsonb, NULL, %(slot)s, NULL,
                                     NULL, 0, NULL, NULL)
"""

STATES = """
    UPDATE "WorkflowRun" SET "state" = 'paused' WHERE "id" = %(t)s || '-paused';
    UPDATE "WorkflowRun" SET "state" = 'completed', "status" = 'COMPLETED',
        "output" = to_jsonb('secret-of-' || %(t)s) WHERE "id" = %(t)s || '-done';
    UPDATE "WorkflowStep" SET "state" = 'completed' WHERE "runId" = %(t)s || '-done';
    UPDATE "WorkflowRun" SET "state" = 'failed', "status" = 'FAILED'
    WHERE "id" = %(t)s || '-failed';
    UPDATE "WorkflowStep" SET "state" = 'failed' WHERE "id" = %(t)s || '-failed/0';
    UPDATE "WorkflowStep" SET "jobId" = 'j' || %(t)s, "state" = 'running', "fence" = 1
    WHERE "id" = %(t)s || '-live/0';
    UPDATE "Job" SET "id" = 'j' || %(t)s, "state" = 'RUNNING', "fence" = 1, "attempt" = 1,
        "startedAt" = now(), "leaseUntil" = now() + interval '1 hour'
    WHERE "stepId" = %(t)s || '-live/0';
"""


def seed(conn: psycopg.Connection) -> None:
    """As a superuser, give tenants a and b the same: workflows, runs, jobs, documents, answers."""
    for tenant in ("a", "b"):
        values = {"t": tenant}
        _run(conn, SEED, values)
        for state in ("live", "paused", "done", "failed"):
            given = {"id": f"{tenant}-{state}", "version": f"v{tenant}", "slot": None}
            secret = f'{{"said": "secret-of-{tenant}"}}'
            conn.execute(START, {**given, "input": secret})
        _run(conn, STATES, values)
    slot = {"id": "b-held", "version": "vb", "input": "{}", "slot": "key"}
    conn.execute(START, slot)
    conn.execute(START, {**slot, "id": "b-queued"})


def faults(conn: psycopg.Connection) -> Iterator[str]:
    """Attacks that are not refused as they must be, change a row of b, or tell of one."""
    for attack in (*attacks.ATTACKS, *attacks_on_runs.ATTACKS):
        with conn.transaction(force_rollback=True):
            yield from (f"{attack.name}: {fault}" for fault in _tried(conn, attack))


def _tried(conn: psycopg.Connection, attack: Attack) -> Iterator[str]:
    conn.execute("SET LOCAL session_replication_role = replica")
    _run(conn, attack.before, {})
    conn.execute("SET LOCAL session_replication_role = origin")
    before = _rows_of(conn, "b")
    act_as(conn, attack.role, "a" if attack.role == "ailydian_app" else "")
    state, told = None, None
    try:
        with conn.transaction():
            cursor = conn.execute(attack.call.encode())
            told = cursor.fetchone() if cursor.description else None
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        state, told = error.sqlstate, str(error)
    conn.execute("RESET ROLE")
    if conn.execute(f"SELECT {attack.then}".encode()).fetchone() != (True,):
        yield "was not done"
    if state != attack.refused:
        yield f"ended with {state}, not {attack.refused}: {told}"
    if attack.answer is not None and told != (attack.answer,):
        yield f"answered {told}, not {attack.answer}"
    if SECRET in f"{told}{_rows_of(conn, 'a')}":
        yield "tells what is the other tenant's"
    after = _rows_of(conn, "b")
    for table in before:
        if before[table] != after[table]:
            yield f"changes the other tenant's {table}"


def _rows_of(conn: psycopg.Connection, tenant: str) -> dict[str, str]:
    """The rows of a tenant; xmax tells of a run that was locked, be it in vain."""
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {}, string_agg(concat(to_jsonb(t), {}), ' ' ORDER BY to_jsonb(t)::text) "
            'FROM {} t WHERE t."tenantId" = {}'
        ).format(
            sql.Literal(table),
            sql.SQL("t.xmax" if table == "WorkflowRun" else "''"),
            sql.Identifier(table),
            sql.Literal(tenant),
        )
        for table in WATCHED
    )
    return dict(conn.execute(query).fetchall())


def _run(conn: psycopg.Connection, script: str, values: dict[str, str]) -> None:
    """Several statements with values: what the protocol of prepared ones does not take."""
    if script:
        psycopg.ClientCursor(conn).execute(script, values or None)
