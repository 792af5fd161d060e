"""A step: what the engine told of it, and the claim on it. One value from begin to finish.

The walker makes it from the engine's answer, decides by it, hands it to the step's function and
finishes it. A function uses its fields, `progress`, `effect` and `done`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from shared import forks
from shared.db import Connection
from shared.ids import RunId
from shared.ledger.outbox import Lease
from shared.queries.workflow.workflow_steps import StepClaim
from shared.workflow.durations import seconds
from shared.workflow.limits import BACKOFF_DEFAULT_S, INPUT_KEPT_BYTES

Progress = Callable[["Step", float, str], None]
Open = Callable[["Step"], AbstractContextManager[Connection]]

NOT_DONE: Final = object()


@dataclass(slots=True)
class AttemptState:
    """How an attempt stands while its function runs, and what its effect was answered."""

    output: object = NOT_DONE
    answer: str | None = None
    told_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(StepClaim):
    """One attempt of one step.

    Attributes:
        run_id: The run that it belongs to.
        workflow: The name of the run's workflow.
        depth: How deep the run is within other runs; 0 for one that no step started.
        started_at: When the run was started, RFC 3339.
        inputs: The run's input.
        name: The step's name in the definition of `workflow`.
        uses: Its kind.
        spec: What the definition says of it.
        steps: The steps that its expressions may read, by name.
        attempt: 1-based.
        timeout_s: What an attempt, or a wait, may take; None leaves it to the kind.
        expand: Whether it is a `for_each` that has to become its items.
        skip: Whether it has needs and all of them were skipped.
        item: The item of a `for_each`, or None.
        index: The item's place, from 0; None for a step without `for_each`.
        traceparent: The W3C trace context to hand on, or None.
        given: Its `with` as rendered; None before that.
        lease_s: How long the lease of the next step holds, in seconds; 0 where the walker stops.
        state: What has come of the attempt so far.
    """

    run_id: RunId
    workflow: str
    depth: int
    started_at: str
    inputs: object
    name: str
    uses: str
    spec: Mapping[str, Any]
    steps: Mapping[str, Any]
    attempt: int
    attempts_max: int
    timeout_s: float | None
    expand: bool
    skip: bool
    item: object
    index: int | None
    traceparent: str | None
    given: dict[str, Any] | None = None
    lease_s: float = 0.0
    state: AttemptState = field(default_factory=AttemptState, init=False, compare=False, repr=False)
    _progress: Progress = field(repr=False, compare=False)
    _transaction: Open = field(repr=False, compare=False)

    @classmethod
    def first(cls, lease: Lease, answer: str, *, progress: Progress, transaction: Open) -> Self:
        """The step at which a walker begins, from the engine's answer."""
        return cls(
            **{
                "job_id": lease.job_id,
                "traceparent": lease.traceparent,
                "_progress": progress,
                "_transaction": transaction,
            }
            | _told(answer)
        )

    def following(self, answer: str) -> Self:
        """The step after this one. What the engine knows to be as before it does not tell again."""
        return replace(self, **{"expand": False, "skip": False, "given": None} | _told(answer))

    def leased(self, lease: Lease) -> Lease:
        """The lease of the walker's job as it stands while this step is done."""
        backoff = (self.spec.get("retry") or {}).get("backoff")
        return replace(
            lease,
            fence=self.fence,
            step_id=self.step_id,
            attempt=self.attempt,
            attempts_max=self.attempts_max,
            crashes=lease.crashes if self.fence == lease.fence else 0,
            time_limit_s=self.timeout_s,
            backoff_s=BACKOFF_DEFAULT_S if backoff is None else seconds(backoff),
        )

    def scope(self) -> dict[str, Any]:
        """What the step's expressions may name."""
        run = {"id": self.run_id, "workflow": self.workflow, "started_at": self.started_at}
        known: dict[str, Any] = {"inputs": self.inputs, "steps": self.steps, "run": run}
        if self.index is not None:
            known |= {"item": self.item, "index": self.index}
        return known

    @property
    def kept(self) -> str | None:
        """What the step was given as its row keeps it, JSON text; None where it is too large."""
        if self.given is None:
            return None
        text = json.dumps(self.given, ensure_ascii=False, separators=(",", ":"))
        return text if len(text) <= INPUT_KEPT_BYTES and "\\u0000" not in text else None

    @property
    def output(self) -> object:
        """What `done` was given, or `NOT_DONE`."""
        return self.state.output

    @property
    def is_done(self) -> bool:
        """Whether the step has ended inside `effect`; what its function returns counts no more."""
        return self.state.output is not NOT_DONE

    def progress(self, part: float, note: str = "") -> None:
        """Tell how far the step is; it also keeps a long step from being taken for stuck.

        Args:
            part: Share done, in [0, 1].
            note: A few words for people who watch the run.

        Raises:
            ValueError: `part` is not within 0 and 1.
            StepCancelled: The run was cancelled, or a newer attempt does the step.
        """
        if not 0.0 <= part <= 1.0:
            raise ValueError(f"Progress of {part} is not within 0 and 1.")
        self._progress(self, part, note)

    @contextmanager
    def effect(self) -> Iterator[Connection]:
        """Open the one transaction in which the step may write; it ends the step as well.

        Call `done` inside: the rows written and the step's transition commit together or not at
        all. An attempt that is not the step's newest any more writes nothing.

        Raises:
            RuntimeError: The block ended without `done`, or the step has ended before.
        """
        if self.is_done:
            raise RuntimeError(f"Step {self.name} has ended; it has one effect.")
        try:
            with self._transaction(self) as conn:
                with forks.ending():
                    yield conn
                if not self.is_done:
                    raise RuntimeError(f"Step {self.name} wrote rows and did not call done().")
        except BaseException:
            self.state.output = NOT_DONE  # nothing was committed
            raise

    def done(self, output: object) -> None:
        """Set the step's output, a JSON value; called inside `effect`."""
        self.state.output = output


def _key(name: str) -> str:
    """A field's name in the engine's answer: `run_id` is `runId`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


# A newer schema may tell more than these; a process that does not know it passes it over.
_FIELDS: Final = {_key(it.name): it.name for it in fields(Step) if it.init}


def _told(answer: str) -> dict[str, Any]:
    """The fields that an answer of the engine tells, as `ailydian_step_context` writes them."""
    told = {_FIELDS[key]: value for key, value in json.loads(answer).items() if key in _FIELDS}
    if told["index"] < 0:
        told["index"] = None
    if "started_at" in told:
        told["started_at"] = f"{told['started_at'].removesuffix('Z')}Z"
    return told
