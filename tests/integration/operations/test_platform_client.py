"""The platform's Prisma client goes on working: its statements, on all 35 tables, as its role."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import ForeignKeyViolation, UniqueViolation
from psycopg.types.json import Jsonb

from producers.operations import platform_tables
from producers.operations.platform_tables import Column, Table
from tests.support import platform_rows
from tests.support.platform_rows import Rows, act_as

TABLES = list(platform_tables.TABLES.values())
FOREIGN_KEYS = [(table, column) for table in TABLES for column in table.columns if column.parent]
LATER = datetime.fromisoformat("2031-05-06T07:08:09.123")


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection whose user is the platform's: a plain member of ailydian_platform."""
    with psycopg.connect(database_url) as connection:
        connection.execute("""
            DO $$ BEGIN
                CREATE ROLE platform_of_a_test LOGIN IN ROLE ailydian_platform;
            EXCEPTION WHEN duplicate_object THEN NULL;
            END $$
        """)
        connection.commit()
        connection.execute("SET SESSION AUTHORIZATION platform_of_a_test")
        connection.execute("SET TIME ZONE 'Europe/Istanbul'")
        yield connection
        connection.rollback()


@pytest.fixture
def rows(conn: psycopg.Connection) -> Rows:
    """One row in every table, written by the platform for its tenant t."""
    written = platform_rows.rows_of("first", "t")
    for table, row in written.items():
        assert _create(conn, platform_tables.TABLES[table], row) == _read_back(row)
    return written


def _read_back(row: dict[str, Any]) -> dict[str, Any]:
    return {name: v.obj if isinstance(v, Jsonb) else v for name, v in row.items()}


def _create(conn: psycopg.Connection, table: Table, *rows: dict[str, Any]) -> dict[str, Any]:
    """Prisma's create and createMany: every column named, all of them returned."""
    names = sql.SQL(", ").join(sql.Identifier("public", table.name, n) for n in rows[0])
    values = sql.SQL(", ").join(
        sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder() * len(row))) for row in rows
    )
    query = sql.SQL("INSERT INTO {} ({}) VALUES {} RETURNING {}").format(
        sql.Identifier("public", table.name),
        sql.SQL(", ").join(map(sql.Identifier, rows[0])),
        values,
        names,
    )
    found = conn.execute(query, [value for row in rows for value in row.values()]).fetchone()
    assert found is not None
    return dict(zip(rows[0], found, strict=True))


def _get(conn: psycopg.Connection, table: Table, row_id: str) -> dict[str, Any] | None:
    columns = [column.name for column in table.columns]
    query = sql.SQL('SELECT {} FROM {} WHERE ("id" = %s AND 1=1) LIMIT 1 OFFSET 0').format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier("public", table.name)
    )
    found = conn.execute(query, [row_id]).fetchone()
    return None if found is None else dict(zip(columns, found, strict=True))


def _further(conn: psycopg.Connection, table: Table, rows: Rows) -> dict[str, Any]:
    """Another row of a table; a parent that can have one child only gets a twin."""
    tag = uuid4().hex
    row = {**rows[table.name], "id": f"{table.name}-{tag}"}
    for column in table.columns:
        if column.unique and column.parent:
            twin = _further(conn, platform_tables.TABLES[column.parent], rows)
            _create(conn, platform_tables.TABLES[column.parent], twin)
            row[column.name] = twin["id"]
        elif column.unique or column.name in {"intent", "nodeId"}:
            row[column.name] = f"{column.name}-{tag}"
    return row


def test_a_row_of_every_table_is_created_read_changed_and_deleted(conn, rows):
    for table in reversed(platform_tables.parents_first()):
        row = rows[table.name]
        changed = {
            column.name: LATER if column.updated else row[column.name]
            for column in table.columns
            if column.name != "id"
        }

        query = sql.SQL('UPDATE {} SET {} WHERE ("id" = %s AND 1=1) RETURNING "id"').format(
            sql.Identifier("public", table.name),
            sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(n)) for n in changed),
        )
        assert conn.execute(query, [*changed.values(), row["id"]]).fetchall() == [(row["id"],)]
        assert _get(conn, table, row["id"]) == _read_back({**row, **changed}), table.name
        assert platform_rows.delete(conn, table.name, row) == 1
        assert _get(conn, table, row["id"]) is None


def test_an_upsert_by_any_key_inserts_first_and_then_updates(conn, rows):
    for table in TABLES:
        keys = [("id",), *((c.name,) for c in table.columns if c.unique), *table.uniques]
        for key in keys:
            row = _further(conn, table, rows)
            query = sql.SQL(
                "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) "
                "DO UPDATE SET {} = %s RETURNING {}"
            ).format(
                sql.Identifier("public", table.name),
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(sql.Placeholder() * len(row)),
                sql.SQL(", ").join(map(sql.Identifier, key)),
                sql.Identifier(table.columns[-1].name),
                sql.Identifier("id"),
            )
            last = row[table.columns[-1].name]

            first = conn.execute(query, [*row.values(), last]).fetchone()
            second = conn.execute(query, [*row.values(), last]).fetchone()

            assert first == second == (row["id"],), (table.name, key)


