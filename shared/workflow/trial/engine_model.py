"""A model of the workflow engine: what shared/schema/90_workflow does to one run, in memory.

Pure: no clock, no I/O, no randomness. The caller of a `Run` says when steps begin and how they
end, and gets the steps that may begin then. The test bench runs on it, and
tests/machines/test_workflow_machine.py gives the same events to it and to the SQL functions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import RunRefused
from shared.workflow.plan import Node

# A step's position, and an item's index in it; -1 for the step itself.
At = tuple[int, int]

LIVE: Final = frozenset({"pending", "ready", "running", "waiting"})
RUN_LIVE: Final = frozenset({"queued", "running", "paused", "compensating"})
_GOES_ON: Final = frozenset({"running", "paused", "compensating"})


@dataclass(frozen=True, slots=True)
class Place:
    """What the model has to know of a node."""

    needs: int
    dependents: tuple[int, ...]
    on_error: str
    compensates: int | None


@dataclass(frozen=True, slots=True)
class Graph:
    """A plan's places, made once and used by each of its runs.

    Attributes:
        begins: Positions of the steps that need none.
        ends: How many steps no other needs.
        undo: Position of a step -> position of what undoes it.
    """

    places: tuple[Place, ...]
    begins: tuple[int, ...]
    ends: int
    undo: dict[int, int]

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> "Graph":
        """The graph of a plan's nodes, in the order of their positions."""
        places = tuple(
            Place(node.needs, node.dependents, node.spec.get("on_error", "fail"), node.compensates)
            for node in nodes
        )
        steps = [(at, place) for at, place in enumerate(places) if place.compensates is None]
        return cls(
            places,
            tuple(at for at, place in steps if not place.needs),
            sum(not place.dependents for _, place in steps),
            {one.compensates: at for at, one in enumerate(places) if one.compensates is not None},
        )


@dataclass(slots=True)
class StepState:
    """One step or item. `ended` orders those that are over; `parked` ones wait for a resume."""

    state: str = "pending"
    open_needs: int = 0
    live_needs: int = 0
    items: int | None = None
    open_items: int | None = None
    next_item: int | None = None
    parallel: int = 1
    item: Any = None
    output: Any = None
    error: str | None = None
    ended: int = 0
    parked: bool = False


