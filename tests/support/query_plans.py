"""What a statement reads: a large ledger made at once, and plans with the rows they really saw."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from shared import db
from shared.db import Connection, Role
from shared.ids import TenantId
from tests.support import source_code

LEDGER = ("Job", "JobOutbox", "JobEvent", "JobAttempt", "DeadLetter")
FLIGHTS = 600
TENANTS = 20
_READS = re.compile(rf'\b(FROM|JOIN|UPDATE|INTO|USING)\s+"({"|".join(LEDGER)}|JobFlight)"')
_PLACEHOLDER = re.compile(r"%%|%\((?P<name>\w+)\)[sbt]")
_numbers = count(1)

# Of a hundred jobs 30 wait, 8 are dead, the others are done; the last 600 are on their way. Rows
# lie as they would after weeks: tenants mixed, ten lanes each, events of many transactions.
FILL = """
    SET session_replication_role = replica;
    INSERT INTO "Tenant" ("id", "name", "slug", "updatedAt")
    SELECT 't' || g, 't' || g, 't' || g, now() FROM generate_series(0, {tenants} - 1) g;
    CREATE TEMP TABLE made AS
    SELECT g AS n, 'job-' || lpad(g::text, 9, '0') AS id, 't' || g % {tenants} AS tenant,
           'key ' || g AS key, CASE WHEN g % 7 = 0 THEN 'customer ' || g % 3 ELSE '' END AS kind,
           (g / 20 % 3)::smallint AS priority, now() - ({size} - g) * interval '1 second' AS at,
           CASE WHEN g > {size} - {flights} THEN
                    CASE WHEN g % 2 = 0 THEN 'RUNNING' ELSE 'PENDING' END
                WHEN g % 100 < 30 THEN 'PENDING' WHEN g % 100 < 38 THEN 'DEAD'
                ELSE 'COMPLETED' END AS state
    FROM generate_series(1, {size}) g;
    INSERT INTO "Job" ("id", "tenantId", "job", "queue", "payload", "key", "priority", "limitKey",
        "state", "dueAt", "attempt", "fence", "worker", "leaseUntil", "createdAt", "startedAt",
        "finishedAt", "waitingFor")
    SELECT id, tenant, 'probe', 'maintenance', jsonb_build_object('n', n), key, priority, kind,
           state, at, (state <> 'PENDING')::int, (state <> 'PENDING')::int,
           CASE WHEN state <> 'PENDING' THEN 'worker ' || n % 4 END,
           CASE WHEN state = 'RUNNING' THEN now() + (n % 40 - 4) * interval '1 second' END, at,
           CASE WHEN state <> 'PENDING' THEN at END,
           CASE WHEN state IN ('DEAD', 'COMPLETED') THEN at END,
           CASE WHEN state = 'PENDING' AND n % 1000 = 1 THEN 'replay' END
    FROM made;
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
        "attempt")
    SELECT 'maintenance', tenant, 'probe', kind, priority, at, id, 0 FROM made
    WHERE state = 'PENDING' AND n <= {size} - {flights};
    INSERT INTO "JobFlight" ("jobId", "tenantId", "queue", "job", "limitKey", "attempt", "sentAt")
    SELECT id, tenant, 'maintenance', 'probe', kind, 0, now() - interval '1 minute' FROM made
    WHERE n > {size} - {flights};
    INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "endedAt", "verdict",
        "error", "fingerprint")
    SELECT tenant, id, 1, 1, at, 'failed', 'it failed', 'print ' || n % 9 FROM made
    WHERE state = 'DEAD';
    INSERT INTO "DeadLetter" ("id", "tenantId", "jobId", "job", "queue", "attempts", "reason",
        "error", "fingerprint", "diedAt")
    SELECT 'letter-' || n, tenant, id, 'probe', 'maintenance', 1, 'permanent', 'it failed',
           'print ' || n % 9, at FROM made WHERE state = 'DEAD';
    INSERT INTO "JobEvent" ("xid", "tenantId", "jobId", "job", "queue", "what", "at")
    SELECT (3 + n * 400::bigint / {size})::text::xid8, tenant, id, 'probe', 'maintenance', state, at
    FROM made WHERE state IN ('COMPLETED', 'DEAD') ORDER BY n;
    INSERT INTO "EventFold" ("fold", "upto", "open") VALUES ('3', '3', '{{}}');
    INSERT INTO "EventFold" ("fold", "lows", "highs", "upto", "open")
    SELECT (n + 1)::text::xid8, ARRAY[n::text::xid8], ARRAY[(n + 1)::text::xid8],
           (n + 1)::text::xid8, '{{}}' FROM generate_series(3, 403) AS n;
    INSERT INTO "EventCursor" ("reader", "xid", "position") VALUES ('counters', '402', 0);
    DROP TABLE made;
    RESET session_replication_role
