"""The logins that docker-compose.yml makes in Postgres: no superusers, and they are enough."""

import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from producers.operations import verification
from producers.operations.migration import migrate
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.ledger.outbox import publish
from tests.support import shell, source_code
from workers.queries.operations import roles

SCRIPT = source_code.ROOT / "producers/operations/postgres_logins.sql"
LOGINS = ("ailydian", "ailydian_migrator")


@pytest.fixture
def logged_in(admin, servers, tmp_path: Path):
    """URLs of both logins in a new database."""
    admin.execute("CREATE DATABASE logins_of_a_test")
    url = make_conninfo(servers.database_url, dbname="logins_of_a_test")
    (tmp_path / "database_password").write_text("one\n")
    (tmp_path / "migrator_password").write_text("two's\n")
    command = [shell.psql(), "--no-psqlrc", "-v", f"secrets={tmp_path}", "-f", str(SCRIPT), url]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    yield [make_conninfo(url, user=login) for login in LOGINS]
    admin.execute("DROP DATABASE logins_of_a_test WITH (FORCE)")
    for login in LOGINS:
        admin.execute(f"DROP ROLE {login}")


def test_neither_login_is_a_superuser_and_both_are_enough(logged_in, admin):
    app, migrator = logged_in

    migrate(migrator)

    assert [check for check in verification.verify(migrator) if not check.ok] == []
    rights = admin.execute(
        """SELECT rolname,
                  rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication
           FROM pg_roles WHERE rolname = ANY(%s) ORDER BY 1""",
        [list(LOGINS)],
    ).fetchall()
    assert rights == [("ailydian", False), ("ailydian_migrator", False)]
    pool = db.Pool(app, size=1, prepared_statements=True)
    try:
        with pool.transaction(None, role=Role.APP) as conn:
            roles.refuse_if_policies_are_bypassed(conn)
        with psycopg.connect(migrator) as conn:
            conn.execute("SET ROLE ailydian_owner")
            conn.execute("""INSERT INTO "Tenant" ("id", "slug", "name") VALUES ('t', 't', 't')""")
        with pool.transaction("t", role=Role.APP) as conn:
            assert publish(conn, Probe(n=1)).state == "PENDING"
        with pool.transaction(None, role=Role.RELAY) as conn:
            assert conn.execute('SELECT count(*) FROM "JobOutbox"').fetchone() == (1,)
    finally:
        pool.close()


def test_the_application_owns_nothing_and_cannot_become_the_owner(logged_in):
    app, migrator = logged_in
    migrate(migrator)

    for forbidden in (
        "SET ROLE ailydian_owner",
        "SET ROLE ailydian_migrator",
        'SELECT * FROM "Job"',
        "CREATE TABLE public.mine ()",
        'ALTER TABLE "Job" DISABLE ROW LEVEL SECURITY',
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('PG_VERSION')",
    ):
        with psycopg.connect(app) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(forbidden)
    assert conninfo_to_dict(app)["user"] == "ailydian"
