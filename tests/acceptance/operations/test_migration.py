"""The schema changes while jobs run: none of them fails, and each is done once."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from producers.operations.migration import migrate
from shared.contracts import Probe
from tests.acceptance.conftest import all_ended, states
from tests.support import schema_copy
from tests.support.factories import make_tenant, publish_jobs, rows

ROUNDS = 6
NAMES = re.compile(r"\b(p_job_ids?|p_fences?|job_ids?|job_fence|fences)\b")
CHANGED = ("claim_receipt", "claim_receipts", "job_accepted", "job_kind")
COUNTED = 'SELECT count(*), count(DISTINCT "jobId") FROM "ProbeEntry"'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return schema_copy.put(tmp_path, monkeypatch)


@pytest.mark.timeout(180)
def test_jobs_run_through_migrations_that_change_tables_and_signatures(folder, plant, database_url):
    functions = [folder / f"80_ledger/functions/{name}.sql" for name in CHANGED]
    before = {path: path.read_text() for path in functions}
    plant.start_relay()
    plant.start_workers()

    applied = []
    with _publishing(make_tenant()) as published:
        for number in range(9902, 9902 + ROUNDS):
            done = _completed()
            plant.until(lambda done=done: _completed() > done)
            _change(folder, number, before)
            applied += migrate(database_url).applied
    plant.until(all_ended)

    assert len(applied) == 5 * ROUNDS
    assert len(published) > ROUNDS
    assert rows('SELECT "state", count(*) FROM "Job" GROUP BY 1') == [("COMPLETED", len(published))]
    assert rows(COUNTED) == [(len(published), len(published))]
    assert rows('SELECT "verdict", "error" FROM "JobAttempt"') == []


@contextmanager
def _publishing(tenant):
    """Jobs, ten at a time without a pause; yields the list of them, which grows."""
    published, stop = [], threading.Event()

    def publish():
        while not stop.is_set():
            first = len(published)  # a number is published once
            jobs = [Probe(n=n, mode="statement") for n in range(first, first + 10)]
            published.extend(publish_jobs(tenant, jobs))

    with ThreadPoolExecutor(1) as threads:
        publishing = threads.submit(publish)
        try:
            yield published
        finally:
            stop.set()
            publishing.result()


def _completed():
    return states().get("COMPLETED", 0)


def _change(folder, number, before):
    """Other names of parameters, other bodies of triggers, another column of what all write."""
    for path, text in before.items():
        changed = NAMES.sub(rf"\1_{number}", text)
        path.write_text(changed.replace("BEGIN\n", f"BEGIN  -- {number}\n"))
    (folder / f"steps/{number:04}_more.sql").write_text(
        f'ALTER TABLE "Job" ADD COLUMN IF NOT EXISTS "more{number}" TEXT;\n'
        f'ALTER TABLE "JobOutbox" ADD COLUMN IF NOT EXISTS "more{number}" TEXT;\n'
    )