class Run:
    """One run. Each act returns the steps that may begin by it, which are then `ready`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.state = "running"
        self.error: str | None = None
        self.output: Any = None
        self.ends_open = graph.ends
        self.steps: dict[At, StepState] = {
            (at, -1): StepState(open_needs=place.needs)
            for at, place in enumerate(graph.places)
            if place.compensates is None
        }
        self._ended = 0
        self._undos: list[int] = []

    def start(self) -> list[At]:
        """Begin the run: the steps that need none are ready."""
        return self._open([(at, -1) for at in self.graph.begins])

    def begin(self, at: At) -> bool:
        """Whether a ready step, or one that is tried again, begins now."""
        step = self.steps[at]
        if step.state not in ("ready", "running"):
            return False
        if self.state == "paused":
            step.state, step.parked = "ready", True
            return False
        undoes = self.graph.places[at[0]].compensates is not None
        if self.state != ("compensating" if undoes else "running"):
            step.state = "cancelled"
            return False
        step.state = "running"
        return True

    def all_needs_skipped(self, at: At) -> bool:
        """Whether a step has needs, and each was skipped; never of an item."""
        return at[1] < 0 and self.graph.places[at[0]].needs > 0 and not self.steps[at].live_needs

    def settle(
        self, at: At, verdict: str, output: object = None, error: str | None = None
    ) -> list[At]:
        """A step is over; one that was over before changes nothing.

        Args:
            at: The step or item.
            verdict: `completed`, `skipped` or `failed`.
            output: Its output, a JSON value.
            error: Why it failed.
        """
        step = self.steps[at]
        if step.state not in LIVE:
            return []
        step.state, step.output, step.error = verdict, output, error
        self._ended += 1
        step.ended = self._ended
        if self.state not in _GOES_ON:
            return []
        place = self.graph.places[at[0]]
        if place.compensates is not None:
            if verdict == "failed":
                self.error = f"{self.error or ''}; not undone: {error or ''}"
            return self._undo()
        if self.state == "compensating":
            return []
        if verdict == "failed" and place.on_error != "continue":
            return self._fail(at, error, place.on_error)
        return self._count_item(at[0]) if at[1] >= 0 else self._count(step, place, verdict)

    def expand(self, at: At, items: Sequence[object], parallel: int) -> list[At]:
        """A mapped step that has begun becomes its items, of which `parallel` are ready at once."""
        if not items:
            return self.settle(at, "completed", [])
        step = self.steps[at]
        step.items, step.open_items, step.parallel = len(items), len(items), parallel
        step.next_item = min(parallel, len(items))
        for index, item in enumerate(items):
            self.steps[at[0], index] = StepState(item=item)
        return self._open([(at[0], index) for index in range(step.next_item)], parks=False)

    def suspend(self, at: At) -> None:
        """A step that has begun waits."""
        self.steps[at].state = "waiting"

    def wake(self, at: At) -> list[At]:
        """A step that waits for its turn has it."""
        self.steps[at].state = "ready"
        return [at]

    def pause(self) -> None:
        """Let no further step begin.

        Raises:
            RunRefused: The run is not running.
        """
        self._demand("running")
        self.state = "paused"

    def resume(self) -> list[At]:
        """Go on after a pause.

        Raises:
            RunRefused: The run is not paused.
        """
        self._demand("paused")
        self.state = "running"
        parked = [at for at, step in self.steps.items() if step.parked and step.state == "ready"]
        for at in parked:
            self.steps[at].parked = False
        return sorted(parked)

    def end(self, state: str, error: str | None = None, output: object = None) -> None:
        """End the run, once: `completed`, `failed` or `cancelled`; what is left of it stops."""
        if self.state not in RUN_LIVE:
            return
        self.state, self.error, self.output = state, error, output
        if state != "completed":
            self._stop(self.steps)

    def cancel(self, why: str = "cancelled") -> None:
        """End the run because someone wants it.

        Raises:
            RunRefused: It is over.
        """
        self._demand(*RUN_LIVE)
        self.end("cancelled", why)

    def skip(self, at: At) -> list[At]:
        """End a step that is not over, as if its `if` had been false.

        Raises:
            RunRefused: The step, or the run, is over.
        """
        self._demand("running", "paused")
        if at not in self.steps or self.steps[at].state not in LIVE:
            raise RunRefused("The step is over, or there is none.")
        if at[1] < 0:
            self._stop(self._items(at[0]))
        return self.settle(at, "skipped")

    def retry(self) -> list[At]:
        """A run that failed or was cancelled goes on where it stopped.

        Raises:
            RunRefused: It did not, or what it did was undone.
        """
        self._demand("failed", "cancelled")
        if any(self.graph.places[at[0]].compensates is not None for at in self.steps):
            raise RunRefused("What the run did was undone; begin again from a step.")
        self.state, self.error = "running", None
        for at, step in self.steps.items():
            on_error = self.graph.places[at[0]].on_error
            if step.state == "cancelled" or (step.state == "failed" and on_error != "continue"):
                step.state, step.output, step.error, step.parked = "pending", None, None, False
        return self._recount()

    def _demand(self, *states: str) -> None:
        if self.state not in states:
            raise RunRefused(f"The run is {self.state}.")

    def _open(self, opened: list[At], *, parks: bool = True) -> list[At]:
        parked = parks and self.state == "paused"
        for at in opened:
            step = self.steps[at]
            step.state, step.parked = "ready", parked
        return [] if parked else opened

    def _count(self, step: StepState, place: Place, verdict: str) -> list[At]:
        """A step is done: count down what depends on it."""
        if not place.dependents:
            self.ends_open -= 1
            if not self.ends_open:
                self.end("completed", None, step.output if self.graph.ends == 1 else None)
            return []
        opened = []
        for position in place.dependents:
            after = self.steps[position, -1]
            if after.open_needs:
                after.open_needs -= 1
                after.live_needs += verdict != "skipped"
                if not after.open_needs and after.state == "pending":
                    opened.append((position, -1))
        return self._open(opened)

    def _count_item(self, position: int) -> list[At]:
        """An item is done: the next begins, or its step is done as well."""
        mapped = self.steps[position, -1]
        if mapped.state != "running":
            return []
        assert mapped.items is not None, "only a step that was expanded has items"
        assert mapped.open_items is not None, "and counts them"
        assert mapped.next_item is not None, "from the first that waits for its turn"
        mapped.open_items -= 1
        mapped.next_item = min(mapped.next_item + 1, mapped.items)
        if not mapped.open_items:
            outputs = [self.steps[position, n].output for n in range(mapped.items)]
            return self.settle((position, -1), "completed", outputs)
        turn = (position, mapped.next_item - 1)
        return self._open([turn] if self.steps[turn].state == "pending" else [])

    def _fail(self, at: At, error: str | None, on_error: str) -> list[At]:
        if at[1] >= 0 and self.steps[at[0], -1].state == "running":
            mapped = self.steps[at[0], -1]
            mapped.state, mapped.error = "failed", f"item {at[1]}: {error}"
        if on_error == "fail":
            self.end("failed", error)
            return []
        self.state, self.error = "compensating", error
        self._stop(self.steps)
        done = [at for at in self.graph.undo if self.steps[at, -1].state == "completed"]
        done.sort(key=lambda at: self.steps[at, -1].ended)
        self._undos = [self.graph.undo[at] for at in done]
        return self._undo()

    def _undo(self) -> list[At]:
        """The next step that undoes, in reverse order of completion; or the run has failed."""
        if not self._undos:
            self.end("failed", self.error)
            return []
        undo = self._undos.pop()
        self.steps[undo, -1] = StepState()
        return self._open([(undo, -1)])

    def _items(self, position: int) -> list[At]:
        return [(position, index) for index in range(self.steps[position, -1].items or 0)]

    def _stop(self, places: Iterable[At]) -> None:
        for at in places:
            step = self.steps[at]
            if step.state in LIVE:
                step.state = "cancelled"

    def _recount(self) -> list[At]:
        """Count again what the steps tell of one another. Returns those that may begin."""
        steps = [at for at in self.steps if at[1] < 0]
        for at in steps:
            step = self.steps[at]
            if step.state == "pending":
                step.open_needs, step.live_needs = self.graph.places[at[0]].needs, 0
        self.ends_open = self.graph.ends
        for at in steps:
            if not self._is_done(at):
                continue
            dependents = self.graph.places[at[0]].dependents
            self.ends_open -= not dependents
            for position in dependents:
                after = self.steps[position, -1]
                if after.state == "pending":
                    after.open_needs -= 1
                    after.live_needs += self.steps[at].state != "skipped"
        opened: list[At] = []
        for at in sorted(steps):
            if self.steps[at].state == "pending" and not self.steps[at].open_needs:
                opened += [at] if self.steps[at].items is None else self._take_up(at)
        return self._open(opened)

    def _take_up(self, at: At) -> list[At]:
        """A mapped step that has its items goes on with those that are left, as many at once."""
        step = self.steps[at]
        assert step.items is not None, "it was expanded"
        assert step.next_item is not None, "and its first items were ready"
        left = [one for one in self._items(at[0]) if self.steps[one].state in LIVE]
        begun = [one for one in left if one[1] < step.next_item]
        step.next_item = min(step.items, step.next_item + max(0, step.parallel - len(begun)))
        step.state, step.open_items = "running", len(left)
        return [one for one in left if one[1] < step.next_item]

    def _is_done(self, at: At) -> bool:
        state = self.steps[at].state
        failed_well = state == "failed" and self.graph.places[at[0]].on_error == "continue"
        return state in ("completed", "skipped") or failed_well
