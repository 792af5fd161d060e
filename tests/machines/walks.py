"""A run of a random graph, twice: in the machine in memory, and in the engine in Postgres.

Time passes by moving the rows. Nothing here copies a statement: `engine_model` says what each
event does, `check` reads the tables and finds the same.
"""

import json

from hypothesis.stateful import RuleBasedStateMachine

from producers.queries.workflow import run_actions
from shared import db
from shared.db import Role
from shared.workflow.plan import Node
from shared.workflow.trial.engine_model import LIVE, RUN_LIVE, Graph, Run
from tests.support.factories import make_tenant, rows
from tests.support.workflow_by_hand import Walker, node, start

TIMEOUT_S = 3_600.0

READ_STEPS = """
    SELECT "id", "state", "openNeeds", "liveNeeds", "openItems", "nextItem"
    FROM "WorkflowStep" WHERE "runId" = %s
"""
READ_RUN = """
    SELECT r."state", r."endsOpen", r."error", r."output",
           (SELECT count(*) FROM "WorkflowWait" w WHERE w."runId" = r."id"),
           (SELECT count(*) FROM "WorkflowSlot" s WHERE s."runId" = r."id"),
           (SELECT count(*) FROM "Job" j WHERE j."payload" = jsonb_build_object('run_id', r."id")
              AND j."state" IN ('PENDING', 'RUNNING'))
    FROM "WorkflowRun" r WHERE r."id" = %s
"""
# Times have milliseconds only: what was over first is told apart by seconds.
ORDER_TIMES = """
    UPDATE "WorkflowStep" s SET "completedAt" = timestamp '2026-01-01' + o."n" * interval '1 second'
    FROM unnest(%s::text[], %s::int[]) AS o("id", "n") WHERE s."id" = o."id"
"""
MAKE_DUE = """
    UPDATE "WorkflowWait" w SET "dueAt" = now() - interval '1 hour' + o."n" * interval '1 second'
    FROM unnest(%s::text[]) WITH ORDINALITY AS o("id", "n") WHERE w."id" = o."id"
"""


def graph_of(shape):
    """Nodes of a random graph, as the plan has them: steps first, then what undoes them."""
    needs = [{one % at for one in wanted} if at else set() for at, (wanted, *_) in enumerate(shape)]
    nodes = []
    for at, (_, on_error, parallel, _, keyed) in enumerate(shape):
        spec = {"on_error": on_error}
        spec |= {"for_each": [], "max_parallel": parallel} if parallel else {}
        spec |= {"concurrency": "key"} if keyed else {}
        after = tuple(later for later, wanted in enumerate(needs) if at in wanted)
        nodes.append(Node(at, f"s{at}", "transform", spec, len(needs[at]), after, (), None))
    for at, (_, _, _, undone, _) in enumerate(shape):
        if undone:
            nodes.append(Node(len(nodes), f"undo_s{at}", "transform", {}, 0, (), (), at))
    return nodes, needs


def row_of(one):
    return node(
        one.position,
        one.name,
        *one.dependents,
        needs=one.needs,
        spec=json.dumps(one.spec),
        compensates=one.compensates,
        mapped="for_each" in one.spec,
        on_error=one.spec.get("on_error", "fail"),
    )


