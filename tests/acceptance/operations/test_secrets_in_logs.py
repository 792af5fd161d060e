"""Invariant I11: no secret and no personal data in a log line or beside an error in the ledger.

And the other half of what a line is for: each names its job and its trace.
"""

import json
import os
import signal
import subprocess
import sys

import pytest

from shared.observability import tracing
from tests.acceptance.conftest import PATIENCE_S, ROOT, all_ended
from tests.support import leaking_jobs
from tests.support.factories import KEY, job, make_tenant, publish_jobs, rows
from tests.support.leaking_jobs import Leak
from tests.support.patience import patience

SHAPED = [
    "sk-proj-canaryZx81kQpL0vTn42RwYb77",
    "canary.ayse@posta.example.com",
    "postgresql://app:canary-pw@db.example/x",
    "Bearer canary7f3a9c2e51b84d06",
    "api_key=canary-value",
    "4539 5787 6362 1486",
    "TR330006100519786457841326",
]
PARTS = ["canary", "4539 5787", "TR3300"]
STORED = """
    SELECT coalesce(string_agg(text, E'\n'), '') FROM (
        SELECT to_jsonb(a)::text AS text FROM "JobAttempt" a
        UNION ALL SELECT to_jsonb(d)::text FROM "DeadLetter" d
        UNION ALL SELECT (to_jsonb(j) - 'payload')::text FROM "Job" j
        UNION ALL SELECT to_jsonb(e)::text FROM "JobEvent" e
        UNION ALL SELECT to_jsonb(w)::text FROM "WorkerProcess" w
    ) stored
"""


@pytest.fixture
def logged(plant, tmp_path):
    """A worker with the leaking jobs; called, it stops the worker and yields its log lines."""
    environment = {
        "DATABASE_URL": plant.database_url,
        "REDIS_URL": plant.redis_url,
        "AILYDIAN_SIGNING_KEY": KEY.decode(),
        "AILYDIAN_PLUGINS": leaking_jobs.__name__,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
    }
    path = tmp_path / "stderr"
    with path.open("wb") as stderr:
        worker = subprocess.Popen(
            [sys.executable, "-m", "workers.process.main", "--queues", "audit", "--threads", "2"],
            cwd=ROOT,
            env=environment,
            stderr=stderr,
        )

    def lines():
        worker.send_signal(signal.SIGTERM)
        worker.wait(patience(PATIENCE_S))
        return path.read_text().splitlines()

    yield lines
    if worker.poll() is None:
        worker.kill()
        worker.wait()


@pytest.mark.timeout(120)
def test_no_canary_reaches_a_log_line_or_the_ledger(plant, logged):
    tenant = make_tenant()
    plant.start_relay()
    loud = ["message", "arguments", "cause", "group", "logs"]
    jobs = [Leak(how=how, secret=secret) for how in loud for secret in SHAPED]
    # What Postgres, pydantic and Python quote has no shape: it goes as a quote.
    jobs += [Leak(how=how, secret="plain-canary") for how in ("pydantic", "postgres", "number")]

    publish_jobs(tenant, jobs)
    plant.until(all_ended)

    lines = logged()
    [(stored,)] = rows(STORED)
    assert len(rows('SELECT 1 FROM "DeadLetter"')) == len(jobs) - len(SHAPED)
    assert len([line for line in lines if '"job.died"' in line]) == len(jobs) - len(SHAPED)
    for part in PARTS:
        assert [line for line in lines if part in line] == []
        assert part not in stored
    for line in lines:
        assert json.loads(line).keys() >= {"event", "level", "timestamp", "logger"}


@pytest.mark.timeout(120)
def test_a_follow_up_belongs_to_the_same_trace_in_rows_and_lines(plant, logged):
    tenant = make_tenant()
    plant.start_relay()

    [first] = publish_jobs(tenant, [Leak(how="follow")])
    plant.until(lambda: len(rows('SELECT 1 FROM "Job"')) == 2)
    plant.until(all_ended)

    events = {event["event"]: event for event in map(json.loads, logged())}
    [(second,)] = rows('SELECT "id" FROM "Job" WHERE "parentId" = %s', first)
    published, followed = (tracing.read(job(one)["traceparent"]) for one in (first, second))
    earlier, later = events["leak.followed"], events["leak.stayed_quiet"]
    assert earlier["trace_id"] == later["trace_id"] == published.trace_id == followed.trace_id
    # Each attempt is a span of its own, and the parent of what it published.
    assert earlier["span_id"] == followed.span_id
    assert len({published.span_id, earlier["span_id"], later["span_id"]}) == 3
    assert (earlier["job_id"], earlier["job"], earlier["attempt"]) == (first, "leak", 1)
    assert (later["job_id"], later["tenant_id"]) == (second, tenant)
    assert "job_id" not in events["worker.stopped"]
