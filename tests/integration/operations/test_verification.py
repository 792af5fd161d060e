"""What `ailydian verify` says of who may do what, and what no mutant of the schema survives."""

import random
from collections import Counter

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from producers.operations import verification
from tests.support import bypasses, mutants, postgres_builds, rights
from tests.support.bypass_objects import DEFINITIONS, OBJECTS
from tests.support.bypasses import FUNCTIONS, RIGHTS, SETTINGS

SAMPLE = 60  # of some 2,000; `make mutants` makes them all


@pytest.fixture
def conn(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def _wrong(url: str) -> dict[str, str]:
    return {one.name: one.detail for one in verification.verify(url) if not one.ok}


def test_the_list_of_rights_is_what_a_new_database_has(conn):
    found, listed = rights.read(conn), rights.PATH.read_text().splitlines()

    assert set(found) <= set(listed), "run `make schema`"
    assert {_name(line) for line in found} == {_name(line) for line in listed}
    # Of an id's function there is one body with uuidv7() and one without.
    versions = len(postgres_builds.BUILDS)
    assert len(listed) <= len(found) + versions - 1


def _name(line: str) -> str:
    return line.rpartition("\t")[0]


@pytest.mark.parametrize("rows", [SETTINGS, RIGHTS, FUNCTIONS, OBJECTS, DEFINITIONS])
def test_each_way_around_the_schema_is_named(conn, rows):
    assert _missed(conn, rows) == []


def test_an_owner_without_superuser_rights_is_told_of_them_too(conn):
    seen = [one for one in bypasses.EVERY if "CURRENT_USER" not in one.statement]

    assert _missed(conn, seen[::6], login="plain_of_a_test") == []


def _missed(conn, rows, login=None):
    """Ways around the schema that no line of `verify` names, as this login sees it."""
    missed = []
    for one in rows:
        with conn.transaction(force_rollback=True):
            bypasses.run(conn, one)
            told = bypasses.told_in(conn, one)
            if login:
                conn.execute(f"CREATE ROLE {login} LOGIN; GRANT ailydian_owner TO {login}")
                conn.execute(f"SET LOCAL SESSION AUTHORIZATION {login}")
            conn.execute("SET LOCAL ROLE ailydian_owner")
            found = {check.name: check.detail for check in verification.schema_checks(conn)}
        if told not in found[one.check]:
            missed.append((one.statement, told, found[one.check]))
    return missed


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("session_replication_role=replica", "session_replication_role is replica for every new"),
        ("app.tenant_id=x", "app.tenant_id is x for every new session: ALTER SYSTEM RESET"),
        ("row_security=off", "row_security is off for every new session: ALTER SYSTEM RESET"),
    ],
)
def test_a_setting_of_the_whole_server_is_named(database_url, option, told):
    # As a session sees it that postgresql.conf, or ALTER SYSTEM, has begun so.
    wrong = _wrong(make_conninfo(database_url, options=f"-c {option}"))

    assert told in wrong["settings"]


def test_how_a_session_prints_values_is_no_fault(database_url):
    options = "-c intervalstyle=iso_8601 -c quote_all_identifiers=on -c datestyle=German,DMY"

    assert _wrong(make_conninfo(database_url, options=options)) == {}


def test_who_may_do_everything_is_listed_and_no_fault(database_url, admin):
    admin.execute("CREATE ROLE second_of_a_test LOGIN; GRANT ailydian_owner TO second_of_a_test")
    try:
        checks = {one.name: one for one in verification.verify(database_url)}
    finally:
        admin.execute("DROP ROLE second_of_a_test")

    assert checks["logins"].ok
    assert "second_of_a_test" in checks["logins"].detail


