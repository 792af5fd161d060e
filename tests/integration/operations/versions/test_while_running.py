"""What others do while a migration runs, and what it does when they are in its way."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from producers.operations import migration
from producers.operations.migration import migrate
from shared.errors import MigrationBusy
from tests.support import catalogue, version_statements

NOTED = """SELECT count(*) FROM "SchemaMigration" WHERE "version" = %s"""


def test_a_step_that_holds_its_locks_for_too_long_is_given_up(folder, version_1, monkeypatch):
    monkeypatch.setattr(migration, "PATIENCE_S", 0.0)
    monkeypatch.setattr(migration, "HOLD_S", 0.3)
    (folder / "steps/9902_slow.sql").write_text(
        'ALTER TABLE "Session" ADD COLUMN "x" TEXT;\nSELECT pg_sleep(30);\n'
    )

    with pytest.raises(MigrationBusy, match="9902_slow"):
        migrate(version_1)

    with psycopg.connect(version_1) as conn:
        assert "column Session.x" not in catalogue.facts(conn)
        assert conn.execute(NOTED, ("9902_slow",)).fetchone() == (0,)


def test_what_version_1_sends_is_answered_during_and_after_a_migration(version_1):
    kept = version_statements.of_version("0001")
    harmless = ("22", "23", "AL", "P0", "55", "25")  # of the values, which are all NULL here
    broken = []
    with psycopg.connect(version_1, autocommit=True) as old:
        parameters = {}
        for name, statement in kept.items():
            old.pgconn.prepare(name.encode(), statement.encode())
            parameters[name] = old.pgconn.describe_prepared(name.encode()).nparams

        migrate(version_1)

        for name, statement in kept.items():
            again = old.pgconn.prepare(b"", statement.encode())
            old.execute("BEGIN; SET LOCAL statement_timeout = '5s'; SET LOCAL app.tenant_id = 't'")
            ran = old.pgconn.exec_prepared(name.encode(), [None] * parameters[name])
            old.execute("ROLLBACK")
            for result in (again, ran):
                state = (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
                if state and not state.startswith(harmless):
                    broken.append(f"{name}: {result.error_message.decode().strip()}")

    assert len(kept) > 300
    assert broken == [], "\n".join(broken)


def test_a_step_that_waits_for_a_lock_lets_readers_through(folder, version_1):
    migrate(version_1)
    (folder / "steps/9902_more.sql").write_text('ALTER TABLE "Job" ADD COLUMN "more" TEXT;\n')
    longest = 0.0
    with (
        psycopg.connect(version_1) as holder,
        psycopg.connect(version_1, autocommit=True) as reader,
        ThreadPoolExecutor(1) as threads,
    ):
        holder.execute('SELECT count(*) FROM "Job"')
        migrating = threads.submit(migrate, version_1)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            began = time.monotonic()
            reader.execute('SELECT FROM "Job" LIMIT 1')
            longest = max(longest, time.monotonic() - began)
        waited = not migrating.done()
        holder.rollback()
        done = migrating.result(60)

    assert waited
    assert migration.LOCK_S / 2 < longest < 1  # it stood behind the step, which gave way
    assert done.applied == ["9902_more"]


def test_two_migrations_at_once_apply_everything_once(version_1):
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(migrate, [version_1, version_1]))

    assert sorted(bool(one.applied) for one in both) == [False, True]
    assert both[0].version == both[1].version
