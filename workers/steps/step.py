"""The step that a function is called for: who it is, and its two ways to speak before it ends."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from shared.db import Connection
from shared.ids import RunId, StepId, TenantId

NOT_DONE: Final = object()


@dataclass(slots=True)
class Step:
    """One attempt of one step; the walker makes it.

    Attributes:
        name: The step's name in the definition of `workflow`.
        attempt: 1-based.
        item: The item of a `for_each`, or None.
        index: The item's place, from 0; None for a step without `for_each`.
        traceparent: The W3C trace context to hand on, or None.
        output: What `done` was given, or `NOT_DONE`.
    """

    tenant_id: TenantId
    run_id: RunId
    step_id: StepId
    name: str
    workflow: str
    attempt: int
    item: object
    index: int | None
    traceparent: str | None
    _progress: Callable[[float, str], None]
    _transaction: Callable[[], AbstractContextManager[Connection]]
    output: object = field(default=NOT_DONE, init=False)

    @property
    def is_done(self) -> bool:
        """Whether the step has ended inside `effect`; what its function returns counts no more."""
        return self.output is not NOT_DONE

    def progress(self, part: float, note: str = "") -> None:
        """Tell how far the step is; it also keeps a long step from being taken for stuck.

        Args:
            part: Share done, in [0, 1].
            note: A few words for who watches.

        Raises:
            ValueError: `part` is no share.
            StepCancelled: The run was cancelled, or someone newer does the step.
        """
        if not 0.0 <= part <= 1.0:
            raise ValueError(f"Progress of {part} is not within 0 and 1.")
        self._progress(part, note)

    @contextmanager
    def effect(self) -> Iterator[Connection]:
        """Open the one transaction in which the step may write; it ends the step as well.

        Call `done` inside: the rows written and the step's transition commit together or not at
        all. Of an attempt that is not the step's newest any more nothing is written.

        Raises:
            RuntimeError: The block ended without `done`, or the step has ended before.
        """
        if self.is_done:
            raise RuntimeError(f"Step {self.name} has ended; it has one effect.")
        try:
            with self._transaction() as conn:
                yield conn
                if not self.is_done:
                    raise RuntimeError(f"Step {self.name} wrote rows and did not call done().")
        except BaseException:
            self.output = NOT_DONE  # nothing was committed
            raise

    def done(self, output: object) -> None:
        """Set the step's output, a JSON value; called inside `effect`."""
        self.output = output
