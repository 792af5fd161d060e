"""Run workflows in memory, step by step: what walkers, timers and waits do, by a fake clock.

`engine_model` decides which steps may begin; this does them with fakes. Nothing is random and
nothing sleeps: time passes only where the clock is moved.
"""

import heapq
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from shared import field_errors
from shared.errors import (
    PayloadRefused,
    PermanentError,
    RunRefused,
    TimeLimitExceeded,
    TransientError,
    UsageError,
    WorkflowNotFound,
)
from shared.observability import error_texts
from shared.workflow.decisions import Do, Expand, Skip, decide
from shared.workflow.durations import seconds
from shared.workflow.expressions.evaluation import render
from shared.workflow.kinds import SleepWith
from shared.workflow.limits import BACKOFF_DEFAULT_S, DEPTH_MAX, PARK_S
from shared.workflow.retries import retry_wait_s
from shared.workflow.trial.engine_model import LIVE, RUN_LIVE, At, Run
from shared.workflow.trial.fakes import Takes, TrialStep
from shared.workflow.trial.flows import Flow, Script, Wait


class Play:
    """One run, and the runs that it starts; `begin` is the time at which its clock starts."""

    def __init__(self, scripts: Mapping[str, Script], begin: datetime) -> None:
        self.flows: list[Flow] = []
        self.began: list[str] = []
        self._scripts = scripts
        self._begin = begin
        self._now_s = 0.0
        self._sent = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ready: deque[tuple[Flow, At, int]] = deque()
        self._lines: dict[str, dict[tuple[str, At], Flow]] = defaultdict(dict)

    def time(self, at_s: float | None = None) -> datetime:
        """The time now, or at so many seconds of the clock."""
        return self._begin + timedelta(seconds=self._now_s if at_s is None else at_s)

    def start(
        self, script: Script, given: dict[str, Any], parent: tuple[Flow, At] | None = None
    ) -> Flow:
        """Start a run.

        Raises:
            PayloadRefused: The input does not fit.
            RunRefused: Nested too deep.
        """
        if script.inputs is not None:
            faults = list(script.inputs.iter_errors(given))
            if faults:
                told = "; ".join(f"{one.json_path}: {one.message[:200]}" for one in faults[:5])
                raise PayloadRefused(f"The input does not fit: {told}.")
        depth = 0 if parent is None else parent[0].depth + 1
        if depth > DEPTH_MAX:
            raise RunRefused(f"{script.name}: runs within runs go {DEPTH_MAX} deep at most.")
        started = self.time().astimezone(UTC).isoformat(timespec="milliseconds")
        flow = Flow(
            f"run-{len(self.flows) + 1}",
            script,
            Run(script.graph),
            _json(given),
            started.replace("+00:00", "Z"),
            depth,
            parent,
        )
        self.flows.append(flow)
        if parent is not None:
            parent[0].children.append(flow)
        self.set_deadline(flow)
        self.opened(flow, flow.run.start())
        return flow

    def set_deadline(self, flow: Flow) -> None:
        """Let the run's timeout begin now."""
        flow.deadline = mark = object()
        self._later(flow.script.timeout_s, partial(self._end_late, flow, mark))

    def go(self) -> None:
        """Work until every run is over, or waits for someone, or for a time."""
        self._work()
        while self._events and (self._events[0][0] <= self._now_s or self._is_at_work()):
            self._fire()
            self._work()

    def advance(self, by_s: float) -> None:
        """Let time pass; what is due happens in its order."""
        until_s = self._now_s + by_s
        while self._events and self._events[0][0] <= until_s:
            self._fire()
            self._work()
        self._now_s = until_s

    def opened(self, flow: Flow, places: Iterable[At]) -> None:
        """Steps may begin; and where their run was stopped, so is what it waits for."""
        self._ready.extend((flow, at, 1) for at in places)
        if flow.run.state not in ("running", "paused"):
            self.tidy(flow)

    def answer(self, flow: Flow, what: str, place: tuple[str, int | None], payload: object) -> bool:
        """Whether a step waited for this signal or approval, by name and item; it has it now."""
        name, index = place
        for at, wait in flow.waits.items():
            if (wait.what, wait.name) == (what, name) and index in (None, at[1]):
                self._answered(flow, at, what, payload)
                return True
        return False

    def tidy(self, flow: Flow) -> None:
        """Forget what steps that were stopped waited for: places in lines, runs."""
        rows = flow.run.steps
        for at in [at for at in flow.waits if rows[at].state != "waiting"]:
            del flow.waits[at]
        for at in [at for at in flow.keys if rows[at].state not in LIVE]:
            self._leave(flow, at)
        for child in flow.children:
            if child.run.state in RUN_LIVE and not _is_awaited(child):
                child.run.end("cancelled", "the step that waited for it was stopped")
                self.tidy(child)
        if flow.run.state not in RUN_LIVE and not flow.is_heard:
            flow.is_heard = True
            self._tell_parent(flow)

    # ---- the clock

    def _later(self, wait_s: float, act: Callable[[], None]) -> None:
        self._sent += 1
        heapq.heappush(self._events, (self._now_s + wait_s, self._sent, act))

    def _fire(self) -> None:
        due_s, _, act = heapq.heappop(self._events)
        self._now_s = max(self._now_s, due_s)
        act()

    def _is_at_work(self) -> bool:
        """Whether a step is being done, or will be tried again: nobody waits for that."""
        return any(
            flow.run.steps[at].state == "running"
            for flow in self.flows
            if flow.run.state in RUN_LIVE
            for at in flow.working
        )

    def _end_late(self, flow: Flow, mark: object) -> None:
        if flow.deadline is mark and flow.run.state != "compensating":
            flow.run.end("failed", "timed out: the run took longer than its timeout")
            self.tidy(flow)

    # ---- steps

    def _work(self) -> None:
        while self._ready:
            flow, at, attempt = self._ready.popleft()
            if not flow.run.begin(at):
                continue
            try:
                self._take(flow, at, attempt)
            except AssertionError:  # a fake's assertion is the author's test
                raise
            except Exception as error:  # a fake may raise anything
                self._failed(flow, at, attempt, error)

    def _take(self, flow: Flow, at: At, attempt: int) -> None:
        node, run, scope = flow.script.nodes[at[0]], flow.run, flow.scope(at)
        expands = at[1] < 0 and node.spec.get("for_each") is not None
        skipped = run.all_needs_skipped(at)
        match decide(node.spec, scope, expands=expands, all_needs_skipped=skipped):
            case Skip():
                self._settle(flow, at, "skipped")
            case Expand(items, parallel):
                self.opened(flow, run.expand(at, _json(items), parallel))
            case Do(key):
                if key is not None and not self._may_enter(flow, at, key):
                    return
                given = render(node.spec.get("with") or {}, scope)
                flow.attempts[at], flow.given[at] = attempt, given
                self.began.append(flow.name(at))
                self._do(flow, at, given)

    def _do(self, flow: Flow, at: At, given: dict[str, Any]) -> None:
        script, node = flow.script, flow.script.nodes[at[0]]
        fields, act = script.fields[at[0]], script.fakes[at[0]]
        asked = None if fields is None else _checked(fields, given, node.name)
        if act is None:
            self._really(flow, at, given, asked)
            return
        step = TrialStep(
            name=node.name,
            workflow=script.name,
            run_id=flow.id,
            attempt=flow.attempts[at],
            item=flow.run.steps[at].item,
            index=None if at[1] < 0 else at[1],
        )
        outcome = act(given, step)
        if not isinstance(outcome, Takes):
            self._settle(flow, at, "completed", _json(outcome))
        elif outcome.after_s <= (limit_s := script.limit_s(at[0])):
            output = _json(outcome.outcome)
            self._work_on(
                flow, at, outcome.after_s, partial(self._settle, flow, at, "completed", output)
            )
        else:
            late = TimeLimitExceeded(f"The attempt took longer than {limit_s:g} s.")
            tried = flow.attempts[at]
            self._work_on(flow, at, limit_s, partial(self._failed, flow, at, tried, late))

    def _work_on(self, flow: Flow, at: At, for_s: float, act: Callable[[], None]) -> None:
        """Do something after a while, if the step is still at the same attempt."""
        mark = flow.working[at] = object()

        def fire() -> None:
            if flow.working.get(at) is mark:
                del flow.working[at]
                if flow.run.steps[at].state == "running":
                    act()

        self._later(for_s, fire)

    def _settle(
        self, flow: Flow, at: At, verdict: str, output: object = None, error: str | None = None
    ) -> None:
        flow.waits.pop(at, None)
        flow.working.pop(at, None)
        opened = flow.run.settle(at, verdict, output, error)
        if at in flow.keys:
            self._leave(flow, at)
        self.opened(flow, opened)

    def _failed(self, flow: Flow, at: At, attempt: int, error: Exception) -> None:
        script = flow.script
        retry = script.nodes[at[0]].spec.get("retry") or {}
        asked_s = (error.retry_after_s or 0.0) if isinstance(error, TransientError) else 0.0
        if isinstance(error, TransientError) and not error.counted:
            wait_s = asked_s or PARK_S
        elif isinstance(error, PermanentError | UsageError) or attempt >= script.attempts_max(
            at[0]
        ):
            self._settle(flow, at, "failed", None, error_texts.message(error))
            return
        else:
            first_s = seconds(retry.get("backoff", BACKOFF_DEFAULT_S))
            wait_s = max(retry_wait_s(attempt, first_s), asked_s)
            attempt += 1
        again = (flow, at, attempt)
        self._work_on(flow, at, wait_s, lambda: self._ready.append(again))

    # ---- kinds that behave as they do in a worker

    def _really(self, flow: Flow, at: At, given: dict[str, Any], asked: BaseModel | None) -> None:
        node = flow.script.nodes[at[0]]
        timeout = node.spec.get("timeout")
        timeout_s = None if timeout is None else seconds(timeout)
        if node.uses in ("transform", "outputs"):
            self._settle(flow, at, "completed", _json(given["value"]))
        elif isinstance(asked, SleepWith):
            self._wait(flow, at, "timer", "", self._sleep_s(asked, node.name))
        elif node.uses == "approval":
            self._wait(flow, at, "approval", node.name, timeout_s)
        elif node.uses == "signal":
            kept = next((one for one in flow.signals if one[0] == given["name"]), None)
            if kept is None:
                self._wait(flow, at, "signal", given["name"], timeout_s)
            else:
                flow.signals.remove(kept)
                self._answered(flow, at, "signal", kept[1])
        else:
            script = self._scripts.get(given["name"])
            if script is None:
                raise WorkflowNotFound(f"The trial was given no workflow {given['name']!r}.")
            # The run may be over before anyone waits for it: its steps begin later, in `_work`.
            child = self.start(script, given.get("input") or {}, (flow, at))
            self._wait(flow, at, "run", child.id, timeout_s)

    def _sleep_s(self, asked: SleepWith, name: str) -> float:
        if asked.until is None:
            try:
                return seconds(asked.for_ or 0)
            except ValueError as error:
                raise PayloadRefused(f"Step {name}: with.for: {error}") from None
        if asked.until.tzinfo is None:
            raise PayloadRefused(f"Step {name}: with.until has no zone; end it with Z.")
        return max((asked.until - self.time()).total_seconds(), 0.0)

    def _wait(self, flow: Flow, at: At, what: str, name: str, wait_s: float | None) -> None:
        flow.run.suspend(at)
        wait = flow.waits[at] = Wait(what, name, None if wait_s is None else self._now_s + wait_s)
        if wait_s is not None:
            self._later(wait_s, partial(self._due, flow, at, wait))

    def _due(self, flow: Flow, at: At, wait: Wait) -> None:
        if flow.waits.get(at) is not wait:
            return
        if wait.what == "timer":
            self._settle(flow, at, "completed")
            return
        why = f"timed out: waited too long for the {wait.what} {wait.name}"
        self._settle(flow, at, "failed", None, why)
        self.tidy(flow)

    def _answered(self, flow: Flow, at: At, what: str, payload: Any) -> None:  # noqa: ANN401
        payload = _json(payload)
        if what == "signal":
            self._settle(flow, at, "completed", {"payload": payload})
        elif payload["approved"]:
            self._settle(flow, at, "completed", payload)
        else:
            comment = f": {payload['comment']}" if payload["comment"] else ""
            self._settle(flow, at, "failed", payload, f"rejected by {payload['by']}{comment}")

    def _tell_parent(self, child: Flow) -> None:
        if child.parent is None or not _is_awaited(child):
            return
        flow, at = child.parent
        if child.run.state == "completed":
            self._settle(flow, at, "completed", child.run.output)
        else:
            told = f"failed: {child.run.error}"
            if child.run.state == "cancelled":
                told = "was cancelled"
            self._settle(flow, at, "failed", None, f"its run {child.id} {told}")

    # ---- concurrency keys

    def _may_enter(self, flow: Flow, at: At, key: str) -> bool:
        line = self._lines[key]
        line[flow.id, at] = flow
        flow.keys[at] = key
        if next(iter(line)) == (flow.id, at):
            return True
        flow.run.suspend(at)
        flow.waits[at] = Wait("slot", key, None)
        return False

    def _leave(self, flow: Flow, at: At) -> None:
        line = self._lines[flow.keys.pop(at)]
        line.pop((flow.id, at), None)
        for (_, first), whose in line.items():
            wait = whose.waits.get(first)
            if wait is not None and wait.what == "slot":
                del whose.waits[first]
                self.opened(whose, whose.run.wake(first))
            return


def _is_awaited(child: Flow) -> bool:
    if child.parent is None:
        return True
    wait = child.parent[0].waits.get(child.parent[1])
    return wait is not None and wait.name == child.id


def _checked(fields: type[BaseModel], given: dict[str, Any], step: str) -> BaseModel:
    try:
        return fields.model_validate(given)
    except ValidationError as error:
        faults = "; ".join(
            f"with.{'.'.join(map(str, fault['loc']))}: {field_errors.told(fault)}"
            for fault in error.errors(include_url=False, include_input=False)[:5]
        )
        raise PayloadRefused(f"Step {step}: {faults}.") from None


def _json(value: object) -> Any:  # noqa: ANN401 - a JSON value
    """A value as it comes back from the database."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(f"Not a JSON value: {error}.") from error
