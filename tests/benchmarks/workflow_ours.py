"""Our engine as a side: a relay and a supervisor with workers, as `ailydian up` runs them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from producers.queries.ledger import pauses
from producers.queries.ledger.pauses import Pause
from producers.workflow import workflows
from shared import db
from shared.db import Role
from shared.ids import TenantId
from shared.servers import embedded_postgres
from tests.benchmarks import harness, workflow_texts
from tests.benchmarks.harness import World
from tests.benchmarks.workflow_sides import SLOTS

QUEUE = "workflow"
TENANT = TenantId("t0")
WARM_UP_RUNS = 16
HELD = Pause(QUEUE, None, None)
NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
STATE = 'SELECT "state" FROM "WorkflowRun" WHERE "id" = %s'
OPEN = """SELECT count(*) FROM "WorkflowRun"
          WHERE "state" NOT IN ('completed', 'failed', 'cancelled')"""
ENDED = """SELECT count(*) FILTER (WHERE r."state" = 'completed'),
                  coalesce(extract(epoch FROM max(r."completedAt") AT TIME ZONE 'UTC'), 0)::float8
           FROM "WorkflowRun" r JOIN "Workflow" w ON w."id" = r."workflowId" WHERE w."name" = %s"""


class Ours:
    """The engine of this checkout."""

    title = "ours"
    database = embedded_postgres.DATABASE

    def __init__(self, here: World) -> None:
        self.here = here
        self._number = 0
        self._filled = ""

    @contextmanager
    def at_work(self, *, processes: int) -> Iterator[None]:
        """A relay, and workers of the one queue; warm."""
        relay = self.here.start("relay", "tests.benchmarks.relay_role")
        amount = ["--processes", str(processes), "--threads", str(SLOTS)]
        workers = self.here.start(
            "workers", "workers.process.supervisor", *amount, "--queue", QUEUE
        )
        harness.until(lambda: self.here.sql(harness.WORKERS) == [(processes,)], "our workers")
        self.linear(WARM_UP_RUNS, 10)
        yield
        self.here.stop("workers", workers)
        self.here.stop("relay", relay)

    def put(self, kind: str, text: str) -> str:
        """Have a workflow; `text` names it `kind`. Returns its name."""
        with db.transaction(TENANT) as conn:
            workflows.put(conn, text)
        return kind

    def name(self, kind: str) -> str:
        """A name that no workflow had yet."""
        self._number += 1
        return f"{kind}-{self._number}"

    def start(self, name: str, given: dict[str, Any] | None = None) -> str:
        """Start a run, in a transaction of its own."""
        with db.transaction(TENANT) as conn:
            return workflows.start(conn, name, given or {}).id

    def linear(self, runs: int, steps: int) -> list[float]:
        """From before the start to the moment when a client that looks every millisecond knows."""
        name = self.name("linear")
        self.put(name, workflow_texts.chain(name, steps))
        with psycopg.connect(self.here.database_url, autocommit=True) as conn:
            return [self._timed(conn, name) for _ in range(runs)]

    def _timed(self, conn: psycopg.Connection[Any], name: str) -> float:
        began = time.perf_counter()
        run_id = self.start(name)
        while conn.execute(STATE, [run_id], prepare=True).fetchone() != ("completed",):
            time.sleep(0.001)
        return time.perf_counter() - began

    def fill(self, runs: int, steps: int) -> None:
        """Start the runs while their queue is held."""
        with db.transaction(None, role=Role.RELAY) as conn:
            pauses.put(conn, HELD, held_by="the benchmark")
        self._filled = self.name("drain")
        self.put(self._filled, workflow_texts.chain(self._filled, steps))
        for _ in range(runs):
            self.start(self._filled)
        harness.owner_sql(
            self.here.database_url, 'ANALYZE "Job", "JobOutbox", "WorkflowRun", "WorkflowStep"'
        )

    def hand_over(self) -> float:
        """Release the queue."""
        with db.transaction(None, role=Role.RELAY) as conn:
            [(now,)] = conn.execute(NOW).fetchall()
            pauses.delete(conn, HELD)
        return float(now)

    def ended(self) -> tuple[int, float]:
        """Runs of the last fill that have completed."""
        [(count, at)] = self.sql(ENDED, self._filled)
        return count, at

    def fan_out(self, width: int) -> dict[str, float]:
        """By `for_each` over a list that the first step yields."""
        name = self.name("fan")
        self.put(name, workflow_texts.fan(name, width))
        with psycopg.connect(self.here.database_url, autocommit=True) as conn:
            return {"for_each": self._timed(conn, name)}

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask as the owner, who sees the rows of every tenant."""
        with db.transaction(None, role=Role.OWNER) as conn:
            cursor = conn.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []
