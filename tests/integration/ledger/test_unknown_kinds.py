"""Jobs of kinds that no process has registered, published by SQL on a queue that there is."""

import re

import pytest

from producers.ledger import event_counters
from producers.web import metrics
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from tests.support.commands import document
from tests.support.factories import KEY, job, make_tenant, publish_jobs, rows
from tests.support.workers import work_off

NAMES = ["carge_card", "x" * 200, "ödeme_al", "名前", "\U0001f642" * 200, 'it\'s "mine" \\', " "]
# As older versions of the table took them.
OLD_NAMES = ["", "y" * 5_000, "a\nb", "\x1b[2J", "\x01" * 64]


def publish_unknown(tenant, name, *, queue="maintenance"):
    """Publish a job of this kind by SQL. Returns its id."""
    with db.transaction(tenant) as conn:
        row = conn.execute(
            """INSERT INTO "Job" ("tenantId", "job", "queue") VALUES (%s, 'nobodys', %s)
               RETURNING "id" """,
            [tenant, queue],
        ).fetchone()
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "Job" SET "job" = %s WHERE "id" = %s', [name, row[0]])
        conn.execute('UPDATE "JobOutbox" SET "job" = %s WHERE "jobId" = %s', [name, row[0]])
    return row[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_takes_a_kind_that_the_database_was_not_told_of(pool, name):
    tenant = make_tenant("a")
    with db.transaction(tenant) as conn:
        conn.execute(
            'INSERT INTO "Job" ("tenantId", "job", "queue") VALUES (%s, %s, %s)',
            [tenant, name, "maintenance"],
        )

    assert rows('SELECT "job" FROM "Job"') == [(name,)]


def test_jobs_of_unknown_kinds_are_buried_by_themselves_at_their_first_attempt(pool, redis_url):
    hostile = make_tenant("a")
    unknown = {publish_unknown(hostile, name): name for name in NAMES + OLD_NAMES}
    neighbours = publish_jobs(make_tenant("b"), [Probe(n=n) for n in range(20)])

    work_off(redis_url)

    assert {job(one)["state"] for one in neighbours} == {"COMPLETED"}
    assert {(job(one)["state"], job(one)["attempt"]) for one in unknown} == {("DEAD", 1)}
    letters = rows('SELECT "jobId", "reason", "error" FROM "DeadLetter"')
    assert {(one, reason) for one, reason, _ in letters} == {(one, "permanent") for one in unknown}
    for one, _, error in letters:
        assert error.startswith(f"No process has registered a job named {unknown[one][:200]!r}: ")
        assert "AILYDIAN_PLUGINS" in error
        assert error.isprintable()
    assert rows('SELECT DISTINCT "errorType" FROM "JobAttempt"') == [("UnknownJob",)]


@pytest.mark.usefixtures("acme")
def test_a_job_of_an_unknown_kind_is_listed_shown_explained_and_cancelled_by_id(run):
    ids = {publish_unknown("acme", name): name for name in NAMES + OLD_NAMES}

    listed = document(run("jobs", "list", "--json"))

    assert {one["id"]: one["job"] for one in listed} == ids
    for job_id in ids:
        for command in ("show", "why"):
            code, output = run("jobs", command, job_id)
            assert code == 0, output
            assert "\x1b" not in output
        assert document(run("jobs", "cancel", job_id, "--json"))["was"] == "PENDING"
        assert job(job_id)["state"] == "CANCELLED"


def test_a_kind_that_another_process_has_registered_waits_for_a_worker_that_does_it(
    pool, redis_url
):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "JobKind" ("job", "queue", "schemaVersion", "attemptsMax")
               VALUES ('of_next_version', 'maintenance', 1, 8)"""
        )
    job_id = publish_unknown(make_tenant("a"), "of_next_version")

    work_off(redis_url)

    row = job(job_id)
    assert (row["state"], row["attempt"], row["waitingFor"]) == ("PENDING", 0, "worker_version")


def test_a_job_on_the_queue_of_another_kind_is_buried_with_its_own_queue(
    pool, redis_url, monkeypatch
):
    job_id = publish_unknown(make_tenant("a"), "probe", queue="audit")
    # What a worker of the queue audit alone has imported.
    monkeypatch.setattr("workers.process.consumer.served", {"append_audit"})

    work_off(redis_url, "audit")

    assert job(job_id)["state"] == "DEAD"
    [(error,)] = rows('SELECT "error" FROM "DeadLetter"')
    assert error == (
        "probe is a job of the queue maintenance; a worker of audit has no actor for it: "
        'publish it without "queue".'
    )


def test_metrics_do_not_grow_by_names_from_outside(pool, redis_url):
    tenant = make_tenant("a")
    for n in range(50):
        publish_unknown(tenant, f"made_up_{n}")
    publish_jobs(tenant, [Probe(n=1)])
    work_off(redis_url)
    with db.transaction(None, role=Role.RELAY) as conn:
        event_counters.fold(conn)
    with db.transaction(None, role=Role.OWNER) as conn:  # as an older version counted
        conn.execute(
            """INSERT INTO "JobStat" ("job", "queue", "tookBuckets", "waitedBuckets")
               SELECT 'older', "queue", "tookBuckets", "waitedBuckets" FROM "JobStat" LIMIT 1"""
        )

    with wakeups.connect(redis_url) as client:
        collector = metrics.MetricsCollector(client, Wire("ailydian", KEY))
        text = metrics.text(metrics.registry_of(collector)).decode()
        collector.close()

    assert "made_up" not in text
    assert "older" not in text
    dead = re.findall(r'ailydian_jobs_total\{job="unknown",outcome="dead",.*\} ([\d.]+)', text)
    assert [float(one) for one in dead] == [50.0]
    done = re.findall(r'ailydian_jobs_total\{job="probe",outcome="completed",.*\} ([\d.]+)', text)
    assert [float(one) for one in done] == [1.0]
