"""Test a workflow: its definition runs in memory, with fake steps and a fake clock.

    trial = Trial(text, steps={"fetch": {"n": 3}, "complete": fake(ConnectionError(), "well")})
    outcome = trial.run({"url": "https://example.org"})
    assert outcome.state == "completed"

`engine_model` has the engine's rules; expressions, `with`, retries, timeouts, concurrency keys
and waits are computed as in a worker.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import jsonschema
from pydantic import BaseModel

from shared.errors import RunRefused, SignalRefused
from shared.workflow.durations import seconds
from shared.workflow.kinds import kind_named
from shared.workflow.limits import SIGNALS_KEPT_MAX, TIMEOUT_DEFAULT_S
from shared.workflow.plan import Node, compile_plan
from shared.workflow.reading import read
from shared.workflow.trial.engine_model import RUN_LIVE, At, Graph
from shared.workflow.trial.fakes import Fake, FakeMissing, fake
from shared.workflow.trial.flows import Flow, Script
from shared.workflow.trial.player import Play

BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_REAL: Final = frozenset({"transform", "outputs", "sleep", "signal", "approval", "workflow"})
_ITEM: Final = re.compile(r"^(.+)\[(\d{1,6})\]$")


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """A step as it stands; `given` is its `with` as rendered, `attempts` 0 before it began."""

    state: str
    output: Any
    error: str | None
    given: Any
    attempts: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a step waits for: a `timer`, `signal`, `approval`, `run` or `slot`; `due` ends it."""

    workflow: str
    step: str
    what: str
    name: str
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run as it stands.

    Attributes:
        steps: By name; items as `name[0]`, what undid a step as `undo_name`.
        waits: What it waits for, in the order in which the steps began to.
        began: Each attempt at a step, in order.
        now: The trial's clock.
    """

    state: str
    output: Any
    error: str | None
    steps: Mapping[str, StepOutcome]
    waits: tuple[Waiting, ...]
    began: tuple[str, ...]
    now: datetime


class Trial:
    """Runs one definition, one run at a time; `run` starts a new one.

    Args:
        definition: Its text, YAML or JSON.
        steps: Fakes by the step's name, or by its kind: a function of (`with`, step), or just its
            output. `transform`, `sleep`, `signal`, `approval` and `workflow` need none.
        workflows: Texts of the definitions that steps of kind `workflow` start.
        now: Where the clock stands when a run begins, an aware time.

    Raises:
        DefinitionRefused: A definition cannot run.
        FakeMissing: It names the steps that have no fake.
    """

    def __init__(
        self,
        definition: str,
        *,
        steps: Mapping[str, object] | None = None,
        workflows: Sequence[str] = (),
        now: datetime = BEGIN,
    ) -> None:
        self._steps = dict(steps or {})
        missing: list[str] = []
        scripts = [self._script(text, missing) for text in (definition, *workflows)]
        if missing:
            raise FakeMissing(f"These steps have no fake: {', '.join(missing)}.")
        self._scripts = {script.name: script for script in scripts}
        self._main = scripts[0]
        self._begin = now
        self._play = Play(self._scripts, now)

    def run(self, given: Mapping[str, Any] | None = None) -> Outcome:
        """Start a run, and go on to its end, or until it waits for someone or for a time.

        Retries, and the time that fakes take, pass by themselves.

        Raises:
            PayloadRefused: The input does not fit the definition's `inputs`.
        """
        self._play = Play(self._scripts, self._begin)
        self._play.start(self._main, dict(given or {}))
        return self._go()

    def advance(self, **duration: float) -> Outcome:
        """Let time pass, as `timedelta` counts it, such as `hours=2`; what is due happens."""
        self._play.advance(timedelta(**duration).total_seconds())
        return self._go()

    def signal(self, name: str, payload: object = None, *, workflow: str | None = None) -> Outcome:
        """Send a signal to the run, or to that of a sub-workflow; it is kept until it is wanted.

        Raises:
            RunRefused: The run is over.
            SignalRefused: An approval has this name, or too many signals wait already.
        """
        flow = self._flow(workflow)
        if flow.run.state not in RUN_LIVE:
            raise RunRefused(f"The run is {flow.run.state}.")
        if any((node.name, node.uses) == (name, "approval") for node in flow.script.nodes):
            raise SignalRefused(f"{name} is an approval; answer it as one.")
        if not self._play.answer(flow, "signal", (name, None), payload):
            if len(flow.signals) >= SIGNALS_KEPT_MAX:
                raise SignalRefused(f"{SIGNALS_KEPT_MAX:,} signals wait at the run already.")
            flow.signals.append((name, payload))
        return self._go()

    def approve(
        self,
        step: str,
        *,
        approved: bool = True,
        by: str = "someone",
        comment: str | None = None,
        workflow: str | None = None,
    ) -> Outcome:
        """Decide upon a step that waits for an approval; `step[3]` is one item of it.

        Raises:
            RunRefused: It does not wait for one.
        """
        item = _ITEM.match(step)
        place = (step, None) if item is None else (item[1], int(item[2]))
        answer = {"approved": approved, "by": by, "comment": comment}
        if not self._play.answer(self._flow(workflow), "approval", place, answer):
            raise RunRefused(f"No step {step} waits for an approval.")
        return self._go()

    def pause(self) -> Outcome:
        """Let no further step begin.

        Raises:
            RunRefused: The run is not running.
        """
        self._flow().run.pause()
        return self._go()

    def resume(self) -> Outcome:
        """Go on after a pause.

        Raises:
            RunRefused: The run is not paused.
        """
        return self._opened(self._flow().run.resume())

    def cancel(self, why: str = "cancelled") -> Outcome:
        """End the run, and all that it does.

        Raises:
            RunRefused: It is over.
        """
        self._flow().run.cancel(why)
        return self._opened([])

    def skip(self, step: str) -> Outcome:
        """End a step that is not over, as if its `if` had been false.

        Raises:
            RunRefused: The step, or the run, is over.
        """
        flow = self._flow()
        opened = flow.run.skip(_at(flow, step))
        self._play.tidy(flow)
        return self._opened(opened)

    def retry(self) -> Outcome:
        """Let a run that failed, or was cancelled, go on where it stopped.

        Raises:
            RunRefused: It did not fail, or what it did was undone.
        """
        flow = self._flow()
        opened = flow.run.retry()
        flow.is_heard = False
        self._play.set_deadline(flow)
        return self._opened(opened)

    def _flow(self, workflow: str | None = None) -> Flow:
        """The newest run of a workflow; the trial's own for None."""
        wanted = self._main.name if workflow is None else workflow
        flows = self._play.flows if workflow is not None else self._play.flows[:1]
        for flow in reversed(flows):
            if flow.script.name == wanted:
                return flow
        raise RunRefused(f"No run of {wanted} was started.")

    def _opened(self, opened: list[At]) -> Outcome:
        self._play.opened(self._flow(), opened)
        return self._go()

    def _go(self) -> Outcome:
        self._play.go()
        return _outcome(self._play)

    def _script(self, text: str, missing: list[str]) -> Script:
        definition = read(text)
        nodes = compile_plan(definition).nodes
        fakes = []
        for node in nodes:
            found = self._fake(node)
            if found is None and node.uses not in _REAL:
                missing.append(f"{definition.name}.{node.name} ({node.uses})")
            fakes.append(found)
        inputs, timeout = definition.inputs, definition.timeout
        return Script(
            name=definition.name,
            nodes=nodes,
            graph=Graph.of(nodes),
            fakes=fakes,
            fields=[_fields(node) for node in nodes],
            timeout_s=TIMEOUT_DEFAULT_S if timeout is None else seconds(timeout),
            inputs=None if inputs is None else jsonschema.Draft202012Validator(inputs),
        )

    def _fake(self, node: Node) -> Fake | None:
        for name in (node.name, node.uses):
            if name in self._steps:
                found = self._steps[name]
                return cast(Fake, found) if callable(found) else fake(found)
        return None


def _fields(node: Node) -> type[BaseModel] | None:
    return None if node.uses == "outputs" else kind_named(node.uses).fields


def _at(flow: Flow, step: str) -> At:
    item = _ITEM.match(step)
    name, index = (step, -1) if item is None else (item[1], int(item[2]))
    for node in flow.script.nodes:
        if node.name == name:
            return node.position, index
    raise RunRefused(f"The run has no step {step}.")


def _outcome(play: Play) -> Outcome:
    flow = play.flows[0]
    run = flow.run
    steps = {
        flow.name(at): StepOutcome(
            row.state, row.output, row.error, flow.given.get(at), flow.attempts.get(at, 0)
        )
        for at, row in run.steps.items()
    }
    waits = tuple(
        Waiting(
            one.script.name,
            one.name(at),
            wait.what,
            wait.name,
            None if wait.due_s is None else play.time(wait.due_s),
        )
        for one in play.flows
        for at, wait in one.waits.items()
    )
    return Outcome(run.state, run.output, run.error, steps, waits, tuple(play.began), play.time())
