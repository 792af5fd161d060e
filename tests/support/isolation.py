"""Whether row level security keeps rows apart: every table, every role, whatever its grants are.

Grants are left aside (each role is granted everything first), and so are triggers and foreign keys:
what is met here is met because a policy lets it through. The lists below are written by hand, so
that a policy and its copy in rights.txt cannot be wrong together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from producers.operations import platform_tables
from tests.support.any_rows import TAGS, Row, Tables, insertion, put
from tests.support.platform_rows import act_as

# Tables of operators: no tenant has rows in them.
CLOSED = {
    "SchemaMigration", "Quarantine", "WorkerProcess", "JobHold", "JobLimit", "JobLimitUse",
    "EventCursor", "JobStat", "ModelUse", "Publisher", "RevokedKey",
    "BulkAction",
    "RequestRule", "RequestBucket", "SessionState", "LoginLink",
    "AuditSeal", "AuditChain", "AuditCheckpoint", "AuditHead", "AuditState", "AuditSink",
}  # fmt: skip
RELAY = {
    "Job", "JobOutbox", "JobFlight", "JobAttempt", "DeadLetter", "Upload", "ProbeEntry", "JobKind",
    "QueueState", "Quarantine", "WorkerProcess", "JobEvent", "JobBatch", "Schedule", "JobHold",
    "JobLimit", "JobLimitUse", "EventCursor", "JobStat", "ModelUse", "Tenant", "WorkflowWait",
    "PlatformChange", "AuditLog", "IncidentNotice", "TenantDepth", "Publisher", "HttpAnswer",
    "EventFold", "AuditState", "AuditSink",
    "BulkAction", "Webhook",
}  # fmt: skip
AUDITOR = {
    "AuditLog", "AuditSeal", "AuditChain", "AuditCheckpoint", "AuditHead", "AuditState",
    "AuditSink", "EventFold",
}  # fmt: skip
PLATFORM = {*platform_tables.TABLES, "Job", "JobOutbox", "JobKind", "QueueState", "TenantDepth"}


@dataclass(frozen=True)
class Seeded:
    """A row that is there, and where."""

    values: Row
    place: str


Rows = dict[str, dict[str | None, Seeded]]

# Who looks, and as whom.
ACTORS = [
    ("ailydian_app", "a"),
    ("ailydian_app", None),
    ("ailydian_app", ""),
    ("ailydian_relay", None),
    ("ailydian_relay", "a"),
    ("ailydian_audit_reader", None),
    ("ailydian_platform", None),
    ("ailydian_owner", None),
]


def seed(conn: psycopg.Connection, only: Iterable[str] = ()) -> Rows:
    """As a superuser, give tenants a and b, and nobody where that may be, a row in every table."""
    tables = Tables(conn)
    conn.execute("SET LOCAL session_replication_role = replica")
    rows: Rows = {}
    for table in list(only) or tables.columns:
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        rows[table] = {}
        for tag in TAGS:
            if tag is None and not tables.nullable(table):
                continue
            row = tables.row(table, tag)
            rows[table][tag] = Seeded(row, put(conn, table, row))
    conn.execute("SET LOCAL session_replication_role = origin")
    return rows


def faults(
    conn: psycopg.Connection,
    rows: Rows,
    tables: Iterable[str] | None = None,
) -> Iterator[str]:
    """What somebody sees, changes, deletes or writes and should not, or should and cannot."""
    for table in rows if tables is None else tables:
        for role, tenant in ACTORS:
            expected = _in_sight(table, role, tenant, set(rows[table]))
            with conn.transaction(force_rollback=True):
                found = _met(conn, table, rows[table], role, tenant)
            if found != {verb: expected for verb in found}:
                yield f"{table} as {role} of {tenant!r}: {found}, not {expected}"


def _in_sight(table: str, role: str, tenant: str | None, tags: set[str | None]) -> set[str | None]:
    if role == "ailydian_app":
        if table in CLOSED:
            return set()
        return tags if table in platform_tables.GLOBAL else tags & {tenant} - {None}
    whole = {
        "ailydian_owner": True,
        "ailydian_relay": table in RELAY,
        "ailydian_platform": table in PLATFORM,
        "ailydian_audit_reader": table in AUDITOR,
    }
    return tags if whole[role] else set()


def _met(
    conn: psycopg.Connection,
    table: str,
    rows: dict[str | None, Seeded],
    role: str,
    tenant: str | None,
) -> dict[str, set[str | None]]:
    """The tags of the rows that each verb meets, one row after the other."""
    name = sql.Identifier(table)
    conn.execute("SET LOCAL session_replication_role = replica")
    conn.execute(sql.SQL("GRANT ALL ON {} TO {}").format(name, sql.Identifier(role)))
    act_as(conn, role, tenant)
    met: dict[str, set[str | None]] = {"select": set(), "update": set(), "insert": set()}
    for tag, row in rows.items():
        one = sql.SQL("ctid = {}::tid").format(sql.Literal(row.place))
        if conn.execute(sql.SQL("SELECT FROM {} WHERE {}").format(name, one)).rowcount:
            met["select"].add(tag)
        column = sql.Identifier(next(iter(row.values)))
        change = sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(name, column, column, one)
        if _changes(conn, change):
            met["update"].add(tag)
    conn.execute("RESET ROLE")
    conn.execute(sql.SQL("DELETE FROM {}").format(name))
    act_as(conn, role, tenant)
    for tag, row in rows.items():
        if _changes(conn, insertion(table, row.values)):
            met["insert"].add(tag)
    return met


def _changes(conn: psycopg.Connection, statement: sql.Composed) -> bool:
    try:
        with conn.transaction():
            return conn.execute(statement).rowcount > 0
    except InsufficientPrivilege:
        return False


def faults_of_goodbye(conn: psycopg.Connection, rows: Rows) -> Iterator[str]:
    """Tables in which the triggers at the end of tenant a end rows of b."""
    with conn.transaction(force_rollback=True):
        conn.execute("""ALTER TABLE "Tenant" ENABLE ALWAYS TRIGGER gone""")
        conn.execute("""ALTER TABLE "Tenant" ENABLE ALWAYS TRIGGER judgement_gone""")
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("""DELETE FROM "Tenant" WHERE "id" = 'a'""")
        left: dict[str, set[str]] = {}
        for table in (table for table in rows if "tenantId" in rows[table]["b"].values):
            query = sql.SQL('SELECT DISTINCT "tenantId" FROM {}').format(sql.Identifier(table))
            left[table] = {tenant for (tenant,) in conn.execute(query)}
    yield from (f"{table}: b's rows went too" for table in left if "b" not in left[table])
    if "a" in left["Job"] | left["TrustEvent"]:
        yield "a's rows are left"


# Children whose tenant is their parent's: the platform's, and ours.
PARENTS = {
    **{child: one for child, one in platform_tables.PARENTS.items() if child != "ModerationResult"},
    "WorkflowVersion": ("workflowId", "Workflow", True),
    "WorkflowNode": ("versionId", "WorkflowVersion", True),
}


def faults_of_parents(conn: psycopg.Connection, rows: Rows) -> Iterator[str]:
    """Children that can be told from a missing parent that another tenant has one of this id."""
    for child, (column, parent, must_exist) in PARENTS.items():
        told = []
        for parent_id in (rows[parent]["b"].values["id"], "there is none"):
            row = {**rows[child]["a"].values, "id": "new", column: parent_id}
            if child == "WorkflowNode":
                del row["id"]
            del row["tenantId"]
            with conn.transaction(force_rollback=True):
                conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(child)))
                grant = sql.SQL("GRANT INSERT ON {} TO ailydian_app")
                conn.execute(grant.format(sql.Identifier(child)))
                act_as(conn, "ailydian_app", "a")
                told.append(_refusal(conn, insertion(child, row)))
        hidden, missing = told
        if hidden != missing or (must_exist and hidden[0] != "23503"):
            yield f"{child}: {hidden}, of a parent that is missing {missing}"


def _refusal(conn: psycopg.Connection, statement: sql.Composed) -> tuple[str | None, str | None]:
    try:
        with conn.transaction():
            conn.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate, error.diag.message_primary
    return None, None
