"""The plans of the job plane: on a long ledger every statement goes by an index, to few rows.

Each statement of the shelf that touches a large table is explained as it runs: in the relay's
role, with its settings, as the generic plan that all parameters share. What the planner may
choose once the tables are long shows in a ledger of 60,000 rows with statistics; a part of the
plan that reads a whole large table is refused, whether by a sequential scan or by walking an index
from end to end.
"""

import json

import psycopg
import pytest

from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.queries import flights
from tests import reading

ROWS = 60_000
LARGE = {"Job", "JobOutbox", "JobEvent", "JobAttempt", "DeadLetter"}
MODULES = {
    "attempts", "batches", "dead_edits", "dead_letters", "events", "figures", "flights", "holds",
    "jobs", "limits", "lives", "outbox", "quarantines", "replays", "retentions", "schedules",
    "stats", "workers",
}  # fmt: skip

# Statements that read as much as they are asked to, with the reason.
WHOLE = {
    "flights.MEASURE_DEPTH": "counts the outbox, at most one part in a hundred of the time",
    "holds.COUNT_LEFT": "an operator waits for it; it ends after 10,000 rows",
    "jobs.SELECT_JOBS": "by tenant and time; other filters look at what that finds",
    "jobs.SELECT_PROGRESS": "by tenant and time",
    "dead_letters.COUNT_DEAD": "counts what an operator's filter finds",
    "dead_letters.SELECT_GROUPS": "groups what an operator's filter finds",
    "lives.SELECT_UNENDED": "a page of what an operator's filter finds",
    "replays.SELECT_UNBEGUN": "a page of what an operator's filter finds",
    "dead_letters.SELECT_DEAD": "a page in the order of ids; filters look at what that finds",
}

FILL = """
    SET LOCAL session_replication_role = replica;
    INSERT INTO "Tenant" ("id", "name", "slug") SELECT 't' || n, 't', 't' || n
    FROM generate_series(0, 19) n;
    INSERT INTO "Job" ("id", "tenantId", "job", "queue", "key", "state", "leaseUntil",
                       "finishedAt", "worker", "startedAt", "createdAt")
    SELECT 'job-' || n, 't' || mod(n / 7, 20), 'probe', 'maintenance', 'key ' || n,
           s.state, CASE s.state WHEN 'RUNNING' THEN now() END,
           CASE WHEN s.state IN ('COMPLETED', 'DEAD') THEN now() END, 'worker-' || mod(n, 4),
           now(), now() - make_interval(secs => n)
    FROM generate_series(1, {rows}) n CROSS JOIN LATERAL (SELECT CASE
        WHEN mod(n, 10) < 4 THEN 'PENDING' WHEN mod(n, 600) = 5 THEN 'RUNNING'
        WHEN mod(n, 10) < 8 THEN 'COMPLETED' ELSE 'DEAD' END) s(state);
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "dueAt", "jobId", "attempt")
    SELECT "queue", "tenantId", "job", "dueAt", "id", 0 FROM "Job" WHERE "state" = 'PENDING';
    INSERT INTO "JobFlight" ("jobId", "tenantId", "queue", "job", "attempt")
    SELECT "id", "tenantId", "queue", "job", 1 FROM "Job" WHERE "state" = 'RUNNING';
    INSERT INTO "JobEvent" ("xid", "tenantId", "jobId", "job", "queue", "what")
    SELECT (n / 20)::text::xid8, 't' || mod(n, 20), 'job-' || n, 'probe', 'maintenance',
           'COMPLETED' FROM generate_series(1, {rows}) n;
    INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "verdict")
    SELECT "tenantId", "id", 1, 1, 'failed' FROM "Job" WHERE "state" = 'DEAD';
    INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason", "error",
                              "fingerprint")
    SELECT "tenantId", "id", "job", "queue", 8, 'exhausted', 'it failed', 'f' || mod(ascii("id"), 9)
    FROM "Job" WHERE "state" = 'DEAD';
"""

FETCHED = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'JobOutbox'"

# As `db.transaction` sets them for the relay's role.
AS_THE_RELAY = """
    SET LOCAL ROLE ailydian_relay; SET LOCAL app.tenant_id = '';
    SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off;
    SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
"""
AS_A_TENANT = """
    SET LOCAL ROLE ailydian_app; SET LOCAL app.tenant_id = 't1';
    SET LOCAL plan_cache_mode = force_generic_plan;
"""


@pytest.fixture
def ledger(pool, database_url):
    with psycopg.connect(database_url) as conn:
        conn.execute(FILL.format(rows=ROWS).encode())
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("ANALYZE")
    return database_url


def of_the_job_plane() -> dict[str, str]:
    found = {
        name: statement
        for name, statement in reading.statements()
        if name.split(".")[0] in MODULES and any(f'"{table}"' in statement for table in LARGE)
    }
    assert len(found) > 30, "the shelf was not found"
    return found


def plan_of(conn, statement, settings):
    with conn.transaction(force_rollback=True):
        conn.execute(settings)
        text = "EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + reading.numbered(statement)
        result = conn.pgconn.exec_(text.encode())
        assert result.get_value(0, 0) is not None, result.error_message.decode()
        return json.loads(result.get_value(0, 0))[0]["Plan"]


def whole_reads(plan):
    """The nodes of a plan that read a large table from end to end."""
    found = []
    if plan.get("Relation Name") in LARGE:
        by_index = "Index Cond" in plan or plan["Node Type"] in {"Tid Scan", "Tid Range Scan"}
        # An index in order under a LIMIT ends as soon as enough is found.
        if not by_index and plan["Node Type"] not in {"ModifyTable", "Bitmap Heap Scan"}:
            found.append(f"{plan['Node Type']} on {plan['Relation Name']}")
    return found + [one for child in plan.get("Plans", []) for one in whole_reads(child)]


def test_every_statement_of_the_job_plane_goes_by_an_index(ledger):
    broken = []
    statements = of_the_job_plane()
    with psycopg.connect(ledger, autocommit=True) as conn:
        for name, statement in statements.items():
            if name in WHOLE:
                continue
            if whole := whole_reads(plan_of(conn, statement, AS_THE_RELAY)):
                broken.append(f"{name}: {', '.join(whole)}")

    assert not broken, "\n".join(["These read a large table from end to end:", *broken])
    assert statements.keys() >= WHOLE.keys(), "an exception is no longer needed"


def test_accepting_and_looking_up_by_key_go_by_an_index_for_a_tenant_too(ledger):
    statements = of_the_job_plane()

    with psycopg.connect(ledger, autocommit=True) as conn:
        plans = [
            plan_of(conn, statements[name], AS_A_TENANT)
            for name in ("outbox.INSERT_JOBS", "outbox.SELECT_BY_KEY")
        ]

    assert [whole_reads(plan) for plan in plans] == [[], []]


def test_lanes_cost_a_step_each_however_many_rows_wait(ledger):
    with db.transaction(None, role=Role.RELAY) as conn:
        after = dict.fromkeys(QUEUES, flights.BEFORE_ALL)
        lanes = flights.select_lanes(conn, after, limit=1_000)
        [(fetched,)] = conn.execute(FETCHED)

    assert len(lanes) == 20
    assert fetched <= 2 * (len(lanes) + len(QUEUES))
