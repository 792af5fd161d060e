"""Checks of the database schema, for `ailydian verify`."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import psycopg

from producers.operations import platform_tables, security_checks, server_checks
from producers.operations.platform_tables import Column, Table
from producers.queries.operations import exposed_objects, schema_facts, security_facts
from shared import schema
from shared.db import Connection, Pool, Role
from shared.errors import AilydianError

ROLES: Final = (*(role.value for role in Role), "ailydian_platform")
ACTIONS: Final = {"CASCADE": "c", "SET NULL": "n", "RESTRICT": "a"}  # NO ACTION stands for RESTRICT
FAULTS_MAX: Final = 20  # that one line tells of


@dataclass(frozen=True)
class VerificationCheck:
    """The result of one check; `detail` describes what was found."""

    name: str
    ok: bool
    detail: str


def verify(conn_url: str) -> list[VerificationCheck]:
    """Check a database. Changes nothing: probe rows are rolled back.

    Args:
        conn_url: A libpq URL; its user must be allowed to act as ailydian_owner.

    Returns:
        Extension, roles, tables, columns, enums, indexes and foreign keys; memberships, policies,
        grants, owners, triggers, functions and definitions, each compared with what the schema
        makes, and what gets around them; settings of the server;
        one check for writing, reading, changing and deleting a row of each of the 35 tables;
        and, never a fault, the count of rows without a tenant and who may do everything.
    """
    pool = Pool(conn_url, size=1, prepared_statements=False)
    try:
        with pool.transaction(None, role=Role.OWNER) as conn:
            return [
                *schema_checks(conn),
                *(_checked(conn, name, find) for name, find in server_checks.FINDERS.items()),
                *_probe_tables(conn),
                _count_without_tenant(conn),
                _list_logins(conn),
            ]
    except AilydianError as error:
        return [VerificationCheck("connection", False, str(error))]
    finally:
        pool.close()


Faults = Iterator[str]


def _checked(
    conn: Connection, name: str, find: Callable[[Connection], Faults]
) -> VerificationCheck:
    """Run a check in a savepoint, so that its failure does not abort the transaction."""
    try:
        with conn.transaction(force_rollback=True):
            faults = list(find(conn))
    except psycopg.Error as error:
        faults = [_first_line(error)]
    return _check(name, faults)


def _check(name: str, faults: list[str]) -> VerificationCheck:
    if len(faults) > FAULTS_MAX:
        faults[FAULTS_MAX:] = [f"and {len(faults) - FAULTS_MAX} more"]
    return VerificationCheck(name, not faults, "; ".join(faults) or "ok")


def _extension(conn: Connection) -> Faults:
    if schema_facts.select_extension_version(conn) is None:
        yield "the extension vector is missing"


def _roles(conn: Connection) -> Faults:
    found = schema_facts.select_roles(conn)
    for name in ROLES:
        role = found.get(name)
        if role is None:
            yield f"{name} is missing"
        elif role.bypasses:
            yield f"{name} bypasses row level security"
        elif role.can_log_in:
            yield f"{name} can log in"
        elif not role.usable and name != "ailydian_platform":
            yield f"the connected user lacks the role {name}"


def _tables(conn: Connection) -> Faults:
    found = schema_facts.select_tables(conn)
    for name in _expected_tables():
        if name not in found:
            yield f"{name} is missing"
        elif found[name].owner != Role.OWNER:
            yield f"{name} is owned by {found[name].owner}"
        elif not found[name].comment:
            yield f"{name} has no comment"


def _expected_tables() -> list[str]:
    """Return all tables created by the schema files."""
    return re.findall(r'^CREATE TABLE IF NOT EXISTS "(\w+)"', schema.text(), re.MULTILINE)


def _columns(conn: Connection) -> Faults:
    found = schema_facts.select_columns(conn)
    for table in platform_tables.TABLES.values():
        for column in table.columns:
            fact = found.get((table.name, column.name))
            if fact is None:
                yield f"{table.name}.{column.name} is missing"
            else:
                wrong = list(_column_faults(column, fact))
                if wrong:
                    yield f"{table.name}.{column.name}: {', '.join(wrong)}"
    ours = {
        name: fact
        for name, fact in found.items()
        if name[0] in platform_tables.TABLES
        and name[1] not in {column.name for column in platform_tables.TABLES[name[0]].columns}
    }
    for (of_table, name), fact in ours.items():
        if not fact.nullable and fact.default is None:
            yield f"{of_table}.{name} would refuse the platform's rows"


def _column_faults(column: Column, fact: schema_facts.ColumnFact) -> Faults:
    if fact.type != column.postgres_type:
        yield f"type {fact.type}, not {column.postgres_type}"
    # The client reads NULL as an empty list and sends it too: a list column takes NULL.
    if fact.nullable != (column.nullable or column.kind.endswith("[]")):
        yield "nullable" if fact.nullable else "not nullable"
    if (fact.default is not None) != column.has_default:
        yield "no default" if fact.default is None else "a default"


def _enums(conn: Connection) -> Faults:
    found = schema_facts.select_enums(conn)
    for name, labels in platform_tables.ENUMS.items():
        if found.get(name) != labels:
            yield f"{name} has the labels {found.get(name)}"


def _indexes(conn: Connection) -> Faults:
    found = {(fact.table, fact.columns, fact.unique) for fact in schema_facts.select_indexes(conn)}
    for table in platform_tables.TABLES.values():
        keys = [("id",), *((column.name,) for column in table.columns if column.unique)]
        for columns in (*keys, *table.uniques):
            if (table.name, columns, True) not in found:
                yield f"{table.name} has no unique index on {', '.join(columns)}"
        for columns in table.indexes:
            if (table.name, columns, False) not in found:
                yield f"{table.name} has no index on {', '.join(columns)}"


def _foreign_keys(conn: Connection) -> Faults:
    found = {fact.name: fact for fact in schema_facts.select_foreign_keys(conn)}
    for table in platform_tables.TABLES.values():
        for column in table.columns:
            name = f"{table.name}_{column.name}_fkey"
            fact = found.get(name)
            if column.parent is None:
                if fact is not None:
                    yield f"{name} is unexpected"
            elif fact is None or fact.parent != column.parent:
                yield f"{name} is missing"
            elif (fact.on_delete, fact.on_update) != (ACTIONS[column.on_delete], "c"):
                yield f"{name} acts as {fact.on_delete} and {fact.on_update}"


def schema_checks(conn: Connection) -> list[VerificationCheck]:
    """Check tables, rights and what gets around them, as ailydian_owner, who `conn` acts as."""
    security_facts.print_by_default(conn)
    return [*(_checked(conn, name, find) for name, find in _FINDERS.items()), *_security(conn)]


def _security(conn: Connection) -> list[VerificationCheck]:
    try:
        with conn.transaction(force_rollback=True):
            wrong = security_checks.look(conn)
    except psycopg.Error as error:
        wrong = {name: [_first_line(error)] for name in security_checks.NAMES}
    return [_check(name, faults) for name, faults in wrong.items()]


_FINDERS: Final[dict[str, Callable[[Connection], Faults]]] = {
    "extension": _extension,
    "roles": _roles,
    "tables": _tables,
    "columns": _columns,
    "enums": _enums,
    "indexes": _indexes,
    "foreign_keys": _foreign_keys,
}


def _probe_tables(conn: Connection) -> list[VerificationCheck]:
    """Write, read, change and delete one row of each table, then roll all of it back."""
    tables = platform_tables.parents_first()
    tag = uuid4().hex
    ids = {table.name: f"id-{tag}" for table in tables}
    faults: dict[str, str] = {}
    with conn.transaction(force_rollback=True):
        for table in tables:
            _probe(conn, faults, table, lambda table: _write_and_change(conn, table, tag, ids))
        for table in reversed(tables):
            _probe(conn, faults, table, lambda table: _delete(conn, table, ids))
    return [
        VerificationCheck(
            f"crud.{table.name}", table.name not in faults, faults.get(table.name, "rolled back")
        )
        for table in tables
    ]


def _probe(
    conn: Connection, faults: dict[str, str], table: Table, act: Callable[[Table], bool]
) -> None:
    if table.name in faults:
        return
    try:
        with conn.transaction():
            if not act(table):
                faults[table.name] = "an inserted row cannot be read back"
    except psycopg.Error as error:
        faults[table.name] = _first_line(error)


def _write_and_change(conn: Connection, table: Table, tag: str, ids: dict[str, str]) -> bool:
    row = platform_tables.sample_row(table, tag, ids)
    schema_facts.insert_row(conn, table.name, row)
    found = schema_facts.select_row(conn, table.name, row["id"], ["id"])
    last = table.columns[-1].name
    changed = schema_facts.update_row(conn, table.name, row["id"], {last: row[last]})
    return found == (row["id"],) and changed == 1


def _delete(conn: Connection, table: Table, ids: dict[str, str]) -> bool:
    return schema_facts.delete_row(conn, table.name, ids[table.name]) == 1


def _count_without_tenant(conn: Connection) -> VerificationCheck:
    """Count rows without a tenant: they belong to the platform and workers do not see them."""
    columns = schema_facts.select_columns(conn)
    tables = [name for name in platform_tables.TABLES if (name, "tenantId") in columns]
    try:
        with conn.transaction():
            counts = schema_facts.count_without_tenant(conn, tables) if tables else {}
    except psycopg.Error as error:
        return VerificationCheck("rows_without_tenant", False, _first_line(error))
    detail = ", ".join(f"{table} {count}" for table, count in counts.items())
    return VerificationCheck("rows_without_tenant", True, detail or "none")


def _list_logins(conn: Connection) -> VerificationCheck:
    """List who may act as whom: only a reader knows which of them are yours."""
    return VerificationCheck("logins", True, "; ".join(exposed_objects.select_logins(conn)))


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
