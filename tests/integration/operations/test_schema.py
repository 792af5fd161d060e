"""The catalogue, walked: what schema.sql promises, and that a second run changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from producers.operations import platform_tables
from producers.operations.verification import verify
from producers.queries.operations import schema_facts
from shared import db
from shared.db import Role
from shared.queries.ledger import workers
from shared.queries.ledger.workers import Process
from tests.support import platform_rows
from tests.support.platform_rows import act_as

TENANT_RULE = """("tenantId" = ( SELECT NULLIF(current_setting('app.tenant_id'::text, true), \
''::text) AS "nullif"))"""

SCHEMA = (Path(__file__).parents[3] / "schema.sql").read_text()

# Everything the file makes, with object ids: a thing dropped and made again has a new one.
SNAPSHOT = """
    SELECT 'class', oid, relname, relkind::text, relowner::regrole::text, relacl::text,
           relrowsecurity::text || relforcerowsecurity, reloptions::text
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'attribute', attrelid, attname, format_type(atttypid, atttypmod), attnotnull::text,
           attacl::text, attstorage::text, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', indexrelid, pg_get_indexdef(indexrelid), NULL, NULL, NULL, NULL, NULL
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'constraint', oid, conname, pg_get_constraintdef(oid), NULL, NULL, NULL, NULL
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'trigger', oid, tgname, pg_get_triggerdef(oid), tgenabled::text, NULL, NULL, NULL
    FROM pg_trigger
    UNION ALL
    SELECT 'policy', oid, polname, polrelid::regclass::text, polcmd::text, polroles::text,
           pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
    FROM pg_policy
    UNION ALL
    SELECT 'function', oid, proname, proowner::regrole::text, proacl::text, prosrc,
           proconfig::text, prosecdef::text
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'enum', oid, enumtypid::regtype::text, enumlabel, enumsortorder::text, NULL, NULL, NULL
    FROM pg_enum
    UNION ALL
    SELECT 'comment', objoid, classoid::regclass::text, objsubid::text, description,
           NULL, NULL, NULL
    FROM pg_description
    UNION ALL
    SELECT 'member', oid, roleid::regrole::text, member::regrole::text, NULL, NULL, NULL, NULL
    FROM pg_auth_members
    ORDER BY 1, 2, 3, 4, 5
"""

# Modes that make a reader or a writer of the table wait.
HEAVY_LOCKS = """
    SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = pg_backend_pid() AND c.relkind IN ('r', 'i')
      AND c.relnamespace = 'public'::regnamespace
      AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url) as connection:
        yield connection
        connection.rollback()


def test_the_file_makes_all_that_was_promised(conn):
    tables = schema_facts.select_tables(conn)
    indexes = schema_facts.select_indexes(conn)
    foreign_keys = schema_facts.select_foreign_keys(conn)
    vectors = [c for c in schema_facts.select_columns(conn).values() if c.type == "vector(1536)"]

    assert set(platform_tables.TABLES) <= set(tables)
    assert len(tables) >= 40
    assert len(indexes) >= 63
    assert len(foreign_keys) >= 24
    assert len(vectors) == 3
    assert schema_facts.select_enums(conn) == platform_tables.ENUMS


def test_every_table_says_what_it_is_for(conn):
    tables = schema_facts.select_tables(conn).values()

    assert [table.name for table in tables if not table.comment] == []


def test_every_table_has_a_policy_or_stands_in_the_list_with_its_reason(conn):
    policies = schema_facts.select_policies(conn)
    with_policy = {policy.table for policy in policies}

    bare = {
        name
        for name, table in schema_facts.select_tables(conn).items()
        if not table.guarded or name not in with_policy
    }

    assert bare == set(platform_tables.WITHOUT_POLICY)
    assert all(platform_tables.WITHOUT_POLICY.values())


def test_every_policy_of_the_app_is_the_tenants_or_stands_in_the_list_with_its_reason(conn):
    policies = [p for p in schema_facts.select_policies(conn) if p.role == "ailydian_app"]

    ruled = {p.table for p in policies if (p.using, p.check) == (TENANT_RULE, TENANT_RULE)}
    own_row = TENANT_RULE.replace('"tenantId"', "id")
    ruled |= {
        p.table for p in policies if (p.table, p.using, p.check) == ("Tenant", own_row, own_row)
    }
    closed = {p.table for p in policies if (p.using, p.check) == ("false", "false")}
    open_to_all = {p.table for p in policies} - ruled - closed

    assert open_to_all == set(platform_tables.GLOBAL)
    assert all(platform_tables.GLOBAL.values())