"""


def fill(url: str, size: int) -> None:
    """Make a ledger of so many jobs, without triggers, as a superuser."""
    with psycopg.connect(url, autocommit=True) as conn:
        statements = FILL.format(size=size, tenants=TENANTS, flights=FLIGHTS)
        conn.execute(statements.encode())
        conn.execute("VACUUM ANALYZE")


@dataclass(frozen=True)
class Scan:
    """A scan of one of the ledger's tables: rows looked at, kept or not, and blocks."""

    table: str
    how: str
    rows: int
    loops: int
    blocks: int

    @property
    def walks(self) -> bool:
        """Whether far more was read than the rows looked at need: an index from end to end."""
        by_place = self.how == "Tid Scan"  # its blocks are those of the list of places too
        # Before version 17 each value of a list goes down the index by itself, from its root.
        return not by_place and self.blocks > 12 * self.loops + 5 * self.rows + 20


@dataclass(frozen=True)
class Reading:
    """What a statement has read."""

    scans: list[Scan]
    blocks: int


def statements() -> Iterator[tuple[str, str]]:
    """The shelf's statements that touch the ledger."""
    return ((name, text) for name, text in source_code.statements() if _READS.search(text))


def names(statement: str) -> list[str]:
    """The statement's parameters in the order of their numbers."""
    return list(dict.fromkeys(it["name"] for it in _PLACEHOLDER.finditer(statement) if it["name"]))


def explain(
    statement: str,
    values: Mapping[str, object],
    *,
    role: Role = Role.RELAY,
    tenant: str | None = None,
    mode: str | None = None,
) -> Reading:
    """Run a statement in the settings it runs in, with a plan made once; nothing of it stays."""
    plans = f"SET LOCAL plan_cache_mode = {mode}" if mode else ""
    with (
        db.transaction(TenantId(tenant) if tenant else None, role=role, first=plans) as conn,
        conn.transaction(force_rollback=True),
    ):
        return _explained(conn, statement, values)


def _explained(conn: Connection, statement: str, values: Mapping[str, object]) -> Reading:
    name = f"planned_{next(_numbers)}"
    conn.execute(f"PREPARE {name} AS {source_code.numbered(statement)}".encode())
    given = [sql.Literal(values[one]) for one in names(statement)]
    call = sql.SQL("EXECUTE {}").format(sql.Identifier(name))
    if given:
        call = sql.SQL("EXECUTE {} ({})").format(sql.Identifier(name), sql.SQL(", ").join(given))
    row = conn.execute(
        sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {}").format(call)
    ).fetchone()
    assert row is not None
    found = row[0] if isinstance(row[0], list) else json.loads(row[0])
    plan = found[0]["Plan"]
    return Reading([one for node in _nodes(plan) if (one := _scan(node))], _blocks(plan))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _scan(node: dict[str, Any]) -> Scan | None:
    if "Scan" not in node["Node Type"] or node.get("Relation Name") not in LEDGER:
        return None
    loops = node["Actual Loops"]
    kept = node["Actual Rows"]
    thrown = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    rows = round((kept + thrown) * loops)
    # A node's blocks hold those of what hangs on it, such as a list that was made first.
    blocks = _blocks(node) - sum(map(_blocks, node.get("Plans", [])))
    if node["Node Type"] == "Bitmap Heap Scan":
        blocks = _blocks(node)
    return Scan(node["Relation Name"], node["Node Type"], rows, loops, blocks)


def _blocks(node: dict[str, Any]) -> int:
    return sum(node.get(f"Shared {how} Blocks", 0) for how in ("Hit", "Read"))
