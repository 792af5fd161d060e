"""What the job plane's statements read of a large ledger: what they ask for, and little more.

Each statement runs, in a transaction that is rolled back, with the role and the settings it has in
its process and with a plan made without looking at the values. A statement that is new here needs
nothing but values for parameters of new names.
"""

from datetime import timedelta

import pytest

from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from tests.support import query_plans

SIZE, SIZE_LARGE = 100_000, 1_000_000
# At most so many rows of one table are looked at by one part of a statement: of the outbox the
# test's ledger has 30,000, of letters 8,000, of events 70,000.
ROWS_MAX = 5_000
APP = {
    "outbox.INSERT_JOBS": None,
    "outbox.SELECT_BY_KEY": None,
    "outbox.SET_OUTCOME": "force_generic_plan",
    "workflow_runs.SELECT_ATTEMPTS": None,
    "workflow_runs.SELECT_STEPS": None,
}
# Planned for its values by the statement before it.
CUSTOM = {"jobs.UNQUEUE"}
WHERE = {"where": '$."n" == 7'}
OF_LETTERS = dict.fromkeys(
    ("dead_letters.SELECT_DEAD", "dead_letters.SELECT_GROUPS", "dead_letters.COUNT_DEAD"), WHERE
)
# What reads a whole table on purpose: which, and why nobody minds.
WHOLE = {
    "dispatches.MEASURE_DEPTH": (
        "JobOutbox",
        "counts it; the relay spends 1 % of its time on that",
    ),
    "dispatches.MEASURE_TENANTS": ("JobOutbox", "the same, of queues that are deep"),
    "dead_letters.SELECT_DEAD": ("DeadLetter", "a person's filter is looked for along them all"),
    "dead_letters.SELECT_GROUPS": ("DeadLetter", "a person asks for an overview of them all"),
    "dead_letters.COUNT_DEAD": ("DeadLetter", "a person asks how many there are"),
    "retentions.COUNT_DEAD": ("DeadLetter Job", "a dry run counts them"),
    "pauses.COUNT_LEFT": ("JobOutbox", "an operator waits for a drain: up to 10,000 of a tenant"),
    "replays.SELECT_UNBEGUN": ("JobOutbox Job", "an operator takes a replay back, once"),
    "job_history.SELECT_UNENDED": ("JobOutbox Job", "an operator cancels all that waits, once"),
}


