"""Tenants are apart: every table, every verb, every tenant setting, and every broken policy."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import ForeignKeyViolation, InsufficientPrivilege

from producers.operations import platform_tables
from tests.support import platform_rows
from tests.support.platform_rows import Rows, act_as

TABLES = [*platform_tables.TABLES, "ChunkVector", "ChunkText", "PlatformChange"]
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")
SITUATIONS = {"own": "a", "other": "b", "none": None, "empty": ""}

# What ailydian_app may do at all; every other table of the list above it may read and write.
RIGHTS = {
    "Tenant": {"SELECT"},
    "AIProvider": {"SELECT"},
    "AIModel": {"SELECT", "INSERT", "UPDATE"},
    "RoutingScore": {"SELECT", "INSERT", "UPDATE"},
    "BanditArm": {"SELECT", "INSERT", "UPDATE"},
    "AuditLog": {"SELECT", "INSERT"},
    "WalletTransaction": {"SELECT", "INSERT"},
    "PlatformChange": {"SELECT", "DELETE"},
    "WorkflowRun": {"SELECT"},
    "WorkflowStep": {"SELECT"},  # and UPDATE of "progress" and "note"
}


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def rows(conn: psycopg.Connection) -> dict[str, Rows]:
    """One row in every table for tenant a and for tenant b."""
    return {tenant: platform_rows.seed(conn, tenant, tenant) for tenant in ("a", "b")}


def _attempt(conn: psycopg.Connection, verb: str, table: str, row: dict[str, Any]) -> int | str:
    """How many rows the verb met, or "refused"."""
    try:
        with conn.transaction():
            if verb == "SELECT":
                return platform_rows.count(conn, table, row)
            if verb == "UPDATE":
                return platform_rows.update(conn, table, row)
            if verb == "DELETE":
                return platform_rows.delete(conn, table, row)
            platform_rows.insert(conn, {table: row})
            return 1
    except (InsufficientPrivilege, ForeignKeyViolation):
        return "refused"


def _expected(verb: str, table: str, situation: str) -> int | str:
    if verb not in RIGHTS.get(table, VERBS):
        return "refused"
    if table in platform_tables.GLOBAL or situation == "own":
        return 1
    return "refused" if verb == "INSERT" else 0


def _row_to_insert(conn: psycopg.Connection, table: str, rows: Rows) -> dict[str, Any]:
    """A row of tenant a that can be inserted now: a second one, or the first after its end."""
    if "INSERT" not in RIGHTS.get(table, VERBS):
        return rows[table]
    if table in platform_tables.GLOBAL:
        keys = ("id", "slug", "intent")
        return {name: f"{v}-new" if name in keys else v for name, v in rows[table].items()}
    platform_rows.delete(conn, table, rows[table])
    return {**rows[table], "tenantId": "a"}


def _cells(conn: psycopg.Connection, table: str, rows: dict[str, Rows]) -> dict[str, Any]:
    """Cells of the matrix in which ailydian_app did something else than it may."""
    wrong = {}
    for verb in VERBS:
        for situation, tenant in SITUATIONS.items():
            # The row is tenant a's; whoever acts is a, b, nobody or ''.
            row = rows["a"][table]
            with conn.transaction(force_rollback=True):
                if verb == "INSERT":
                    row = _row_to_insert(conn, table, rows["a"])
                act_as(conn, "ailydian_app", tenant)
                outcome = _attempt(conn, verb, table, row)
            if outcome != _expected(verb, table, situation):
                wrong[f"{verb} {situation}"] = outcome
    return wrong


def test_a_tenant_reaches_its_own_rows_and_no_other(conn, rows):
    wrong = {table: _cells(conn, table, rows) for table in TABLES}

    assert {table: cells for table, cells in wrong.items() if cells} == {}


def test_the_matrix_notices_every_policy_that_is_dropped_or_loosened(conn, rows):
    survivors = []
    for table in TABLES:
        name = psycopg.sql.Identifier(table)
        mutants = {
            "dropped": "DROP POLICY ailydian_app ON {}",
            "loosened": "ALTER POLICY ailydian_app ON {} USING (true) WITH CHECK (true)",
            "read whole": "ALTER POLICY ailydian_app ON {} USING (true)",
            "switched off": "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
        }
        for mutant, statement in mutants.items():
            if table in platform_tables.GLOBAL and mutant != "dropped":
                continue  # these tenants may read whole, as the list says
            with conn.transaction(force_rollback=True):
                conn.execute(psycopg.sql.SQL(statement).format(name))
                if not _cells(conn, table, rows):
                    survivors.append((table, mutant))

    assert survivors == []


def test_a_loosened_check_lets_a_row_be_given_away_and_the_policy_refuses_it(conn, rows):
    act_as(conn, "ailydian_app", "a")

    with pytest.raises(InsufficientPrivilege):
        conn.execute("""UPDATE "Document" SET "tenantId" = 'b' WHERE "id" = 'Document-a'""")


HARD = [
    child
    for child in platform_tables.PARENTS
    if child not in platform_rows.SOFT and "INSERT" in RIGHTS.get(child, VERBS)
]


@pytest.mark.parametrize("sent", ["a", "b", None])
def test_a_child_cannot_be_hung_onto_another_tenants_parent(conn, rows, sent):
    for child in HARD:
        column, parent, _ = platform_tables.PARENTS[child]
        refusals = []
        for name in (rows["b"][parent]["id"], "there is none"):
            row = {**rows["b"][child], column: name, "tenantId": sent}
            with conn.transaction(force_rollback=True):
                platform_rows.delete(conn, child, row)
                act_as(conn, "ailydian_app", "a")
                with pytest.raises(ForeignKeyViolation) as refusal, conn.transaction():
                    platform_rows.insert(conn, {child: row})
            refusals.append(
                (refusal.value.diag.constraint_name, refusal.value.diag.message_primary)
            )

        # A hidden parent and a missing one look alike, so nobody learns which ids exist.
        hidden, missing = refusals
        assert hidden == missing
        assert hidden[0] == f"{child}_{column}_fkey"


def test_a_child_cannot_be_moved_to_another_tenants_parent(conn, rows):
    act_as(conn, "ailydian_app", "a")

    for child in (child for child in HARD if "UPDATE" in RIGHTS.get(child, VERBS)):
        column, parent, _ = platform_tables.PARENTS[child]
        move = psycopg.sql.SQL('UPDATE {} SET {} = %s WHERE "id" = %s').format(
            psycopg.sql.Identifier(child), psycopg.sql.Identifier(column)
        )
        with pytest.raises(ForeignKeyViolation), conn.transaction():
            conn.execute(move, [rows["b"][parent]["id"], rows["a"][child]["id"]])


def test_a_sent_tenant_that_is_not_the_parents_is_refused_from_everybody(conn, rows):
    for child in platform_tables.PARENTS:
        with conn.transaction(force_rollback=True):
            platform_rows.delete(conn, child, rows["a"][child])
            with pytest.raises(InsufficientPrivilege, match="tenantId sent"), conn.transaction():
                platform_rows.insert(conn, {child: {**rows["a"][child], "tenantId": "b"}})


def test_a_child_has_the_tenant_of_its_parent_without_being_told(conn, rows):
    for child in platform_tables.PARENTS:
        assert "tenantId" not in rows["a"][child]
        assert platform_rows.value(conn, child, rows["a"][child], "tenantId") == "a", child


def test_a_chunk_moved_within_the_tenant_stays_in_it_and_one_moved_by_the_platform_follows(
    conn, rows
):
    conn.execute("SET LOCAL ROLE ailydian_platform")
    conn.execute("""UPDATE "DocumentChunk" SET "documentId" = 'Document-b'
                    WHERE "id" = 'DocumentChunk-a'""")
    conn.execute("RESET ROLE")

    for table in ("DocumentChunk", "ChunkEmbedding", "ChunkVector", "ChunkText"):
        assert platform_rows.value(conn, table, rows["a"][table], "tenantId") == "b"


@pytest.mark.parametrize(("role", "tenant"), [("ailydian_app", "a"), ("ailydian_platform", None)])
def test_a_row_about_nothing_known_belongs_to_whoever_writes_it(conn, rows, role, tenant):
    act_as(conn, role, tenant)

    for child in platform_rows.SOFT:
        column, _, _ = platform_tables.PARENTS[child]
        row = {**rows["a"][child], "id": "new", column: "unknown"}
        platform_rows.insert(conn, {child: row})
        assert platform_rows.value(conn, child, row, "tenantId") == tenant, child


def test_a_document_and_its_chunks_can_be_written_in_one_statement(conn, rows):
    act_as(conn, "ailydian_app", "a")

    tenants = conn.execute("""
        WITH parent AS (
            INSERT INTO "Document" ("tenantId", "title", "content") VALUES ('a', 't', 'c')
            RETURNING "id"
        )
        INSERT INTO "DocumentChunk" ("documentId", "content", "chunkIndex")
        SELECT "id", 'c', n FROM parent, generate_series(0, 1) AS n RETURNING "tenantId"
    """).fetchall()

    assert tenants == [("a",), ("a",)]


def test_an_api_key_cannot_be_given_to_another_tenants_user(conn, rows):
    act_as(conn, "ailydian_app", "a")
    row = {**rows["a"]["ApiKey"], "id": "new", "keyHash": "new", "userId": "User-b"}

    with pytest.raises(ForeignKeyViolation):
        platform_rows.insert(conn, {"ApiKey": row})


def test_the_relay_knows_tenants_by_name_and_none_of_their_rows(conn, rows):
    act_as(conn, "ailydian_relay")

    assert conn.execute('SELECT "slug" FROM "Tenant" ORDER BY "id"').fetchall() == [
        ("slug-a",),
        ("slug-b",),
    ]
    for table in platform_tables.TABLES:
        with pytest.raises(InsufficientPrivilege), conn.transaction():
            conn.execute(psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier(table)))


def test_the_audit_reader_reads_every_audit_row_and_nothing_else(conn, rows):
    act_as(conn, "ailydian_audit_reader")

    assert conn.execute('SELECT * FROM "AuditLog"').rowcount == 2
    for table in (table for table in TABLES if table != "AuditLog"):
        with pytest.raises(InsufficientPrivilege), conn.transaction():
            conn.execute(psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier(table)))
    with pytest.raises(InsufficientPrivilege):
        conn.execute('DELETE FROM "AuditLog"')


def test_no_role_of_ours_may_truncate_or_create_or_call_a_trigger_function(conn):
    roles = ["ailydian_app", "ailydian_relay", "ailydian_audit_reader", "ailydian_platform"]

    too_much = conn.execute(
        """
        SELECT r, c.relname FROM unnest(%(roles)s::text[]) AS r, pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
          AND has_table_privilege(r, c.oid, 'TRUNCATE, REFERENCES, TRIGGER')
        UNION ALL
        SELECT r, 'CREATE' FROM unnest(%(roles)s::text[]) AS r
        WHERE has_schema_privilege(r, 'public', 'CREATE')
        UNION ALL
        SELECT r, p.proname FROM unnest(%(roles)s::text[]) AS r, pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.prorettype = 'trigger'::regtype
          AND starts_with(p.proname, 'ailydian_') AND has_function_privilege(r, p.oid, 'EXECUTE')
        """,
        {"roles": roles},
    ).fetchall()

    assert too_much == []
