"""A row of every table for two tenants and for nobody, made from the catalogue alone.

A new table needs no entry here, and no parent: rows are written without triggers and foreign keys,
so that what a policy lets through is seen, and nothing else.
"""

import re
from typing import Any
from zlib import crc32

import psycopg
from psycopg import sql

TAGS = ("a", "b", None)

COLUMNS = """
    SELECT c.relname, a.attname,
           format_type(coalesce(nullif(t.typbasetype, 0), t.oid), a.atttypmod), a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid) IS NOT NULL, a.attidentity <> '',
           a.attgenerated <> '',
           (SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid
            ORDER BY e.enumsortorder LIMIT 1)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
      AND NOT a.attisdropped
    ORDER BY c.relname, a.attnum
"""

CHECKS = """
    SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype = 'c' AND connamespace = 'public'::regnamespace
"""

# What a CHECK asks of two columns at once, which no one column's type tells.
ASKED: dict[str, dict[str, Any]] = {
    "JobLimit": {"concurrencyMax": 1, "job": "probe"},
    "BulkAction": {"state": "RUNNING"},
    "JobHold": {"queue": "maintenance"},
    "Job": {"state": "PENDING"},
    "Schedule": {"job": "probe"},
    "Webhook": {"events": ["job.completed"]},
    "WorkflowWait": {"what": "run"},
}

ASKED_OF_NOBODYS: dict[str, dict[str, Any]] = {
    "RequestRule": {"keyId": "keyId-None"},
    "Schedule": {"job": None, "sweep": "prune"},
}

Row = dict[str, Any]


class Tables:
    """The tables of a database, and how a row of each can be made."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.columns: dict[str, list[str]] = {}
        self._of_tenants: set[str] = set()
        self._makers: dict[str, list[tuple[Any, ...]]] = {}
        for table, name, kind, needed, default, identity, generated, label in conn.execute(COLUMNS):
            if name == "tenantId" and needed:
                self._of_tenants.add(table)
            if not generated and not identity:
                self.columns.setdefault(table, []).append(name)
                self._makers.setdefault(table, []).append(
                    (name, kind, needed and not default, label)
                )
        self._words: dict[tuple[str, str], str] = {}
        for table, check in conn.execute(CHECKS):
            # The first word of a list of words that a CHECK allows.
            for name, word in re.findall(r"""\(?"?(\w+)"? = ANY \(\(?ARRAY\['([^']+)'""", check):
                self._words.setdefault((table.strip('"'), name), word)

    def row(self, table: str, tag: str | None) -> Row:
        """A row of a tenant, or of nobody: ids and what must not be empty."""
        row: Row = {}
        for name, kind, needed, label in self._makers[table]:
            if name == "tenantId":
                row[name] = tag
            elif needed or name == "id":
                word = self._words.get((table, name))
                row[name] = word or _value(kind, label, f"{name}-{tag}")
        if table == "Tenant":
            row["id"] = tag or "nobody"
        return row | ASKED.get(table, {}) | (ASKED_OF_NOBODYS.get(table, {}) if tag is None else {})

    def nullable(self, table: str) -> bool:
        """Whether a row of the table may have no tenant."""
        return table not in self._of_tenants and "tenantId" in self.columns[table]


def _value(kind: str, label: str | None, text: str) -> Any:
    if label is not None:
        return label
    if size := re.fullmatch(r"(?:\w+\.)?(vector|halfvec|bit)\((\d+)\)", kind):
        dense = "[" + ",".join(["0.5"] * int(size[2])) + "]"
        return dense if "vec" in size[1] else "0" * int(size[2])
    if kind.endswith("[]"):
        return "{}"
    if kind == "xid8" or text.startswith("number-"):  # a key of its own for each row
        return str(crc32(text.encode()))
    for prefix, value in VALUES.items():
        if kind.startswith(prefix):
            return value
    return text


VALUES = {
    "timestamp": "2026-11-01",
    "json": "{}",
    "int": 1,
    "bigint": 1,
    "smallint": 1,
    "double": 1,
    "real": 1,
    "numeric": 1,
    "boolean": True,
    "bytea": b"x",
    "tsvector": "'x':1",
    "interval": "1s",
}


def put(conn: psycopg.Connection, table: str, row: Row) -> str:
    """Insert one row. Returns its place, as ctid has it."""
    (place,) = conn.execute(insertion(table, row) + sql.SQL(" RETURNING ctid::text")).fetchone()
    return place


def insertion(table: str, row: Row) -> sql.Composed:
    """The statement that inserts a row."""
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Literal, row.values())),
    )
