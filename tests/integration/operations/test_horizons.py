"""Who keeps vacuum from dead rows is named: in an incident, and by `ailydian status`."""

from pathlib import Path

import psycopg
import pytest

from producers.cli.ledger import queues
from producers.operations import incident_rules, incident_sweep, migration
from producers.queries.ledger import events
from producers.queries.operations import horizons
from shared import db
from shared.db import Role
from shared.servers import embedded_postgres
from tests.support.commands import document
from tests.support.factories import rows

NOTE = """
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES ('t', 'j', 'probe', 'maintenance', 'COMPLETED')
"""


def pins(older_s=0.0):
    with db.transaction(None, role=Role.RELAY) as conn:
        return horizons.select_pins(conn, older_s=older_s, limit=10)


def write(conn):
    conn.execute("CREATE TEMPORARY TABLE held (n int)")


def read(conn):
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    conn.execute("SELECT 1")


@pytest.mark.parametrize("hold", [write, read])
def test_an_open_transaction_is_named(pool, database_url, hold):
    with psycopg.connect(database_url, application_name="forgotten") as held:
        hold(held)
        (pin,) = pins()
        held.rollback()
        after = pins()

        assert (pin.kind, pin.name, pin.pid) == ("transaction", "forgotten", held.info.backend_pid)
        assert (pin.database, pin.state) == (held.info.dbname, "idle in transaction")
    assert 0 <= pin.age_s < 60
    assert after == []


def test_a_writer_of_another_database_is_named_and_a_reader_of_it_is_not(pool, admin):
    with psycopg.connect(admin.info.dsn, application_name="elsewhere") as held:
        read(held)
        assert pins() == []
        held.rollback()
        write(held)
        (pin,) = pins()

        assert (pin.name, pin.database) == ("elsewhere", held.info.dbname)


def test_who_may_see_nobody_tells_that_somebody_is_there(pool, database_url, monkeypatch):
    monkeypatch.setattr(horizons, "BE_THE_LOGIN", "SELECT 1")
    with psycopg.connect(database_url) as held:
        write(held)
        with psycopg.connect(database_url) as conn:
            conn.execute(NOTE)
        unknown = pins(60)
        with db.transaction(None, role=Role.RELAY) as conn:
            events.place(conn)
            conn.execute("""UPDATE "EventFold" SET "foldedAt" = now() - interval '5 minutes'""")
        (pin,) = pins(60)

    assert unknown == []
    assert (pin.kind, round(pin.age_s)) == ("unknown", 300)
    assert "pg_read_all_stats" in pin.name


def test_it_is_an_incident_and_a_table_of_status_once_it_is_old(
    run, pool, database_url, monkeypatch
):
    with psycopg.connect(database_url, application_name="forgotten") as held:
        write(held)
        incident_sweep.sweep()
        young = rows('SELECT FROM "Incident"')
        monkeypatch.setattr(incident_rules, "PINNED_S", 0.0)
        monkeypatch.setattr(queues, "PINNED_S", 0.0)
        incident_sweep.sweep()
        (told,) = document(run("status", "--json"))["horizon"]
        page = run("status")[1]
        words = ("forgotten", str(held.info.backend_pid), held.info.dbname, "idle in transaction")
        assert (told["name"], told["pid"]) == ("forgotten", held.info.backend_pid)

    assert young == []
    ((cause, severity, description),) = rows(
        'SELECT "cause", "severity"::text, "description" FROM "Incident"'
    )
    assert (cause, severity) == ("server:postgres:horizon", "MEDIUM")
    for word in words:
        assert word in description
        assert word in page
    assert set(told) == {"kind", "name", "pid", "database", "state", "ageS", "transactions"}


@pytest.fixture
def server(tmp_path_factory):
    """A server of the test's own, which allows a prepared transaction and a slot."""
    home = Path(tmp_path_factory.mktemp("server"))
    try:
        url = embedded_postgres.start(home, durable=False)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET max_prepared_transactions = 1")
            conn.execute("ALTER SYSTEM SET max_replication_slots = 1")
            conn.execute("ALTER SYSTEM SET wal_level = 'logical'")
        embedded_postgres.stop(home)
        url = embedded_postgres.start(home, durable=False)
        migration.migrate(url)
        db.open_pool(url)
        yield url
        db.close_pool()
    finally:
        embedded_postgres.stop(home)


def test_a_prepared_transaction_and_a_slot_are_named(server):
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute("SELECT pg_create_logical_replication_slot('left', 'pgoutput')")
    with psycopg.connect(server) as conn:
        conn.execute("CREATE TABLE held (n int)")
        conn.execute("PREPARE TRANSACTION 'forgotten'")
    found = {pin.kind: pin for pin in pins()}
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute("ROLLBACK PREPARED 'forgotten'")
        conn.execute("SELECT pg_drop_replication_slot('left')")

    assert found["prepared"].name == "forgotten"
    assert 0 <= found["prepared"].age_s < 60
    assert (found["slot"].name, found["slot"].pid) == ("left", None)
    assert pins() == []
