"""Behind a pooler in transaction mode: no session state anywhere, and every job is done once."""

import re

import psycopg
import pytest

from producers.operations import migration, verification
from producers.operations.migration import migrate
from shared import db, schema
from shared.contracts import Probe
from shared.servers import embedded_postgres
from tests.acceptance.conftest import Plant, all_ended, states
from tests.support.factories import make_tenant, publish_jobs, rows
from tests.support.misbehaving_jobs import Pill
from tests.support.transaction_pooler import Pooler

JOBS = 200


@pytest.fixture
def pooler(database_url):
    with Pooler(database_url) as running:
        yield running


@pytest.fixture
def plant(pooler, redis_url):
    """A plant in which nobody reaches Postgres but through the pooler."""
    db.open_pool(pooler.url, prepared_statements=False)
    plant = Plant(pooler.url, redis_url)
    try:
        yield plant
    finally:
        plant.close()
        db.close_pool()


def test_the_stand_in_forgets_a_session_between_transactions(pooler):
    with psycopg.connect(pooler.url, autocommit=True) as conn:
        conn.execute("SET application_name = 'kept'")
        names = {conn.execute("SHOW application_name").fetchone()[0] for _ in range(5)}
        conn.execute("LISTEN news")
        conn.execute("NOTIFY news")
        heard = list(conn.notifies(timeout=0.1))
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            conn.execute("SELECT 1", prepare=True)

    assert "kept" not in names
    assert heard == []
    assert [use.split()[0] for use in pooler.session_uses] == ["SET", "LISTEN", "prepared"]


def test_the_stand_in_lends_a_connection_for_a_whole_transaction(pooler):
    with psycopg.connect(pooler.url) as one, psycopg.connect(pooler.url) as other:
        of_one = {one.execute("SELECT pg_backend_pid()").fetchone() for _ in range(3)}
        of_other = {other.execute("SELECT pg_backend_pid()").fetchone() for _ in range(3)}
        one.commit()

    assert len(of_one) == len(of_other) == 1
    assert of_one != of_other


@pytest.mark.timeout(120)
def test_through_a_pooler_every_job_is_done_once(plant, pooler):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers(prepared_statements=0)

    publish_jobs(tenant, [Probe(n=n, mode="statement") for n in range(JOBS)])
    publish_jobs(tenant, [Pill(how="crash")])
    plant.until(all_ended)
    plant.stop_workers()

    assert states() == {"COMPLETED": JOBS, "DEAD": 1}
    entries = rows('SELECT count(*), count(DISTINCT "jobId") FROM "ProbeEntry"')
    assert entries == [(JOBS, JOBS)]
    # LISTEN is the one that is known: it hears nothing here, and the relay polls beside it.
    assert set(pooler.session_uses) <= {'LISTEN "ailydian_outbox"'}
    assert pooler.clients_max > 3


@pytest.mark.timeout(120)
def test_a_postgres_that_is_away_behind_its_pooler_ends_nobody(plant, pooler):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers(prepared_statements=0)
    workers = {one.pid for one in plant.workers()}

    pooler.away = True
    plant.until(lambda: pooler.refused >= 20)
    pooler.away = False
    publish_jobs(tenant, [Probe(n=n, mode="statement") for n in range(20)])
    plant.until(all_ended)

    assert plant.relay_lives()
    assert {one.pid for one in plant.workers()} == workers
    assert states() == {"COMPLETED": 20}


def test_migrate_and_verify_work_through_a_pooler(servers, admin):
    admin.execute("CREATE DATABASE behind_a_pooler")
    url = servers.database_url.replace(f"/{embedded_postgres.DATABASE}?", "/behind_a_pooler?")

    with Pooler(url) as pooler:
        first, second = migrate(pooler.url), migrate(pooler.url)
        checks = verification.verify(pooler.url)
        uses = pooler.session_uses
    admin.execute("DROP DATABASE behind_a_pooler WITH (FORCE)")

    assert first.applied[0] == migration.SCHEMA
    assert second.applied == []
    assert [check for check in checks if not check.ok] == []
    # What schema.sql sets it takes back, in the same transaction.
    assert {use.split()[0] for use in uses} <= {"SET"}
    text = schema.text()
    for name in set(re.findall(r"(?m)^SET (\w+)[^;\n]*;$", text)):
        assert f"\nRESET {name};\n" in text
