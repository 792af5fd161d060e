"""The machine in memory and the engine in Postgres, given the same events, are always the same."""

import contextlib
import json

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from producers.queries.workflow import run_actions
from producers.queries.workflow.run_actions import RunSignal
from shared import db
from shared.db import Role
from shared.errors import RunRefused
from shared.queries.workflow import workflow_steps
from shared.workflow.trial.engine_model import LIVE, RUN_LIVE
from tests.machines.running import run as run_machine
from tests.machines.walks import MAKE_DUE, TIMEOUT_S, Walks
from tests.support.workflow_by_hand import Walker, claim

ANY = st.integers(0, 10_000)
EXAMPLES = 100

steps = st.tuples(
    st.sets(ANY, max_size=3),  # what it needs
    st.sampled_from(("fail", "continue", "continue", "compensate", "compensate")),
    st.sampled_from((0, 0, 0, 1, 2)),  # how many items at once; 0: it is not mapped
    st.sampled_from((True, True, False)),  # whether something undoes it
    st.booleans(),  # whether it has a concurrency key
)
moves = st.lists(
    st.tuples(
        ANY,  # which walker
        st.sampled_from(("end", "end", "wait", "enter")),
        st.sampled_from(("completed",) * 6 + ("skipped", "failed")),
        st.booleans(),  # whether it goes on with the next step itself
        st.integers(0, 19),
    ),
    min_size=2,
    max_size=6,
)
shapes = st.lists(steps, min_size=1, max_size=8)


