"""A row of every table for one tenant, and the few statements tests need on any table."""

from typing import Any

import psycopg
from psycopg import sql

from producers.operations import platform_tables
from producers.queries.operations import schema_facts

Rows = dict[str, dict[str, Any]]
# Tables that no row leads to: their tenant is the session's, or the one that is sent.
ROOTS = ("SemanticCache", "TrainingExample", "EncryptionKey", "Workflow", "Incident", "CRDTState")
SOFT = tuple(
    child for child, (_, _, must_exist) in platform_tables.PARENTS.items() if not must_exist
)
KEYS = {"ChunkVector": "chunkId", "ChunkText": "chunkId"}


def rows_of(tag: str, tenant_id: str | None) -> Rows:
    """One row of each of the 35 tables, parents first, as the platform's client sends them."""
    ids: dict[str, str] = {}
    rows: Rows = {}
    for table in platform_tables.parents_first():
        row = platform_tables.sample_row(table, tag, {"Tenant": tenant_id or "", **ids})
        row["id"] = ids[table.name] = f"{table.name}-{tag}"
        rows[table.name] = row
    rows["Tenant"]["id"] = tenant_id or "nobody"
    for row in rows.values():
        if "tenantId" in row:
            row["tenantId"] = tenant_id
    for child, (column, parent, _) in platform_tables.PARENTS.items():
        rows[child][column] = ids[parent]
    rows["ModerationResult"]["contentType"] = "message"
    # Rows that name their parent without a foreign key come last: it must be there to be found.
    return dict(sorted(rows.items(), key=lambda item: item[0] in SOFT))


def own_rows(rows: Rows, tenant_id: str) -> Rows:
    """One row of each of our own tables, beside the platform's."""
    chunk = {
        "tenantId": tenant_id,
        "chunkId": rows["DocumentChunk"]["id"],
        "documentId": rows["Document"]["id"],
    }
    vector = {"model": "m", "bits": "01" * 768, "embedding": "[" + ",".join(["0.5"] * 1536) + "]"}
    change = {"id": f"change-{tenant_id}", "tableName": "Message", "rowId": "x"}
    return {
        "ChunkVector": {**chunk, **vector},
        "ChunkText": {**chunk, "language": "tr", "tsv": "kedi"},
        "PlatformChange": {"tenantId": tenant_id, **change, "operation": "INSERT"},
    }


def insert(conn: psycopg.Connection, rows: Rows) -> None:
    """Insert rows in their order."""
    for table, row in rows.items():
        schema_facts.insert_row(conn, table, row)


def seed(conn: psycopg.Connection, tag: str, tenant_id: str) -> Rows:
    """As a superuser, give a tenant one row in every table; return the rows."""
    rows = rows_of(tag, tenant_id)
    for table in ROOTS:
        rows[table]["tenantId"] = tenant_id
    rows |= own_rows(rows, tenant_id)
    insert(conn, rows)
    return rows


def act_as(conn: psycopg.Connection, role: str, tenant_id: str | None = None) -> None:
    """Take a role, and a tenant unless it is None, until the transaction ends."""
    conn.execute("SELECT set_config('role', %s, true)", [role])
    if tenant_id is not None:
        conn.execute("SELECT set_config('app.tenant_id', %s, true)", [tenant_id])


def _where(statement: str, table: str, row: dict[str, Any], **names: str) -> sql.Composed:
    key = KEYS.get(table, "id")
    return sql.SQL(statement + " WHERE {key} = {value}").format(
        table=sql.Identifier(table),
        key=sql.Identifier(key),
        value=sql.Literal(row[key]),
        **{name: sql.Identifier(column) for name, column in names.items()},
    )


def count(conn: psycopg.Connection, table: str, row: dict[str, Any]) -> int:
    """How many rows with this row's key are in sight."""
    return conn.execute(_where("SELECT 1 FROM {table}", table, row)).rowcount


def delete(conn: psycopg.Connection, table: str, row: dict[str, Any]) -> int:
    """Delete by key; how many rows that met."""
    return conn.execute(_where("DELETE FROM {table}", table, row)).rowcount


def update(conn: psycopg.Connection, table: str, row: dict[str, Any]) -> int:
    """Set the last column to what it was, by key; how many rows that met."""
    query = _where("UPDATE {table} SET {column} = {column}", table, row, column=list(row)[-1])
    return conn.execute(query).rowcount


def value(conn: psycopg.Connection, table: str, row: dict[str, Any], column: str) -> Any:
    """One column of the row with this key, or "gone"."""
    query = _where("SELECT {column} FROM {table}", table, row, column=column)
    found = conn.execute(query).fetchone()
    return "gone" if found is None else found[0]
