"""Catalogue facts about this database, and probe rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class TableFact:
    """A table of the schema public; `guarded` means row level security is enabled and forced."""

    name: str
    owner: str
    guarded: bool
    comment: str | None


@dataclass(frozen=True, slots=True)
class ColumnFact:
    """A column, its type as Postgres prints it and the text of its default."""

    table: str
    name: str
    type: str
    nullable: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class IndexFact:
    """A valid index of all rows and its columns; those of expressions are left out."""

    table: str
    name: str
    unique: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignKeyFact:
    """A foreign key; the two actions as pg_constraint codes them, such as 'c' for CASCADE."""

    name: str
    table: str
    columns: tuple[str, ...]
    parent: str
    on_delete: str
    on_update: str


@dataclass(frozen=True, slots=True)
class PolicyFact:
    """A policy: its role, and the two expressions as Postgres prints them."""

    table: str
    role: str
    command: str
    using: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class RoleFact:
    """A role of ours; `usable` means that the connected user may act as it."""

    name: str
    can_log_in: bool
    bypasses: bool
    usable: bool


SELECT_EXTENSION_VERSION: Final = """
    SELECT extversion FROM pg_extension WHERE extname = 'vector'
"""

SELECT_TABLES: Final = """
    SELECT relname AS "name", relowner::regrole::text AS "owner",
           relrowsecurity AND relforcerowsecurity AS "guarded",
           obj_description(oid, 'pg_class') AS "comment"
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    ORDER BY relname
"""

SELECT_COLUMNS: Final = """
    SELECT c.relname AS "table", a.attname AS "name",
           format_type(a.atttypid, a.atttypmod) AS "type", NOT a.attnotnull AS "nullable",
           pg_get_expr(d.adbin, d.adrelid) AS "default"
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY c.relname, a.attnum
"""

SELECT_ENUMS: Final = """
    SELECT t.typname AS "name", array_agg(e.enumlabel::text ORDER BY e.enumsortorder) AS "labels"
    FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
    WHERE t.typnamespace = 'public'::regnamespace
    GROUP BY t.typname
"""

SELECT_INDEXES: Final = """
    SELECT t.relname AS "table", c.relname AS "name", i.indisunique AS "unique",
           (SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number) AS "columns"
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = 'public'::regnamespace AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
    ORDER BY t.relname, c.relname
"""

SELECT_FOREIGN_KEYS: Final = """
    SELECT f.conname AS "name", c.relname AS "table",
           (SELECT array_agg(a.attname::text ORDER BY k.place)
            FROM unnest(f.conkey) WITH ORDINALITY AS k(number, place)
            JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number)
               AS "columns",
           p.relname AS "parent", f.confdeltype::text AS "onDelete",
           f.confupdtype::text AS "onUpdate"
    FROM pg_constraint f
    JOIN pg_class c ON c.oid = f.conrelid
    JOIN pg_class p ON p.oid = f.confrelid
    WHERE f.contype = 'f' AND c.relnamespace = 'public'::regnamespace AND f.conparentid = 0
    ORDER BY c.relname, f.conname
"""

SELECT_POLICIES: Final = """
    SELECT c.relname AS "table", r.rolname AS "role", p.polcmd::text AS "command",
           pg_get_expr(p.polqual, p.polrelid) AS "using",
           pg_get_expr(p.polwithcheck, p.polrelid) AS "check"
    FROM pg_policy p
    JOIN pg_class c ON c.oid = p.polrelid
    CROSS JOIN LATERAL unnest(p.polroles) AS holder(id)
    LEFT JOIN pg_roles r ON r.oid = holder.id
    WHERE c.relnamespace = 'public'::regnamespace
    ORDER BY c.relname, r.rolname
"""

SELECT_ROLES: Final = """
    SELECT rolname AS "name", rolcanlogin AS "canLogIn", rolsuper OR rolbypassrls AS "bypasses",
           pg_has_role(current_setting('session_authorization'), oid, 'MEMBER') AS "usable"
    FROM pg_roles WHERE starts_with(rolname, 'ailydian_') ORDER BY rolname
"""

SELECT_TRIGGERS: Final = """
    SELECT c.relname AS "table",
           t.tgname AS "name" FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgenabled = 'O'
