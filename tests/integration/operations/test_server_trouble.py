"""Servers that stumble: every role stays up and tries again, and no job uses up an attempt."""

import json
import threading
import time
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
import redis

from producers.ledger import scheduler
from producers.ledger.redis_ingress import RedisIngress
from producers.operations import incident_sweep
from producers.web import health
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.errors import ServerUnavailable, TransactionInterrupted
from shared.observability import outages as noted
from shared.observability.outages import Outages
from tests.support.factories import claim, do, job, make_relay, make_tenant, publish_jobs, rows
from tests.support.logs import captured
from tests.support.patience import patience, until
from tests.support.server_trouble import refusing
from workers.process import settlement

NAMESPACE = "ailydian"


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


@pytest.fixture
def outages(client, monkeypatch):
    """The outages of this process, none yet, told through the test's Redis."""
    fresh = Outages()
    fresh.report_to(client, NAMESPACE)
    for name in ("note", "worked", "lasting", "probe_redis"):
        monkeypatch.setattr(noted, name, getattr(fresh, name))
    return fresh


@contextmanager
def running(work, *arguments):
    """A role in a thread, which must not end before it is told to."""
    stop, ended = threading.Event(), []

    def run():
        try:
            work(*arguments, stop)
        finally:
            ended.append(stop.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        stop.set()
        thread.join(patience(60))
    assert ended == [True]


def probe(tenant, **fields):
    [job_id] = publish_jobs(tenant, [Probe(n=1, mode="statement", **fields)])
    return job_id


def attempt(job_id):
    """One attempt of a job, by its actor, settled as a worker settles it."""
    with db.transaction(None, role=Role.OWNER) as conn:  # its wait is over
        conn.execute('UPDATE "JobOutbox" SET "dueAt" = now() WHERE "jobId" = %s', [job_id])
        conn.execute('UPDATE "Job" SET "dueAt" = now() WHERE "id" = %s', [job_id])
    [lease] = claim(job_id)
    try:
        do(lease)
    except Exception as error:
        settlement.settle(lease, error)


@pytest.mark.parametrize("sqlstate", ["53100", "25006", "57P01", "53300", "58030", "53200"])
def test_an_error_of_the_server_is_told_as_what_it_is(pool, database_url, sqlstate):
    job_id = probe(make_tenant())

    with (
        refusing(database_url, "ProbeEntry", sqlstate=sqlstate),
        pytest.raises(ServerUnavailable, match="asked for by a test") as raised,
    ):
        do(claim(job_id)[0])

    assert raised.value.trouble != "away"
    assert "not responding" not in str(raised.value)


def test_a_lock_that_stays_taken_interrupts_the_transaction(pool, database_url):
    make_tenant("locked")
    with psycopg.connect(database_url) as other:
        other.execute("""UPDATE "Tenant" SET "name" = 'x'""")

        with pytest.raises(TransactionInterrupted, match="locked by another"):
            rename_without_waiting()


def rename_without_waiting():
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("SET LOCAL lock_timeout = '10ms'")
        conn.execute("""UPDATE "Tenant" SET "name" = 'y'""")


@pytest.mark.parametrize("sqlstate", ["53100", "40P01", "55P03", "57014", "25006"])
def test_no_trouble_of_the_server_uses_up_an_attempt(pool, database_url, sqlstate):
    job_id = probe(make_tenant())

    with refusing(database_url, "ProbeEntry", sqlstate=sqlstate):
        for _ in range(12):  # more than it has attempts
            attempt(job_id)
        during = job(job_id)
    attempt(job_id)

    assert (during["state"], during["attempt"]) == ("PENDING", 0)
    assert rows('SELECT "waitingFor" FROM "Job" WHERE "id" = %s', job_id) in (
        [("server",)],
        [(None,)],
    )
    assert rows('SELECT count(*) FROM "ProbeEntry"') == [(1,)]
    assert rows('SELECT count(*) FROM "DeadLetter"') == [(0,)]


def test_a_job_that_is_always_interrupted_ends_after_all(pool, database_url, monkeypatch):
    monkeypatch.setattr(settlement, "INTERRUPTED_MAX", 3)
    job_id = probe(make_tenant())

    with refusing(database_url, "ProbeEntry", sqlstate="57014"):
        for _ in range(3 + 8):
            attempt(job_id)

    assert job(job_id)["state"] == "DEAD"


@pytest.mark.parametrize("sqlstate", ["53100", "40P01", "57014", "25006", "42703"])
def test_the_relay_stays_up_and_goes_on(outages, client, redis_url, database_url, sqlstate):
    tenant = make_tenant()
    relay = make_relay(redis_url)

    with (
        captured(noted) as lines,
        running(relay.run, database_url) as lives,
    ):
        with refusing(database_url, "JobFlight", "WorkerProcess", sqlstate=sqlstate):
            job_id = probe(tenant)
            until(lambda: any("postgres" in line["event"] for line in lines), 30)
            assert lives()
            assert client.llen("ailydian:queue:maintenance") == 0
        until(lambda: client.llen("ailydian:queue:maintenance") == 1, 30)

    assert job(job_id)["state"] == "PENDING"
    assert len([line for line in lines if line["event"].startswith("postgres.")]) == 1


def test_who_could_not_renew_a_lease_in_an_outage_has_time_to_do_so(
    outages, redis_url, database_url
):
    job_id = probe(make_tenant())
    claim(job_id, lease_s=0)
    lease_s = patience(5)
    relay = make_relay(redis_url, lease_s=lease_s)

    with ExitStack() as stack, captured(noted) as lines:
        with refusing(database_url, "WorkerProcess"):
            stack.enter_context(running(relay.run, database_url))
            until(lambda: any("postgres" in line["event"] for line in lines), 30)
            away_at = time.monotonic()
        until(lambda: job(job_id)["state"] == "PENDING", 30)

    assert time.monotonic() - away_at > lease_s - 1


def test_the_scheduler_stays_up_and_goes_on(outages, database_url):
    with (
        captured(noted) as lines,
        refusing(database_url, "WorkerProcess"),
        running(scheduler.run) as lives,
    ):
        until(lambda: any(line["event"] == "postgres.failing" for line in lines), 30)
        assert lives()


def test_the_door_stays_up_and_accepts_later(outages, client, redis_url, database_url):
    make_tenant("a")
    ingress = RedisIngress(redis.Redis.from_url(redis_url), NAMESPACE)
    fields = {"job": "probe", "tenant": "a", "key": "k", "payload": "{}"}

    with running(ingress.run):
        with refusing(database_url, "Job"):
            client.xadd("ailydian:publish", fields)
            early = client.blpop("ailydian:reply:k", 1)
        [(waits, *_)] = [
            tuple(it.values())
            for it in client.xpending_range("ailydian:publish", "ledger", "-", "+", 10)
        ]
        client.xclaim("ailydian:publish", "ledger", "any", 0, [waits], idle=60_000)
        answer = client.blpop("ailydian:reply:k", round(patience(20)))

    assert early is None
    assert json.loads(answer[1])["accepted"]


def test_a_full_disk_is_told_to_those_who_only_read(outages, client, pool):
    before = health.look(client, NAMESPACE)[0]

    noted.note(ServerUnavailable("The disk of Postgres is full: x.", trouble="disk_full"))
    told = health.look(client, NAMESPACE)[0]

    assert before.ok
    assert not told.ok
    assert told.detail == "the disk of Postgres is full"


def test_a_server_that_may_only_be_read_is_not_ready(outages, client, database_url):
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    db.open_pool(database_url)

    told = health.look(client, NAMESPACE)[0]

    assert not told.ok
    assert "read-only" in told.detail


def test_a_redis_that_refuses_to_write_is_told_as_what_it_is(outages, client):
    client.config_set("maxmemory", 1)
    try:
        checks = {one.name: one for one in health.look(client, NAMESPACE)}
    finally:
        client.config_set("maxmemory", 0)

    assert not checks["redis"].ok
    assert "memory of Redis is full" in checks["redis"].detail or "100%" in checks["redis"].detail


def test_a_redis_that_cannot_be_written_is_an_incident(outages, client, monkeypatch):
    monkeypatch.setattr("shared.observability.outages.LASTING_S", 0.0)
    client.config_set("maxmemory", 1)
    try:
        incident_sweep.sweep()
    finally:
        client.config_set("maxmemory", 0)

    assert rows('SELECT "cause", "severity"::text FROM "Incident"') == [
        ("server:redis:out_of_memory", "HIGH")
    ]


def test_a_trouble_that_lasts_is_an_incident(outages, pool, monkeypatch):
    monkeypatch.setattr("shared.observability.outages.LASTING_S", 0.0)
    noted.note(ServerUnavailable("The disk of Postgres is full: x.", trouble="disk_full"))

    incident_sweep.sweep()

    [(cause, description)] = rows('SELECT "cause", "description" FROM "Incident"')
    assert cause == "server:postgres:disk_full"
    assert "The disk of Postgres is full" in description
