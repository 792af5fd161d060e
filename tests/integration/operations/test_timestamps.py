"""Rows dated beyond what Python holds: each is read as the nearest moment, and costs no other."""

from contextlib import suppress
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from producers.ledger import schedules
from producers.queries.ledger.schedules import NewSchedule
from producers.queries.operations import incidents
from producers.queries.operations.incidents import NewIncident
from shared import db, timestamps
from shared.db import Role
from tests.support.commands import document
from tests.support.factories import make_tenant, rows, submit

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def put(tenant, name, missed="once"):
    with db.transaction(tenant) as conn:
        wanted = NewSchedule(name, "* * * * *", "Asia/Tokyo", 0, missed, "probe", {}, True)
        return schedules.put(conn, wanted)


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_timestamp_out_of_range_is_read_as_the_nearest_in_it(zone, binary):
    texts = ["-infinity", "4713-01-01 00:00:00 BC", "infinity", "294276-01-01 00:00:00"]
    wanted = [FIRST, FIRST, LAST, LAST]
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        for text, found in zip(texts, wanted, strict=True):
            [row] = conn.execute(
                """SELECT %(at)s::text::timestamptz, %(at)s::text::timestamp,
                          ARRAY[%(at)s::text::timestamptz]""",
                {"at": text},
                binary=binary,
            )
            assert row == (found, found.replace(tzinfo=None), [found])


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("binary", [False, True])
def test_what_python_holds_is_read_as_it_was(binary):
    at = datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)
    with db.transaction(None, role=Role.RELAY) as conn:
        for one in (at, FIRST, LAST):
            [(found,)] = conn.execute("SELECT %s::timestamptz", [one], binary=binary)
            assert found == one
        [(none,)] = conn.execute("SELECT NULL::timestamptz", binary=binary)
        assert none is None


def test_the_compiled_loader_still_reads_what_it_can():
    conn = psycopg.adapters
    clamping = psycopg.adapt.AdaptersMap(conn)

    class Context:
        adapters, connection = clamping, None

    timestamps.clamp(Context())
    for oid in timestamps.OIDS:
        for kind in psycopg.pq.Format.TEXT, psycopg.pq.Format.BINARY:
            ours = clamping.get_loader(oid, kind)(oid)
            assert type(ours._load.__self__) is conn.get_loader(oid, kind)


COLUMNS = """
    SELECT c.table_name, c.column_name FROM information_schema.columns c
    JOIN information_schema.tables t USING (table_schema, table_name)
    WHERE c.table_schema = 'public' AND c.data_type LIKE 'timestamp%'
      AND t.table_type = 'BASE TABLE' AND c.table_name <> 'SchemaVersion'
      AND c.is_generated = 'NEVER'
"""
LISTS = (
    ("status",),
    ("queues",),
    ("incidents", "list"),
    ("audit", "tail", "--tenant", "acme"),
    ("batches", "list"),
    ("documents", "list", "--tenant", "acme"),
    ("schedule", "list", "--tenant", "acme"),
    ("jobs", "list"),
    ("tenant", "list"),
)


@pytest.mark.parametrize("at", ["infinity", "-infinity"])
def test_rows_out_of_range_fail_no_command(run, tmp_path, at):
    acme = make_tenant("acme")
    new = NewIncident(acme, "budget:b1", "Wrong", "It is so.", "MEDIUM", 1.0)
    with db.transaction(None, role=Role.RELAY) as conn:
        incidents.raise_incident(conn, new)
    submit(acme, "A text.")
    lines = tmp_path / "jobs.jsonl"
    lines.write_text("{}\n")
    options = ("--job", "probe", "--tenant", "acme", "--name", "letters")
    code, said = run("batches", "publish", str(lines), *options)
    assert code == 0, said
    put(acme, "daily")
    with db.transaction(acme) as conn:
        conn.execute(
            """INSERT INTO "AuditLog" ("id", "action", "resource", "tenantId")
               VALUES ('a1', 'read', 'document', %s)""",
            [acme],
        )
    [(job_id,), *_] = rows('SELECT "id" FROM "Job"')

    _date_all(at)

    said = {command: run(*command) for command in (*LISTS, ("jobs", "why", job_id))}
    assert {command: text for command, (code, text) in said.items() if code != 0} == {}
    [one] = document(run("incidents", "list", "--json"))
    wanted = "9999-12-31" if at == "infinity" else "0001-01-01"
    assert one["detectedAt"].startswith(wanted)


def _date_all(at):
    """Date every row of every table so, where its constraints allow it."""
    with db.transaction(None) as conn:
        conn.execute("RESET ROLE; SET LOCAL session_replication_role = replica")
        for table, column in conn.execute(COLUMNS).fetchall():
            change = sql.SQL("UPDATE {} SET {} = %s::text::timestamptz").format(
                sql.Identifier(table), sql.Identifier(column)
            )
            with suppress(psycopg.errors.CheckViolation), conn.transaction():
                conn.execute(change, [at])


@pytest.mark.parametrize("at", ["infinity", "-infinity", "9999-12-31", "1000-01-01"])
@pytest.mark.parametrize("missed", ["once", "skip", "all"])
def test_a_schedule_whose_slot_is_out_of_range_is_disabled_once(run, at, missed):
    acme = make_tenant("acme")

    put(acme, "bad", missed)
    put(acme, "good", missed)
    with db.transaction(acme) as conn:
        conn.execute("""UPDATE "Schedule" SET "nextAt" = now(), "slotAt" = now()""")
        change = """UPDATE "Schedule" SET "slotAt" = %(at)s::text::timestamptz,
            "ranSlotAt" = %(at)s::text::timestamptz WHERE "name" = 'bad'"""
        conn.execute(change, {"at": at})

    assert [schedules.run_due(), schedules.run_due()] == [1, 0]

    for shown in (), ("--json",):
        assert run("schedule", "list", "--tenant", "acme", *shown)[0] == 0
    [(enabled, error)] = rows("""SELECT "enabled", "error" FROM "Schedule" WHERE "name" = 'bad'""")
    assert not enabled
    assert "out of range" in error
    assert put(acme, "bad", missed).slot_at.year < 9_000