def test_rows_with_and_without_lists_are_created_together(conn, rows):
    listed = [(t, c) for t in TABLES for c in t.columns if c.kind.endswith("[]")]

    for table, column in listed:
        full, empty, absent = (_further(conn, table, rows) for _ in range(3))
        empty[column.name], absent[column.name] = [], None
        _create(conn, table, full, empty, absent)
        stored = [_get(conn, table, row["id"])[column.name] for row in (full, empty, absent)]
        assert stored == [["bir", "iki"], [], None], table.name

    assert len(listed) == 4


def test_a_row_with_only_what_the_client_must_send_is_filled_by_the_database(conn, rows):
    for table in TABLES:
        row = _further(conn, table, rows)
        needed = {
            column.name: row[column.name]
            for column in table.columns
            if column.name == "id" or not (column.nullable or column.has_default)
        }
        _create(conn, table, needed)
        found = _get(conn, table, row["id"])
        for column in table.columns:
            if column.has_default and column.name != "id":
                assert found[column.name] is not None, (table.name, column.name)


def test_every_enum_is_filtered_by_its_type_in_public(conn, rows):
    for table in TABLES:
        for column in (column for column in table.columns if column.kind in platform_tables.ENUMS):
            query = sql.SQL('SELECT "id" FROM {} WHERE {} IN (CAST(%s::text AS {}))').format(
                sql.Identifier("public", table.name),
                sql.Identifier(column.name),
                sql.Identifier("public", column.kind),
            )
            label = platform_tables.ENUMS[column.kind][-1]
            assert conn.execute(query, [label]).fetchall() == [(rows[table.name]["id"],)]


def test_an_explicit_updated_at_is_kept_and_a_silent_change_moves_it(conn, rows):
    for table in (t for t in TABLES if any(c.updated for c in t.columns)):
        name = sql.Identifier("public", table.name)
        explicit = sql.SQL('UPDATE {} SET "updatedAt" = %s RETURNING "updatedAt"').format(name)
        other = next(c.name for c in table.columns if not c.updated and c.name != "id")
        silent = sql.SQL('UPDATE {} SET {} = {} RETURNING "updatedAt"').format(
            name, sql.Identifier(other), sql.Identifier(other)
        )

        assert conn.execute(explicit, [LATER]).fetchone() == (LATER,), table.name
        now = conn.execute("SELECT (now() AT TIME ZONE 'UTC')::timestamp(3)").fetchone()
        assert conn.execute(silent).fetchone() == now, table.name


def test_a_vector_is_written_and_searched_as_raw_sql(conn, rows):
    conn.execute(
        'UPDATE "ChunkEmbedding" SET "embedding" = %s::vector', [f"[{','.join(['0.1'] * 1536)}]"]
    )

    distance = conn.execute(
        """SELECT "embedding" <=> %s::vector FROM "ChunkEmbedding" """,
        [f"[{','.join(['0.2'] * 1536)}]"],
    ).fetchone()

    assert distance[0] == pytest.approx(0, abs=1e-6)


def _delete_restricting_children(conn: psycopg.Connection, parent: str, rows: Rows) -> None:
    for table, column in FOREIGN_KEYS:
        if column.parent == parent and column.on_delete == "RESTRICT":
            _delete_restricting_children(conn, table.name, rows)
            platform_rows.delete(conn, table.name, rows[table.name])


def _after_delete(conn: psycopg.Connection, table: Table, column: Column, rows: Rows) -> Any:
    with conn.transaction(force_rollback=True):
        if column.on_delete != "RESTRICT":
            _delete_restricting_children(conn, column.parent, rows)
        platform_rows.delete(conn, column.parent, rows[column.parent])
        return platform_rows.value(conn, table.name, rows[table.name], column.name)


def test_deleting_a_parent_does_to_its_children_what_the_dictionary_says(conn, rows):
    for table, column in FOREIGN_KEYS:
        if column.on_delete == "RESTRICT":
            # 23503, which the client knows as P2003; PostgreSQL 18 gives RESTRICT another.
            with pytest.raises(ForeignKeyViolation) as refusal:
                _after_delete(conn, table, column, rows)
            assert refusal.value.sqlstate == "23503"
        else:
            expected = "gone" if column.on_delete == "CASCADE" else None
            assert _after_delete(conn, table, column, rows) == expected, (table.name, column.name)


def test_a_parent_that_gets_a_new_id_keeps_its_children(conn, rows):
    for table, column in FOREIGN_KEYS:
        with conn.transaction(force_rollback=True):
            conn.execute(
                sql.SQL('UPDATE {} SET "id" = %s WHERE "id" = %s').format(
                    sql.Identifier("public", column.parent)
                ),
                ["new", rows[column.parent]["id"]],
            )
            found = platform_rows.value(conn, table.name, rows[table.name], column.name)
        assert found == "new", (table.name, column.name)