"""

# A function that runs as its owner must not look names up where its caller says.
SELECT_LOOSE_FUNCTIONS: Final = """
    SELECT proname FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND prosecdef
      AND proowner = 'ailydian_owner'::regrole
      AND NOT EXISTS (SELECT 1 FROM unnest(proconfig) AS setting
                      WHERE starts_with(setting, 'search_path='))
    ORDER BY proname
"""


def select_extension_version(conn: Connection) -> str | None:
    """The version of pgvector in this database, or None."""
    row = conn.execute(SELECT_EXTENSION_VERSION).fetchone()
    return None if row is None else str(row[0])


def select_tables(conn: Connection) -> dict[str, TableFact]:
    """Every table of the schema public, by name."""
    return {row[0]: TableFact(*row) for row in conn.execute(SELECT_TABLES)}


def select_columns(conn: Connection) -> dict[tuple[str, str], ColumnFact]:
    """Every column, by table and name, in the order of the table."""
    return {(row[0], row[1]): ColumnFact(*row) for row in conn.execute(SELECT_COLUMNS)}


def select_enums(conn: Connection) -> dict[str, tuple[str, ...]]:
    """Every enum with its labels, in their order."""
    return {name: tuple(labels) for name, labels in conn.execute(SELECT_ENUMS)}


def select_indexes(conn: Connection) -> list[IndexFact]:
    """Every valid index."""
    return [
        IndexFact(table, name, unique, tuple(columns))
        for table, name, unique, columns in conn.execute(SELECT_INDEXES)
    ]


def select_foreign_keys(conn: Connection) -> list[ForeignKeyFact]:
    """Every foreign key."""
    return [
        ForeignKeyFact(name, table, tuple(columns), *rest)
        for name, table, columns, *rest in conn.execute(SELECT_FOREIGN_KEYS)
    ]


def select_policies(conn: Connection) -> list[PolicyFact]:
    """Every policy, one entry a role."""
    return [PolicyFact(*row) for row in conn.execute(SELECT_POLICIES)]


def select_roles(conn: Connection) -> dict[str, RoleFact]:
    """The roles whose names begin with ailydian_, by name."""
    return {row[0]: RoleFact(*row) for row in conn.execute(SELECT_ROLES)}


def select_triggers(conn: Connection) -> set[tuple[str, str]]:
    """Every trigger that fires, as table and name."""
    return {(table, name) for table, name in conn.execute(SELECT_TRIGGERS)}


def select_loose_functions(conn: Connection) -> list[str]:
    """SECURITY DEFINER functions of ours without a search_path of their own."""
    return [row[0] for row in conn.execute(SELECT_LOOSE_FUNCTIONS)]


def count_without_tenant(conn: Connection, tables: Iterable[str]) -> dict[str, int]:
    """Count rows without a tenant by table; tables without such rows are left out."""
    counts = sql.SQL(" UNION ALL ").join(
        sql.SQL('SELECT {}, count(*) FROM {} WHERE "tenantId" IS NULL').format(
            sql.Literal(table), sql.Identifier("public", table)
        )
        for table in tables
    )
    return {table: count for table, count in conn.execute(counts) if count}


def insert_row(conn: Connection, table: str, row: Mapping[str, Any]) -> None:
    """Insert one row, every column named, as the platform's client does."""
    conn.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier("public", table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() * len(row)),
        ),
        list(row.values()),
    )


def select_row(conn: Connection, table: str, row_id: str, columns: Iterable[str]) -> Any:  # noqa: ANN401
    """The named columns of one row as a tuple, or None."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL('SELECT {} FROM {} WHERE "id" = %s').format(
        names, sql.Identifier("public", table)
    )
    return conn.execute(query, [row_id]).fetchone()


def update_row(conn: Connection, table: str, row_id: str, row: Mapping[str, Any]) -> int:
    """Set the columns of `row` in one row; returns how many rows that met."""
    settings = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in row
    )
    query = sql.SQL('UPDATE {} SET {} WHERE "id" = %s').format(
        sql.Identifier("public", table), settings
    )
    return conn.execute(query, [*row.values(), row_id]).rowcount


def delete_row(conn: Connection, table: str, row_id: str) -> int:
    """Delete one row; returns how many rows that met."""
    query = sql.SQL('DELETE FROM {} WHERE "id" = %s').format(sql.Identifier("public", table))
    return conn.execute(query, [row_id]).rowcount
