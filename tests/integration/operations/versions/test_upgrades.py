"""From one version of the schema to the next: what becomes of a database."""

import shutil
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from producers.operations import migration, verification
from producers.operations.migration import migrate
from producers.queries.ledger import events
from producers.queries.ledger.events import BEGINNING, EventFilters, Position
from shared import schema
from shared.errors import MigrationRefused
from shared.schema import versions
from tests.support import catalogue

ROWS = """SELECT "version", "sha256" FROM "SchemaMigration" ORDER BY 1"""


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _facts(url: str) -> dict[str, str]:
    with psycopg.connect(url) as conn:
        return catalogue.facts(conn)


def _rows(url: str) -> dict[str, str]:
    with psycopg.connect(url) as conn:
        return dict(conn.execute(ROWS).fetchall())


def _functions(url: str, name: str) -> list[str]:
    found = (fact for fact in _facts(url) if fact.startswith(f"function {name}("))
    return [fact.removeprefix("function ") for fact in found]


def test_an_upgraded_database_and_a_new_one_are_the_same(version_1, make_database):
    new = make_database()

    upgraded, made = migrate(version_1), migrate(new)

    assert catalogue.differences(_facts(version_1), _facts(new)) == []
    assert _rows(version_1) == _rows(new)
    assert upgraded.version == made.version
    assert made.applied == ["schema"]
    assert set(upgraded.applied) >= {step.name for step in versions.steps()}
    assert [check for check in verification.verify(version_1) if not check.ok] == []


@pytest.mark.parametrize("noted", [None, "the hash of an older file"])
def test_a_database_from_before_version_1_is_brought_there_first(make_database, noted):
    # Version 1's file by hand notes nothing; an older one lacks columns, and has an older hash.
    url, new = make_database(versions.first().script), make_database()
    with psycopg.connect(url) as conn:
        conn.execute('ALTER TABLE "Incident" DROP COLUMN "reason"')
        conn.execute('DROP TABLE "IncidentNotice"')
        if noted:
            conn.execute("""INSERT INTO "SchemaMigration" VALUES ('schema', %s)""", (noted,))

    done = migrate(url)
    migrate(new)

    assert done.applied[0] == "schema"
    assert catalogue.differences(_facts(url), _facts(new)) == []
    assert _rows(url) == _rows(new)


def test_a_role_that_is_no_superuser_makes_and_upgrades_a_database(admin, make_database, version_1):
    new = make_database("CREATE EXTENSION vector")
    admin.execute("""
        CREATE ROLE migrator_of_a_test LOGIN;
        GRANT ailydian_owner, ailydian_app, ailydian_relay, ailydian_audit_reader
            TO migrator_of_a_test WITH INHERIT FALSE, SET TRUE
    """)
    try:
        for url in (new, version_1):
            name = conninfo_to_dict(url)["dbname"]
            admin.execute(f"ALTER DATABASE {name} OWNER TO migrator_of_a_test")
            migrate(make_conninfo(url, user="migrator_of_a_test"))

        assert catalogue.differences(_facts(new), _facts(version_1)) == []
        assert migrate(make_conninfo(new, user="migrator_of_a_test")).applied == []
    finally:
        for url in (new, version_1):
            admin.execute(f"ALTER DATABASE {conninfo_to_dict(url)['dbname']} OWNER TO postgres")
        admin.execute("DROP ROLE migrator_of_a_test")


def test_a_second_migration_applies_nothing(version_1):
    migrate(version_1)
    before, rows = _facts(version_1), _rows(version_1)

    again = migrate(version_1)

    assert again.applied == []
    assert (_facts(version_1), _rows(version_1)) == (before, rows)


def test_a_database_made_by_hand_needs_no_step(folder, make_database):
    (folder / "steps/9902_fails.sql").write_text("SELECT 1 / 0;\n")
    url = make_database(schema.text())
    before = _facts(url)

    done = migrate(url)

    assert _rows(url)["9902_fails"] == versions.steps()[-1].digest
    assert "9902_fails" not in done.applied
    assert catalogue.differences(_facts(url), before) == []


def test_the_whole_file_refuses_a_database_from_before_version_1(make_database):
    url = make_database(versions.first().script)

    with (
        psycopg.connect(url) as conn,
        pytest.raises(psycopg.errors.RaiseException, match="lacks schema"),
    ):
        conn.execute(schema.text().encode())