def test_a_child_of_nobody_is_the_foreign_key_error_the_client_knows(conn, rows):
    for table, column in FOREIGN_KEYS:
        row = {**_further(conn, table, rows), column.name: "nobody"}
        with pytest.raises(ForeignKeyViolation) as refusal, conn.transaction():
            _create(conn, table, row)
        assert refusal.value.diag.constraint_name == f"{table.name}_{column.name}_fkey"
        assert refusal.value.diag.table_name == table.name


def test_a_second_row_with_a_unique_value_is_refused_by_the_name_the_client_knows(conn, rows):
    for table in TABLES:
        for key in (*((c.name,) for c in table.columns if c.unique), *table.uniques):
            row = {**rows[table.name], "id": "second"}
            others = [c.name for c in table.columns if c.unique and c.name not in key]
            row |= {name: "another" for name in others}
            with pytest.raises(UniqueViolation) as refusal, conn.transaction():
                _create(conn, table, row)
            assert refusal.value.diag.constraint_name == f"{table.name}_{'_'.join(key)}_key"


def test_deleting_a_tenant_leaves_its_audit_rows_without_one(conn, rows):
    assert platform_rows.delete(conn, "Tenant", rows["Tenant"]) == 1

    assert (
        _get(conn, platform_tables.TABLES["AuditLog"], rows["AuditLog"]["id"])["tenantId"] is None
    )
    assert _get(conn, platform_tables.TABLES["Budget"], rows["Budget"]["id"]) is None


def test_people_and_documents_that_get_a_tenant_take_their_rows_along(conn):
    rows = platform_rows.rows_of("loose", None)
    del rows["Budget"]  # the one table whose tenant is compulsory
    for table, row in rows.items():
        _create(conn, platform_tables.TABLES[table], row)
    conn.execute("""INSERT INTO "Tenant" ("id", "name", "slug") VALUES ('t', 't', 't')""")
    before = {c: platform_rows.value(conn, c, rows[c], "tenantId") for c in platform_tables.PARENTS}

    conn.execute("""UPDATE "User" SET "tenantId" = 't'""")
    conn.execute("""UPDATE "Document" SET "tenantId" = 't'""")
    conn.execute("""UPDATE "Workflow" SET "tenantId" = 't'""")

    assert set(before.values()) == {None}
    after = {c: platform_rows.value(conn, c, rows[c], "tenantId") for c in platform_tables.PARENTS}
    assert set(after.values()) == {"t"}


def test_a_document_that_loses_its_tenant_leaves_our_search_and_stays_the_platforms(conn, rows):
    conn.execute("RESET SESSION AUTHORIZATION")
    ours = platform_rows.own_rows(rows, "t")
    platform_rows.insert(conn, ours)
    conn.execute("""UPDATE "Document" SET "ingestKey" = 'source:x'""")
    conn.execute("SET SESSION AUTHORIZATION platform_of_a_test")

    conn.execute("""UPDATE "Document" SET "tenantId" = NULL""")

    conn.execute("RESET SESSION AUTHORIZATION")
    assert platform_rows.value(conn, "ChunkEmbedding", rows["ChunkEmbedding"], "tenantId") is None
    assert platform_rows.value(conn, "Document", rows["Document"], "ingestKey") is None
    assert platform_rows.count(conn, "ChunkVector", ours["ChunkVector"]) == 0
    assert platform_rows.count(conn, "ChunkText", ours["ChunkText"]) == 0


def _changes(conn: psycopg.Connection) -> list[tuple[str, str]]:
    conn.execute("RESET SESSION AUTHORIZATION")
    found = conn.execute("""
        DELETE FROM "PlatformChange" RETURNING "tableName", "operation"
    """).fetchall()
    conn.execute("SET SESSION AUTHORIZATION platform_of_a_test")
    return sorted(found)


def test_what_the_platform_writes_and_what_needs_work_is_noted(conn, rows):
    created = _changes(conn)

    conn.execute("""UPDATE "Document" SET "content" = 'new', "updatedAt" = now()""")
    conn.execute("""UPDATE "Document" SET "source" = 'new', "ingestKey" = 'sha256:x'""")
    conn.execute("""UPDATE "Feedback" SET "rating" = 1""")
    conn.execute("""UPDATE "Message" SET "tokensIn" = 1""")

    assert created == [("Document", "INSERT"), ("Feedback", "INSERT"), ("Message", "INSERT")]
    assert _changes(conn) == [("Document", "UPDATE"), ("Feedback", "UPDATE")]


def test_what_has_no_tenant_is_noted_once_it_gets_one(conn):
    row = {**platform_rows.rows_of("loose", None)["Document"]}
    _create(conn, platform_tables.TABLES["Document"], row)
    before = _changes(conn)

    conn.execute("""UPDATE "Document" SET "tenantId" = 't'""")

    assert (before, _changes(conn)) == ([], [("Document", "UPDATE")])


def test_what_our_own_roles_write_is_not_noted(conn, rows):
    _changes(conn)
    conn.execute("RESET SESSION AUTHORIZATION")
    act_as(conn, "ailydian_app", "t")

    conn.execute("""INSERT INTO "Document" ("tenantId", "title", "content") VALUES ('t', '', '')""")
    conn.execute("""UPDATE "Message" SET "content" = 'ours'""")

    assert _changes(conn) == []