class Runs(Walks):
    """Walkers, waits and people, in any order."""

    @initialize(shape=shapes)
    def begin(self, shape):
        self.begin_run(shape)

    # ---- walkers

    @precondition(lambda self: self.is_ready() or self.walkers)
    @rule(moves=moves)
    def walks(self, moves):
        for which, verb, verdict, go_on, number in moves:
            if self.is_ready():
                self.claims()
                self.check()
            at = self.pick(which)
            if at is None:
                return
            if self.is_mapped(at) and verdict == "completed":
                self.expands(at, number % 5)
            elif verb == "wait" and not self.is_mapped(at):
                self.waits_for(at, ("timer", "signal", "signal", "approval")[number % 4])
            elif verb == "enter" and self.is_keyed(at):
                self.enters(at)
            else:
                self.finishes(at, verdict, go_on=go_on, output=number)
            self.check()

    @precondition(lambda self: self.is_ready() or self.walkers)
    @rule(moves=moves)
    def walks_more(self, moves):
        self.walks(moves)

    def claims(self):
        """Every step that has a job begins, or finds that it may not."""
        begun = [walker for walker in claim(self.tenant) if walker.at is not None]
        for at, step in self.run.steps.items():
            if step.state == "ready" and not step.parked:
                self.run.begin(at)
        for walker in begun:
            self.arrive(walker)

    def finishes(self, at, verdict, *, go_on, output):
        self.order_times()
        walker = self.walkers.pop(at)
        self.ghosts.append(Walker(self.tenant, walker.job_id, walker.fence, dict(walker.at)))
        output = output if verdict == "completed" else None
        error = "it broke" if verdict == "failed" else None

        opened = self.settle(at, verdict, output, error)
        walker.finish(output, verdict=verdict, error=error, go_on=go_on)

        self.goes_on(walker, opened if go_on else [])

    def expands(self, at, count):
        walker = self.walkers.pop(at)
        parallel = self.nodes[at[0]].spec["max_parallel"]

        opened = self.run.expand(at, list(range(count)), parallel)
        walker.expand(list(range(count)), parallel)

        self.goes_on(walker, opened if self.run.state == "running" else [])

    def waits_for(self, at, what):
        walker = self.walkers.pop(at)
        name = {"timer": "", "signal": "go", "approval": self.nodes[at[0]].name}[what]
        if what == "signal" and self.kept:
            opened = self.settle(at, "completed", {"payload": self.kept.pop(0)})
        else:
            self.run.suspend(at)
            self.waits[at] = (what, name)
            opened = []

        walker.wait(what, name, wait_s=TIMEOUT_S)

        self.goes_on(walker, opened)

    def enters(self, at):
        """A step stands in line behind its key."""
        if at not in self.line:
            self.line.append(at)
        is_first = self.line[0] == at

        assert workflow_steps.queue(self.walkers[at].hold, f"{self.id}/key") == is_first

        if not is_first:
            del self.walkers[at]
            self.run.suspend(at)
            self.waits[at] = ("slot", "")

    @precondition(lambda self: self.ghosts)
    @rule(which=ANY)
    def haunts(self, which):
        """An attempt that is over, or was taken over, writes nothing."""
        ghost = self.ghosts[which % len(self.ghosts)]
        ghost = Walker(self.tenant, ghost.job_id, ghost.fence, dict(ghost.at))
        with contextlib.suppress(psycopg.DatabaseError):
            ghost.finish("late")

    # ---- what steps wait for

    @precondition(lambda self: self.run.state in RUN_LIVE)
    @rule(payload=ANY)
    def signals(self, payload):
        waiting = next((at for at, wait in self.waits.items() if wait == ("signal", "go")), None)
        if waiting is None:
            self.kept.append(payload)
        else:
            self.settle(waiting, "completed", {"payload": payload})
        self.act(run_actions.signal, RunSignal("signal", "go", str(payload), "someone"))

    @precondition(lambda self: self.asked("approval"))
    @rule(which=ANY, approved=st.booleans())
    def decides(self, which, approved):
        asked = self.asked("approval")
        at = asked[which % len(asked)]
        answer = {"approved": approved, "by": "someone"}
        sent = RunSignal("approval", self.waits[at][1], json.dumps(answer), "someone",
                      at[1] if at[1] >= 0 else None)  # fmt: skip
        self.order_times()
        self.settle(
            at, *(("completed", answer) if approved else ("failed", answer, "rejected by someone"))
        )
        self.act(run_actions.signal, sent)

    @precondition(lambda self: self.asked("timer", "signal", "approval"))
    @rule(which=st.sets(ANY, min_size=1, max_size=3))
    def fires(self, which):
        """Waits come due: several timers at once, or one wait that took too long."""
        timed = self.asked("timer", "signal", "approval")
        due = list(dict.fromkeys(timed[one % len(timed)] for one in sorted(which)))
        due = [at for at in due if self.waits[at][0] == "timer"] or due[:1]
        self.order_times()
        self.owner(MAKE_DUE, [self.step_id(at) for at in due])
        for at in due:
            what, name = self.waits.get(at, ("", ""))
            why = f"timed out: waited too long for the {what} {name}"
            end = ("completed",) if what == "timer" else ("failed", None, why)
            self.settle(at, *end)

        with db.transaction(None, role=Role.RELAY) as conn:
            assert workflow_steps.fire_waits(conn, limit=100) == len(due)

    @precondition(lambda self: self.run.state in ("running", "paused"))
    @rule(rarely=st.integers(0, 9))
    def is_late(self, rarely):
        """The whole run's time is over."""
        if rarely:
            return
        self.owner(MAKE_DUE, [self.id])
        self.run.end("failed", "timed out: the run took longer than its timeout")
        with db.transaction(None, role=Role.RELAY) as conn:
            assert workflow_steps.fire_waits(conn, limit=100) == 1

    # ---- acts on the run

    @precondition(lambda self: self.run.state in ("running", "paused"))
    @rule(rarely=st.integers(0, 3))
    def is_paused_or_resumed(self, rarely):
        if self.run.state == "running" and rarely:
            return
        if self.run.state == "running":
            self.run.pause()
            self.act(run_actions.pause)
        else:
            self.run.resume()
            self.act(run_actions.resume)

    @precondition(lambda self: self.run.state in RUN_LIVE)
    @rule(rarely=st.integers(0, 9))
    def is_cancelled(self, rarely):
        if not rarely:
            self.stop()

    @rule(which=ANY, rarely=st.integers(0, 3))
    def is_skipped(self, which, rarely):
        if rarely:
            return
        # A step whose needs are open is not passed over: the run might end before they are over.
        places = sorted(at for at, step in self.run.steps.items() if not step.open_needs)
        at = places[which % len(places)]
        try:
            if at in self.line and self.run.steps[at].state in LIVE:
                self.line.remove(at)
                self.call_next()
            self.run.skip(at)
        except RunRefused:
            with pytest.raises(psycopg.DatabaseError, match="run_refused"):
                self.act(run_actions.skip, self.name(at))
            return
        self.act(run_actions.skip, self.name(at))

    @precondition(lambda self: self.run.state not in RUN_LIVE)
    @rule(shape=shapes)
    def is_followed(self, shape):
        self.begin_run(shape)

    @precondition(lambda self: self.run.state in ("failed", "cancelled"))
    @rule()
    def is_tried_again(self):
        try:
            self.run.retry()
        except RunRefused:
            with pytest.raises(psycopg.DatabaseError, match="was undone"):
                self.act(run_actions.retry)
        else:
            self.act(run_actions.retry)

    # ---- what must be

    @invariant()
    def is_the_same_here_and_there(self):
        self.check()

    @invariant()
    def no_step_begins_before_its_needs_are_over(self):
        for at, needed in enumerate(self.needs):
            if self.run.steps[at, -1].state in ("running", "waiting", "completed"):
                assert all(self.is_over(one) for one in needed)

    @invariant()
    def a_run_that_goes_on_has_something_that_carries_it(self):
        if self.run.state in ("running", "compensating"):
            carried = [
                at
                for at, step in self.run.steps.items()
                if (step.state == "ready" and not step.parked)
                or at in self.walkers
                or at in self.waits
            ]
            assert carried

    @rule(rarely=st.integers(0, 9))
    def goes_to_its_end(self, rarely):
        """However it stands, a run that nobody stops any more ends."""
        if rarely:
            return
        if self.run.state == "paused":
            self.is_paused_or_resumed(0)
        for _ in range(200):
            if self.run.state not in RUN_LIVE:
                return
            if self.is_ready():
                self.claims()
            while self.walkers:
                at = self.pick(0)
                if self.is_mapped(at):
                    self.expands(at, 2)
                else:
                    self.finishes(at, "completed", go_on=True, output=1)
                self.check()
            if self.asked("timer", "signal", "approval"):
                self.fires({0})
            self.check()
        raise AssertionError("the run does not end")

    def teardown(self):
        # Its jobs are nobody's then: the next example finds none.
        if hasattr(self, "run") and self.run.state in RUN_LIVE:
            with contextlib.suppress(psycopg.DatabaseError):
                self.stop()


def test_the_machine_and_the_engine_are_always_the_same(pool):
    run_machine(Runs, EXAMPLES)