def test_the_whole_file_refuses_a_database_that_lacks_a_step(folder, version_1):
    (folder / "steps/9902_more.sql").write_text("SELECT 1;\n")

    with (
        psycopg.connect(version_1) as conn,
        pytest.raises(psycopg.errors.RaiseException, match="9902_more"),
    ):
        conn.execute(schema.text().encode())


def test_a_version_of_every_kind_of_change_gives_what_a_new_database_has(
    folder, version_1, make_database
):
    migrate(version_1)
    _edit(folder / "10_accounts/tables.sql", '    "ipAddress" TEXT,\n', "")
    _edit(
        folder / "10_accounts/tables.sql",
        '    "tenantId"  TEXT\n);\n\nCREATE TABLE IF NOT EXISTS "ApiKey"',
        '    "tenantId"  TEXT,\n    "region"    TEXT\n);\n\nCREATE TABLE IF NOT EXISTS "ApiKey"',
    )
    (folder / "steps/9902_region.sql").write_text(
        'ALTER TABLE "Session" ADD COLUMN IF NOT EXISTS "region" TEXT;\n'
        'ALTER TABLE "Session" DROP COLUMN IF EXISTS "ipAddress";\n'
    )
    new_trigger = folder / "10_accounts/functions/session_region.sql"
    new_trigger.write_text(
        "CREATE OR REPLACE FUNCTION ailydian_session_region() RETURNS trigger\n"
        "LANGUAGE plpgsql AS $$\n"
        """BEGIN\n    NEW."region" := coalesce(NEW."region", '');\n    RETURN NEW;\nEND $$;\n"""
    )
    with (folder / "10_accounts/triggers.sql").open("a") as file:
        file.write(
            "CALL ailydian_build_trigger('Session', 'region',\n"
            "    'BEFORE INSERT ON ROW EXECUTE FUNCTION public.ailydian_session_region()');\n"
        )
    _edit(
        folder / "70_privacy/policies.sql",
        "CALL ailydian_build_security('DSARRequest')",
        "CALL ailydian_build_security('DSARRequest', 'SELECT')",
    )
    (folder / "steps/9903_index.sql").write_text(
        "-- online\n"
        'CREATE INDEX CONCURRENTLY IF NOT EXISTS "Session_region_idx" ON "Session" ("region");\n'
    )
    with (folder / "10_accounts/tables.sql").open("a") as file:
        file.write("\nCALL ailydian_build_index('Session', 'region');\n")

    done, new = migrate(version_1), make_database()
    migrate(new)

    assert done.applied == [
        "9902_region",
        "9903_index",
        "10_accounts/functions/session_region",
        "10_accounts/triggers",
        "70_privacy/policies",
    ]
    assert done.version.startswith(f"{1 + len(versions.steps())}-")
    assert catalogue.differences(_facts(version_1), _facts(new)) == []
    assert migrate(version_1).applied == []


def test_a_new_comment_applies_nothing(folder, version_1):
    migrate(version_1)
    for path in folder.glob("[0-9]*/**/*.sql"):
        path.write_text(f"-- another word\n{path.read_text()}")

    assert migrate(version_1).applied == []


@pytest.mark.parametrize(
    ("signature", "kept"),
    [
        ("p_run TEXT, p_whole BOOLEAN, VARIADIC p_states TEXT[]", "p_run text, p_whole boolean"),
        (
            "p_run_id TEXT, p_whole BOOLEAN, VARIADIC p_states VARCHAR[]",
            "p_run_id text, p_whole boolean",
        ),
        ("p_run_id TEXT, VARIADIC p_states TEXT[]", "p_run_id text, VARIADIC p_states text[]"),
    ],
)
def test_a_function_whose_signature_changed_stands_once(folder, version_1, signature, kept):
    migrate(version_1)
    path = folder / "90_workflow/functions/lock_run.sql"
    _edit(path, "p_run_id TEXT, p_whole BOOLEAN, VARIADIC p_states TEXT[]", signature)
    if "p_run " in signature:
        path.write_text(
            path.read_text().replace("= p_run_id", "= p_run").replace("%', p_run_id", "%', p_run")
        )
    if "p_whole" not in signature:
        _edit(path, "IF p_whole THEN", "IF true THEN")

    done = migrate(version_1)

    assert done.applied == ["90_workflow/functions/lock_run"]
    (found,) = _functions(version_1, "ailydian_lock_run")
    assert kept in found
    assert "ailydian_app" not in _facts(version_1)[f"function {found}"]