def test_keys_and_foreign_keys_of_our_own_tables_of_documents_start_with_the_tenant(conn):
    own = {"ChunkVector", "ChunkText", "PlatformChange"}

    keys = [i for i in schema_facts.select_indexes(conn) if i.unique and i.table in own]
    foreign_keys = [f for f in schema_facts.select_foreign_keys(conn) if f.table in own]

    assert {key.table for key in keys} == own
    assert all(key.columns[0] == "tenantId" for key in keys)
    assert all(foreign_key.columns[0] == "tenantId" for foreign_key in foreign_keys)


def test_a_second_run_changes_nothing_and_stops_no_reader_and_no_writer(conn):
    before = conn.execute(SNAPSHOT).fetchall()

    conn.execute(SCHEMA.encode())

    assert conn.execute(HEAVY_LOCKS).fetchall() == []
    assert conn.execute(SNAPSHOT).fetchall() == before


def test_what_was_taken_away_or_loosened_by_hand_comes_back_with_the_next_run(conn):
    before = schema_facts.select_policies(conn)
    conn.execute("""ALTER POLICY ailydian_app ON "Wallet" USING (true)""")
    conn.execute("""ALTER TABLE "Wallet" DISABLE TRIGGER tenant""")
    conn.execute("""DROP POLICY ailydian_app ON "Document" """)
    conn.execute("""REVOKE INSERT ON "Document" FROM ailydian_app""")
    conn.execute("""GRANT UPDATE, TRUNCATE ON "AuditLog" TO ailydian_app""")

    conn.execute(SCHEMA.encode())

    assert schema_facts.select_policies(conn) == before
    assert ("Wallet", "tenant") in schema_facts.select_triggers(conn)
    held = conn.execute("""
        SELECT has_table_privilege('ailydian_app', '"Document"', 'INSERT'),
               has_table_privilege('ailydian_app', '"AuditLog"', 'UPDATE'),
               has_table_privilege('ailydian_app', '"AuditLog"', 'TRUNCATE')
    """).fetchone()
    assert held == (True, False, False)


def test_ids_and_times_are_the_servers_where_the_writer_leaves_them_out(conn):
    conn.execute("SET LOCAL TIME ZONE 'Europe/Istanbul'")

    row = conn.execute("""
        INSERT INTO "Tenant" ("name", "slug") VALUES ('n', 's')
        RETURNING "id", "createdAt" = (now() AT TIME ZONE 'UTC')::timestamp(3),
                  "updatedAt" = "createdAt"
    """).fetchone()

    assert len(row[0]) == 36
    assert row[1:] == (True, True)


def test_our_columns_of_a_document_leave_the_platforms_updated_at_alone(conn):
    conn.execute("""
        INSERT INTO "Document" ("tenantId", "title", "content", "updatedAt")
        VALUES ('t', 't', 'c', '2020-01-01')
    """)

    ours = conn.execute("""
        UPDATE "Document" SET "ingestedAt" = now(), "ingestedSha256" = repeat('0', 64)
        RETURNING date_part('year', "updatedAt")
    """).fetchone()
    theirs = conn.execute("""
        UPDATE "Document" SET "title" = 'n' RETURNING date_part('year', "updatedAt")
    """).fetchone()

    assert ours == (2020,)
    assert theirs != (2020,)


def _plan(conn: psycopg.Connection, query: str) -> str:
    return "\n".join(line for (line,) in conn.execute("EXPLAIN (COSTS OFF) " + query))


def test_text_search_uses_its_index_as_the_owner_and_cannot_under_a_tenants_policy(conn):
    conn.execute("""
        INSERT INTO "Document" ("id", "tenantId", "title", "content") VALUES ('d', 't', '', '')
    """)
    conn.execute("""
        INSERT INTO "DocumentChunk" ("id", "documentId", "content", "chunkIndex")
        SELECT 'c' || n, 'd', '', n FROM generate_series(1, 5000) AS n
    """)
    conn.execute("""
        INSERT INTO "ChunkText"
        SELECT "tenantId", "id", 'd', 'en', to_tsvector('simple', "id") FROM "DocumentChunk"
    """)
    conn.execute("""ANALYZE "ChunkText" """)
    query = """
        SELECT "chunkId" FROM "ChunkText" WHERE "tsv" @@ 'c7'::tsquery
        AND "tenantId" = nullif(current_setting('app.tenant_id', true), '')
    """

    act_as(conn, "ailydian_app", "t")
    as_tenant = _plan(conn, query)
    act_as(conn, "ailydian_owner")

    assert "ChunkText_tsv_idx" in _plan(conn, query)
    assert "ChunkText_tsv_idx" not in as_tenant