def test_functions_of_the_schema_are_nobodys_by_default(conn):
    opened = conn.execute("""
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND starts_with(p.proname, 'ailydian_')
          AND has_function_privilege('public', p.oid, 'EXECUTE')
    """).fetchall()
    with conn.transaction(force_rollback=True):
        conn.execute("SET LOCAL ROLE ailydian_owner")
        conn.execute("CREATE FUNCTION public.new_one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        new = conn.execute("""
            SELECT has_function_privilege('public', 'public.new_one()', 'EXECUTE')
        """).fetchone()

    assert (opened, new) == ([], (False,))


def test_a_sample_of_mutants_does_not_survive(conn):
    made = mutants.every(conn)
    kinds = Counter(one.kind for one in made)
    rng = random.Random(7)
    sample = [rng.choice([one for one in made if one.kind == kind]) for kind in kinds]
    sample += rng.sample(made, SAMPLE - len(sample))

    lived, _ = mutants.survivors(conn, sample)

    assert lived == []


@pytest.mark.parametrize(
    ("damage", "named", "detail"),
    [
        (
            'GRANT SELECT ON "Document" TO PUBLIC',
            "grants",
            "Document to PUBLIC is unexpected: SELECT",
        ),
        (
            'GRANT UPDATE ("state") ON "Job" TO ailydian_app WITH GRANT OPTION',
            "grants",
            "Job.state to ailydian_app is unexpected: UPDATE WITH GRANT OPTION",
        ),
        (
            'REVOKE INSERT ON "Document" FROM ailydian_app',
            "grants",
            "Document to ailydian_app is DELETE, SELECT, UPDATE, not DELETE, INSERT,",
        ),
        (
            "GRANT EXECUTE ON FUNCTION ailydian_cancel_run TO PUBLIC",
            "functions",
            "public.ailydian_cancel_run(text,text) to PUBLIC is unexpected: EXECUTE",
        ),
        (
            'CREATE VIEW leak AS SELECT * FROM "Document"; GRANT SELECT ON leak TO PUBLIC',
            "functions",
            "the view public.leak reads tables of the schema as its owner postgres",
        ),
        (
            'CREATE TABLE "Note" ("tenantId" text); ALTER TABLE "Note" ENABLE ROW LEVEL SECURITY;'
            ' ALTER TABLE "Note" FORCE ROW LEVEL SECURITY;'
            ' CREATE POLICY "all" ON "Note" TO ailydian_app USING (true)',
            "policies",
            "Note policy all is not the tenant's",
        ),
        (
            'CREATE TABLE "Note" ("tenantId" text); GRANT SELECT ON "Note" TO ailydian_app',
            "policies",
            "Note has no enforced row level security, and our roles may use it",
        ),
        (
            'CREATE TABLE "Note" ("tenantId" text); GRANT SELECT ON "Note" TO PUBLIC',
            "grants",
            "Note to PUBLIC: SELECT",
        ),
        (
            'ALTER TABLE "Wallet" OWNER TO postgres',
            "owners",
            "Wallet is postgres, not ailydian_owner",
        ),
    ],
)
def test_what_was_opened_by_hand_is_named(database_url, damage, named, detail):
    with psycopg.connect(database_url) as conn:
        conn.execute(damage.encode())

    assert detail in _wrong(database_url)[named]


def test_a_table_of_your_own_with_the_tenants_policy_is_no_fault(database_url):
    with psycopg.connect(database_url) as conn:
        conn.execute("""
            CREATE TABLE "Note" ("id" text PRIMARY KEY, "tenantId" text NOT NULL);
            COMMENT ON TABLE "Note" IS 'A note.';
            ALTER TABLE "Note" ENABLE ROW LEVEL SECURITY;
            ALTER TABLE "Note" FORCE ROW LEVEL SECURITY;
            CREATE POLICY "tenant" ON "Note" TO ailydian_app
                USING ("tenantId" = current_setting('app.tenant_id'));
            CREATE POLICY "owner" ON "Note" TO ailydian_owner USING (true);
            GRANT SELECT, INSERT ON "Note" TO ailydian_app;
        """)

    assert _wrong(database_url) == {}


def test_what_the_platforms_own_migrations_add_is_no_fault(database_url):
    with psycopg.connect(database_url) as conn:
        conn.execute("SET ROLE ailydian_owner")
        conn.execute("""
            CREATE TYPE "Plan" AS ENUM ('BASIC', 'PLUS');
            CREATE TABLE "Team" ("id" TEXT NOT NULL, "name" TEXT NOT NULL,
                CONSTRAINT "Team_pkey" PRIMARY KEY ("id"));
            CREATE TABLE "_prisma_migrations" ("id" VARCHAR(36) PRIMARY KEY, "logs" TEXT);
            GRANT SELECT, INSERT, UPDATE, DELETE ON "Team" TO ailydian_platform;
            ALTER TABLE "User" ADD "teamId" TEXT, ADD "plan" "Plan" NOT NULL DEFAULT 'BASIC',
                ADD "code" TEXT DEFAULT gen_random_uuid();
            ALTER TABLE "User" ADD CONSTRAINT "User_teamId_fkey" FOREIGN KEY ("teamId")
                REFERENCES "Team" ("id") ON DELETE SET NULL ON UPDATE CASCADE;
            CREATE UNIQUE INDEX "User_code_key" ON "User" ("code");
            CREATE INDEX "User_teamId_idx" ON "User" ("teamId");
            CREATE INDEX "Job_by_the_way_idx" ON "Job" ("createdAt", "state");
            ALTER TABLE "User" DROP CONSTRAINT "User_email_key";
            CREATE UNIQUE INDEX "User_email_key" ON "User" ("email");
            ALTER INDEX "Message_createdAt_idx" RENAME TO "Message_by_time_idx";
        """)

    assert _wrong(database_url) == {}


def test_roles_that_have_become_more_are_named(database_url):
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("CREATE ROLE two_roles_of_a_test LOGIN")
        conn.execute("GRANT ailydian_platform, ailydian_owner TO two_roles_of_a_test")
        conn.execute("GRANT ailydian_relay TO ailydian_audit_reader")
        try:
            detail = _wrong(database_url)["memberships"]
        finally:
            conn.execute("REVOKE ailydian_relay FROM ailydian_audit_reader")
            conn.execute("DROP ROLE two_roles_of_a_test")

    assert "ailydian_audit_reader may act as ailydian_relay" in detail
    assert "two_roles_of_a_test, a user of ailydian_platform, may act as ailydian_owner" in detail
