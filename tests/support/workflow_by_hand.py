"""Walkers in a test's own hands: start a run of made-up nodes, claim its jobs, finish its steps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared import db
from shared.db import Role
from shared.queries.ledger import outbox
from shared.queries.workflow import workflow_steps, workflows
from shared.queries.workflow.workflow_steps import Finished, StepClaim, StepWait
from shared.queries.workflow.workflows import NewNode, NewRun, NewVersion

LEASE_S = 30.0


def node(position, name, *dependents, needs=0, **changes):
    """A node of kind `transform` that fails its run where it fails."""
    made = NewNode(
        position=position,
        name=name,
        uses="transform",
        spec="{}",
        needs=needs,
        dependents=dependents,
        reads=(),
        list_reads=(),
        compensates=None,
        mapped=False,
        on_error="fail",
        attempts_max=3,
        backoff_s=1.0,
        timeout_s=None,
    )
    return replace(made, **changes)


def chain(count, **changes):
    """Nodes one after the other."""
    return [
        node(n, f"s{n}", *([n + 1] if n < count - 1 else []), needs=int(n > 0), **changes)
        for n in range(count)
    ]


def start(tenant_id, nodes: Sequence[NewNode], name="test", *, timeout_s=0.0, **run):
    """Put the nodes as a new version of a workflow and start a run. Returns its id and state."""
    with db.transaction(tenant_id) as conn:
        workflow_id = workflows.lock_workflow(conn, name, None, "{}")
        ends = sum(not one.dependents for one in nodes if one.compensates is None)
        new = NewVersion(workflow_id, None, "{}", "x", len(nodes), ends, timeout_s, None)
        version_id, _ = workflows.insert_version(conn, new)
        workflows.insert_nodes(conn, version_id, nodes)
        run_id, state, _ = workflows.start_run(conn, NewRun(version_id, "{}", **run))
        return run_id, state


@dataclass
class Walker:
    """A claimed `run_step` job; `at` is the step it is at, None when its job is done."""

    tenant_id: str
    job_id: str
    fence: int
    at: dict | None = None

    @property
    def hold(self):
        return StepClaim(self.tenant_id, self.job_id, self.at["fence"], self.at["stepId"])

    @property
    def name(self):
        return None if self.at is None else self.at.get("name")

    def begin(self):
        self.at = _read(workflow_steps.begin(self.tenant_id, self.job_id, self.fence))
        return self

    def finish(self, output=None, *, verdict="completed", error=None, go_on=True):
        end = Finished(verdict, json.dumps(output), None, error, LEASE_S if go_on else 0.0)
        before = self.at
        self.at = _read(workflow_steps.finish(self.hold, end))
        if self.at is not None:
            self.at = before | self.at
        return self

    def fail(self, error="it broke"):
        return self.finish(verdict="failed", error=error)

    def expand(self, items, parallel=32):
        told = workflow_steps.expand(
            self.hold, json.dumps(items), parallel=parallel, lease_s=LEASE_S
        )
        self.at = _read(told)
        return self

    def wait(self, what, name="", wait_s=None):
        self.at = _read(
            workflow_steps.suspend(self.hold, StepWait(what, name, wait_s, None), lease_s=LEASE_S)
        )
        return self

    def walk(self, outcome=None):
        """Finish step after step until the job is done. Returns the names."""
        seen = []
        while self.at is not None:
            seen.append(self.at["name"])
            self.finish(None if outcome is None else outcome(self.at))
        return seen


def claim(tenant_id, job="run_step"):
    """Claim every due job of a kind, as the relay and a worker would, and begin its step."""
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = conn.execute(
            'DELETE FROM "JobOutbox" WHERE "job" = %s AND "dueAt" <= now() '
            'RETURNING "jobId", "attempt", "tenantId", "queue", "job"',
            [job],
        ).fetchall()
        for job_id, attempt, tenant, queue, kind in rows:
            conn.execute(
                'INSERT INTO "JobFlight" ("jobId", "attempt", "tenantId", "queue", "job") '
                "VALUES (%s, %s, %s, %s, %s)",
                [job_id, attempt, tenant, queue, kind],
            )
        wakeups = [(row[0], row[1]) for row in rows]
        claimed = outbox.claim(conn, wakeups, worker="walker", lease_s=LEASE_S)
    made = [Walker(row[1], row[0], row[9]) for row in sorted(claimed)]
    return [one.begin() for one in made] if job == "run_step" else made


def run_of(tenant_id, run_id):
    """State, error and output of a run."""
    with db.transaction(tenant_id) as conn:
        return conn.execute(
            'SELECT "state", "error", "output" FROM "WorkflowRun" WHERE "id" = %s', [run_id]
        ).fetchone()


def states(tenant_id, run_id):
    """Name -> state of a run's steps."""
    with db.transaction(tenant_id) as conn:
        return dict(
            conn.execute(
                'SELECT "stepName", "state" FROM "WorkflowStep" WHERE "runId" = %s', [run_id]
            ).fetchall()
        )


def _read(told):
    return None if told is None else json.loads(told)