def test_the_scan_of_bits_reads_rows_without_their_vectors(conn):
    rows = platform_rows.seed(conn, "a", "a")

    # Out of line: what is left in the row is its keys, the bits and a pointer of 18 bytes.
    stored = conn.execute("""
        SELECT pg_column_size("embedding"), pg_relation_size(c.reltoastrelid) > 0
        FROM "ChunkVector", pg_class c WHERE c.oid = '"ChunkVector"'::regclass
    """).fetchone()

    assert rows["ChunkVector"]["model"] == "m"
    assert stored == (1536 * 2 + 8 - 4, True)


def test_a_fresh_database_passes_its_verification(database_url):
    checks = verify(database_url)

    assert [check for check in checks if not check.ok] == []
    assert {check.name for check in checks} >= {f"crud.{table}" for table in platform_tables.TABLES}


@pytest.mark.parametrize(
    ("damage", "named", "detail"),
    [
        ('DROP TABLE "BanditArm"', "tables", "BanditArm is missing"),
        ('DROP TABLE "IncidentNotice"', "tables", "IncidentNotice is missing"),
        ('ALTER TABLE "Budget" ALTER "limitUsd" TYPE float8', "columns", "Budget.limitUsd: type"),
        ('ALTER TABLE "Message" DROP "latencyMs"', "columns", "Message.latencyMs is missing"),
        ('ALTER TABLE "User" ALTER "role" DROP DEFAULT', "columns", "User.role: no default"),
        ('ALTER TABLE "Wallet" ADD x int NOT NULL', "columns", "Wallet.x would refuse"),
        ("""ALTER TYPE "UserRole" ADD VALUE 'ROBOT'""", "enums", "UserRole has the labels"),
        ('DROP INDEX "Message_createdAt_idx"', "indexes", "Message has no index on createdAt"),
        ('ALTER TABLE "User" DROP CONSTRAINT "User_email_key"', "indexes", "User has no unique"),
        ('ALTER TABLE "Budget" DROP CONSTRAINT "Budget_tenantId_fkey"', "foreign_keys", "missing"),
        (
            'ALTER TABLE "Session" NO FORCE ROW LEVEL SECURITY',
            "policies",
            "Session is enabled not forced, not enabled forced",
        ),
        (
            'ALTER POLICY ailydian_app ON "Wallet" USING (true)',
            "policies",
            "Wallet policy ailydian_app is permissive | * | ailydian_app | sees true |",
        ),
        (
            'DROP POLICY ailydian_platform ON "Wallet"',
            "policies",
            "Wallet policy ailydian_platform is missing",
        ),
        ('ALTER TABLE "Message" DISABLE TRIGGER tenant', "triggers", "Message trigger tenant is D"),
        ('DROP TRIGGER move_wallet ON "User"', "triggers", "User trigger move_wallet is missing"),
        ('DROP TRIGGER touch ON "Wallet"', "triggers", "Wallet trigger touch is missing"),
        ("ALTER FUNCTION ailydian_note_change() RESET search_path", "functions", "note_change"),
        ("ALTER FUNCTION ailydian_claim_receipt RESET jit", "jit", "claim_receipt switches plans"),
        ('ALTER TABLE "Incident" ADD CHECK (false)', "crud.Incident", "violates check"),
    ],
)
def test_verification_names_what_is_wrong(database_url, damage, named, detail):
    with psycopg.connect(database_url) as conn:
        conn.execute(damage.encode())

    wrong = {check.name: check.detail for check in verify(database_url) if not check.ok}

    assert detail in wrong[named]


def test_verification_compares_connections_with_what_the_server_gives(database_url, pool):
    for number in range(30):
        process = Process(f"worker-{number}", "here", number, "worker", ["audit"], 8)
        with db.transaction(None, role=Role.RELAY) as conn:
            workers.upsert_process(conn, process, {})

    wrong = {check.name: check.detail for check in verify(database_url) if not check.ok}

    assert wrong == {
        "connections": "the 30 processes that run may open 345 connections, "
        "max_connections leaves 197"
    }


def test_verification_leaves_no_row_behind_and_counts_those_without_a_tenant(database_url):
    rows = platform_rows.rows_of("loose", None)
    with psycopg.connect(database_url) as conn:
        platform_rows.insert(conn, {name: rows[name] for name in ("User", "Document")})

        before = _counts(conn)

    checks = {check.name: check for check in verify(database_url)}

    assert checks["rows_without_tenant"].detail == "User 1, Document 1"
    with psycopg.connect(database_url) as conn:
        assert _counts(conn) == before


def _counts(conn):
    queries = {
        table: sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
        for table in platform_tables.TABLES
    }
    return {table: conn.execute(query).fetchone() for table, query in queries.items()}