def jobs(state, size, number=100):
    """Ids of jobs in a state, from all over the ledger."""
    first = {"PENDING": 1, "DEAD": 30, "COMPLETED": 50}
    if state == "RUNNING":
        return [f"job-{size - 2 * n:09}" for n in range(number)]
    step = max(1, size // 200 // number) * 100
    return [f"job-{first[state] + n * step:09}" for n in range(number)]


def values(size):
    """An example of each parameter's value by its name, as processes give them."""
    running, letter = jobs("RUNNING", size), jobs("DEAD", size)[3]
    lanes = [("maintenance", f"t{n % 10}", "probe", "", n // 10) for n in range(30)]
    queues, tenants, kinds, keys, priorities = map(list, zip(*lanes, strict=True))
    common = {
        "ids": running,
        "fences": [1] * len(running),
        "id": letter,
        "job_id": running[0],
        "fence": 1,
        "queues": queues,
        "tenants": tenants,
        "jobs": kinds,
        "keys": keys,
        "priorities": priorities,
        "rows": [30] * len(lanes),
        "costs": [1e9] * len(lanes),
        "tenant_rows": [50] * len(lanes),
        "sinces": ["2020-01-01Z"] * len(lanes),
        "ageing_s": 30.0,
        "known": ["probe"],
        "stacks": ["x"] * len(running),
        "bounds": [0.1, 1.0],
        "rate_s": 15.0,
        "older_s": 5.0,
        "worker": "worker 1",
        "silent_s": 20.0,
        "depth": 5,
        "position": size * 48 // 100,
        "age": timedelta(hours=1),
        "ages": [timedelta(hours=1)] * len(lanes),
        "after": f"letter-{size // 2}",
        "delay_s": 1.0,
        "lease_s": 30.0,
        "waiting_for": "retry",
        "verdict": "failed",
        "uncounted": True,
        "killed": False,
        "depth_max": 5_000_000,
        **dict.fromkeys(("before", "payload", "outcome"), "{}") | {"diff": "[]"},
        "outcomes": ["{}"] * len(running),
        "traceparents": [None] * 100,
        "schema_version": 1,
        "priority": 0,
        "cost": 1,
        "limit_key": "",
        "tenant_id": "t3",
        "job": "probe",
        "key": "key 7",
        "queue": "maintenance",
        "version_id": "none",
    }
    nothing = "error error_type exit_code fingerprint peak_bytes reason signal traceback since"
    nothing += " until state batch_id parent_id producer"
    most = {"limit": 1_000, "lanes_max": 1_000, "counted_max": 2_000, "dead_max": 2_000}
    return dict.fromkeys(nothing.split()) | most | common


OF_QUEUES = {
    name: {"queues": list(QUEUES)}
    for name in (
        "queue_figures.SELECT_FIGURES",
        "queue_figures.SELECT_LAGS",
        "queue_figures.SELECT_TENANT_FIGURES",
        "dispatches.MEASURE_DEPTH",
    )
}
OF_LISTS = {"jobs.SELECT_JOBS": {"before": "2030-01-01", "before_id": "none"}}


def special(size):
    """What single statements are given instead."""
    dead, waiting, done = (jobs(state, size) for state in ("DEAD", "PENDING", "COMPLETED"))
    everything = dict.fromkeys(("queue", "job", "tenant_id"))
    places = range(1, 101)
    return {
        "attempts.RETRY": {"error": "it failed"},
        "attempts.BURY": {"error": "it failed", "reason": "permanent", "fingerprint": ""},
        "batches.FINISH": {"tenants": ["t1"], "batches": ["none"], "jobs": [dead[0]]},
        **OF_LETTERS | OF_LISTS,
        "dead_letters.SELECT_DEAD_BY_IDS": {"ids": dead, "after": ""} | everything | WHERE,
        "dead_letters.REPLAY": {"ids": dead},
        "dead_letters.DISCARD": {"ids": dead},
        **OF_QUEUES,
        "dispatches.SELECT_LANES": {
            "queues": list(QUEUES),
            "tenants": [""] * len(QUEUES),
            "jobs": [""] * len(QUEUES),
            "keys": [""] * len(QUEUES),
            "priorities": [-32_768] * len(QUEUES),
        },
        "dispatches.RESEND": {"queues": list(QUEUES)},
        "jobs.SELECT_BY_IDS": {"ids": done, "tenant_id": None},
        "jobs.CANCEL": {"ids": waiting},
        "jobs.UNQUEUE": {"ids": waiting, "dues": ["2020-01-01"] * 30},
        "outbox.INSERT_JOBS": {
            "jobs": ["probe"] * 100,
            "queues": ["maintenance"] * 100,
            "payloads": ["{}"] * 100,
            "versions": [1] * 100,
            "keys": [f"new {n}" for n in places],
            "attempts_max": [8] * 100,
            "limit_keys": [""] * 100,
            "costs": [1] * 100,
        },
        "outbox.SELECT_BY_KEY": {"jobs": ["probe"] * 100, "keys": [f"key {n}" for n in places]},
        "outbox.CLAIM": {"ids": running_out(size), "attempts": [0] * 100},
        "replays.UNDO": {"ids": waiting},
        "retentions.LOCK_DONE": {"ids": done},
        "retentions.COUNT_DONE": {"ids": done},
        "retentions.DELETE_JOBS": {"ids": dead},
        "retentions.DELETE_EVENTS": {"xids": ["200"] * 9, "positions": list(range(9))},
        "retentions.DELETE_FOLDS": {"fold": "201", "to_fold": "203"},
        "retentions.SELECT_JOB_LINES": {"ids": dead},
        "retentions.LOCK_DEAD": {
            "queues": ["maintenance"],
            "ages": [timedelta(hours=1)],
            "limit": 200,
        },
        "retentions.COUNT_DEAD": {"queues": ["maintenance"], "ages": [timedelta(hours=1)]},
        "metric_figures.COUNT_DEAD": {"queues": ["maintenance"]},
        # It counts so many of each lane: what it may read is that times the number of lanes.
        "workers.SELECT_LOADS": {"queues": list(QUEUES), "ready_max": 20},
        "job_history.SELECT_UNENDED": everything,
        "replays.SELECT_UNBEGUN": everything,
        "pauses.COUNT_LEFT": {"queue": "maintenance"},
        "workflow_runs.SELECT_ATTEMPTS": {"step_ids": dead, "job_ids": dead},
    }


def running_out(size):
    """Jobs whose wake-ups lie in Redis."""
    return [f"job-{size - 2 * n - 1:09}" for n in range(100)]


def example(name, statement, size):
    """A statement's values; those without an example are listed."""
    known = values(size) | special(size).get(name, {})
    missing = [one for one in query_plans.names(statement) if one not in known]
    return known, missing


def complaints(name, statement, size):
    """What is wrong with how a statement reads."""
    known, missing = example(name, statement, size)
    if missing:
        return [f"{name}: give {', '.join(missing)} an example in values() or special()"]
    if name in APP:
        found = query_plans.explain(statement, known, role=Role.APP, tenant="t3", mode=APP[name])
    else:
        mode = "force_custom_plan" if name in CUSTOM else None
        found = query_plans.explain(statement, known, mode=mode)
    allowed = WHOLE.get(name, ("", ""))[0].split()
    wrong = []
    for scan in found.scans:
        said = f"{name}: {scan.how} on {scan.table}: {scan.rows:,} rows, {scan.blocks:,} blocks"
        if scan.table in allowed:
            continue
        if scan.how == "Seq Scan" or scan.rows > ROWS_MAX or scan.walks:
            wrong.append(said)
    return wrong


def read_all(url, size):
    query_plans.fill(url, size)
    statements = dict(query_plans.statements())
    assert len(statements) > 40, "the statements of the job plane were not found"
    assert statements.keys() >= APP.keys() | CUSTOM | WHOLE.keys() | special(size).keys()
    return [one for name in statements for one in complaints(name, statements[name], size)]


def test_no_statement_reads_more_of_the_ledger_than_it_asks_for(pool, database_url):
    wrong = read_all(database_url, SIZE)

    assert not wrong, "\n  ".join(["These read too much, or need an example:", *wrong])


@pytest.mark.benchmark
@pytest.mark.timeout(1_800)
def test_no_statement_reads_more_of_a_million_jobs(pool, database_url):
    wrong = read_all(database_url, SIZE_LARGE)

    assert not wrong, "\n  ".join(["These read too much, or need an example:", *wrong])


@pytest.mark.parametrize(("function", "number"), [("receipt", 1), ("receipts", 100)])
def test_a_receipt_reads_its_jobs_alone(pool, database_url, function, number):
    query_plans.fill(database_url, SIZE // 5)
    ids = jobs("RUNNING", SIZE // 5, number)
    arguments = "%(id)s, 1" if number == 1 else "%(ids)s::text[], %(fences)s::bigint[]"
    given = {"id": ids[0], "ids": ids, "fences": [1] * number}
    # A hundred running jobs of all tenants, made one tenant's.
    with_tenant = """UPDATE "Job" SET "tenantId" = 't3' WHERE "id" = ANY(%(ids)s::text[])"""
    move(with_tenant, given)

    statement = f"SELECT ailydian_claim_{function}({arguments})"
    # The first call plans, and reads the catalogue for that.
    query_plans.explain(statement, given, role=Role.APP, tenant="t3")
    found = query_plans.explain(statement, given, role=Role.APP, tenant="t3")

    assert found.blocks < 60 + 60 * number


def move(statement, given):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, given)