class Walks(RuleBasedStateMachine):
    """One run at a time, here and there; subclasses say what happens to it."""

    def __init__(self):
        super().__init__()
        self.tenant = make_tenant()

    def begin_run(self, shape):
        self.nodes, self.needs = graph_of(shape)
        self.id, _ = start(self.tenant, [row_of(one) for one in self.nodes], timeout_s=TIMEOUT_S)
        self.run = Run(Graph.of(self.nodes))
        self.run.start()
        self.walkers, self.ghosts = {}, []
        self.waits, self.line, self.kept = {}, [], []

    # ---- what both sides have in common

    def place(self, step_id):
        position, _, index = step_id.removeprefix(f"{self.id}/").partition("/")
        return int(position), int(index or -1)

    def step_id(self, at):
        return f"{self.id}/{at[0]}" + (f"/{at[1]}" if at[1] >= 0 else "")

    def name(self, at):
        return self.nodes[at[0]].name + (f"[{at[1]}]" if at[1] >= 0 else "")

    def is_mapped(self, at):
        return at[1] < 0 and "for_each" in self.nodes[at[0]].spec

    def is_keyed(self, at):
        return not self.is_mapped(at) and "concurrency" in self.nodes[at[0]].spec

    def is_ready(self):
        return any(one.state == "ready" and not one.parked for one in self.run.steps.values())

    def asked(self, *kinds):
        return [at for at, wait in self.waits.items() if wait[0] in kinds]

    def pick(self, which):
        """A step that a walker is at, by any number."""
        found = sorted(self.walkers)
        return found[which % len(found)] if found else None

    def settle(self, at, verdict, output=None, error=None):
        """What the machine makes of a step's end; the next behind its key has its turn."""
        if self.run.steps[at].state in LIVE and at in self.line:
            self.line.remove(at)
            self.call_next()
        self.waits.pop(at, None)
        return self.run.settle(at, verdict, output, error)

    def call_next(self):
        if self.line and self.waits.get(self.line[0]) == ("slot", ""):
            del self.waits[self.line[0]]
            self.run.wake(self.line[0])

    def goes_on(self, walker, opened):
        """A walker went on with the first step that may begin, or is done where it may not."""
        if not opened:
            assert walker.at is None
            return
        assert self.place(walker.at["stepId"]) == opened[0]
        assert self.run.begin(opened[0])
        self.arrive(walker)

    def arrive(self, walker):
        at = self.place(walker.at["stepId"])
        assert at not in self.walkers, "two walkers do one step"
        assert walker.at.get("skip", False) == self.run.all_needs_skipped(at)
        self.walkers[at] = walker

    def act(self, change, *values):
        with db.transaction(self.tenant) as conn:
            change(conn, self.id, *values)

    def owner(self, statement, *values):
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute(statement, values)

    def stop(self):
        self.run.cancel("no longer wanted")
        self.act(run_actions.cancel, "no longer wanted")

    def order_times(self):
        over = {self.step_id(at): step.ended for at, step in self.run.steps.items() if step.ended}
        self.owner(ORDER_TIMES, list(over), list(over.values()))

    def forget_the_stopped(self):
        states = self.run.steps
        for at in [at for at in self.walkers if states[at].state != "running"]:
            walker = self.walkers.pop(at)
            self.ghosts.append(Walker(self.tenant, walker.job_id, walker.fence, dict(walker.at)))
        self.waits = {at: one for at, one in self.waits.items() if states[at].state == "waiting"}
        self.line = [at for at in self.line if states[at].state in LIVE]
        self.call_next()

    def check(self):
        """Compare every row."""
        self.forget_the_stopped()
        run = self.run
        skipped = {at[0] for at, step in run.steps.items() if at[1] < 0 and step.state == "skipped"}
        there = {self.place(row[0]): tuple(row[1:]) for row in rows(READ_STEPS, self.id)}
        here = {
            at: (step.state, step.open_needs, step.live_needs, step.open_items, step.next_item)
            for at, step in run.steps.items()
        }
        for at in [one for one in here if one[1] >= 0 and one[0] in skipped]:
            del here[at], there[at]  # items of a step that was passed over are nobody's
        assert there == here

        [(state, ends_open, error, output, waits, slots, jobs)] = rows(READ_RUN, self.id)
        assert (state, ends_open, error, output) == (
            run.state,
            run.ends_open,
            run.error,
            run.output,
        )
        if run.state not in RUN_LIVE:
            assert (waits, slots, jobs) == (0, 0, 0), "what is left of a run that is over"

    def is_over(self, position):
        step = self.run.steps[position, -1]
        continues = self.nodes[position].spec["on_error"] == "continue"
        return step.state in ("completed", "skipped") or (step.state == "failed" and continues)