def test_rights_that_were_taken_out_of_a_file_are_taken_back(folder, version_1, make_database):
    migrate(version_1)
    path = folder / "50_operations/functions/count_incidents.sql"
    _edit(path, "CALL ailydian_build_rights('ailydian_count_incidents', 'ailydian_relay');\n", "")

    migrate(version_1)
    new = make_database()
    migrate(new)

    assert catalogue.differences(_facts(version_1), _facts(new)) == []


def test_a_function_without_a_file_is_dropped_and_forgotten(folder, version_1):
    # Of version 1, which noted none of its functions.
    (folder / "60_money/functions/spent_budgets.sql").unlink()
    first = migrate(version_1)
    (folder / "20_models/functions/failing_providers.sql").unlink()
    second = migrate(version_1)

    assert "functions/spent_budgets" in first.applied
    assert second.applied == ["20_models/functions/failing_providers"]
    assert _functions(version_1, "ailydian_spent_budgets") == []
    assert _functions(version_1, "ailydian_failing_providers") == []
    assert migrate(version_1).applied == []


def test_a_function_that_something_depends_on_keeps_its_result(folder, version_1):
    before = migrate(version_1)
    path = folder / "00_ground/functions/touch.sql"
    _edit(
        path,
        "ailydian_touch() RETURNS trigger LANGUAGE plpgsql",
        "ailydian_touch() RETURNS void LANGUAGE plpgsql",
    )

    with pytest.raises(MigrationRefused, match="ailydian_touch"):
        migrate(version_1)

    path.unlink()
    shutil.copy(Path(versions.__file__).parent / "00_ground/functions/touch.sql", path)
    assert migrate(version_1) == migration.Migrated([], before.version)


def test_a_body_that_does_not_compile_changes_nothing(folder, version_1):
    migrate(version_1)
    before = _facts(version_1)
    _edit(folder / "80_ledger/functions/job_kind.sql", "RETURN NEW;", "RETURN gone;")
    _edit(folder / "60_money/functions/spent_budgets.sql", 'FROM "Budget" b', 'FROM "Purse" b')

    with pytest.raises(psycopg.errors.Error):
        migrate(version_1)

    assert catalogue.differences(_facts(version_1), before) == []


def test_a_newer_database_is_left_as_it_is(folder, version_1):
    step = folder / "steps/9902_more.sql"
    step.write_text("SELECT 1;\n")
    migrate(version_1)
    step.unlink()
    _edit(folder / "80_ledger/functions/job_kind.sql", "no contract is named", "not a contract:")

    assert migrate(version_1).applied == []


NOTE = """INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
          VALUES ('t', %s, 'probe', 'maintenance', 'COMPLETED')"""
# As the relay of a version before asks and moves.
OLD_NEWS = """
    SELECT EXISTS (
        SELECT FROM "JobEvent" e
        WHERE (e."xid", e."position") > (c."xid", c."position")
          AND e."xid" < pg_snapshot_xmin(pg_current_snapshot()))
    FROM "EventCursor" c WHERE c."reader" = 'fold'
"""


def test_old_events_keep_their_positions_and_are_counted_once(version_1):
    with psycopg.connect(version_1, autocommit=True) as conn:
        for job in ("one", "two", "three"):
            conn.execute(NOTE, [job])
        old = conn.execute("""SELECT "xid"::text, "position", "jobId" FROM "JobEvent" ORDER BY 2""")
        places = [(Position(int(xid), position), job) for xid, position, job in old]
        conn.execute(
            """INSERT INTO "EventCursor" ("reader", "xid", "position")
               SELECT 'fold', "xid", "position" FROM "JobEvent" WHERE "jobId" = 'one'"""
        )
    with psycopg.connect(version_1) as late, psycopg.connect(version_1, autocommit=True) as conn:
        late.execute(NOTE, ["late"])
        conn.execute(NOTE, ["four"])

        migrate(version_1)

        conn.execute(NOTE, ["five"])
        asked = conn.execute(OLD_NEWS).fetchone()
        events.place(conn)
        found = events.select_events(conn, BEGINNING, EventFilters(), limit=100)
        folded, _ = events.fold(conn, ["probe"], limit=100)
        late.commit()
        events.place(conn)
        rest = events.select_events(conn, places[0][0], EventFilters(), limit=100)
        again, _ = events.fold(conn, ["probe"], limit=100)

    assert asked == (False,)
    assert [(one.position, one.job_id) for one in found.events[:3]] == places
    assert [one.job_id for one in found.events[3:]] == ["four", "five"]
    assert [one.job_id for one in rest.events] == ["two", "three", "four", "five", "late"]
    assert (folded.events, again.events) == (4, 1)
