"""What a step's function returns in place of an output: what has to happen before it ends."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from shared.contracts import Contract
from workers.steps import engine
from workers.steps.step import Step


class Deferred(ABC):
    """What a step's function asks for instead of an output."""

    __slots__ = ()

    @abstractmethod
    def tell(self, step: Step) -> str | None:
        """Tell the engine. Returns what it says of the next step; None where the job is done."""


@dataclass(frozen=True, slots=True)
class Sleep(Deferred):
    """End the step at a time, or so many seconds after it began. Exactly one of both is set.

    Attributes:
        until: An aware time; one in the past ends the step at once.
        for_s: Seconds, >= 0, by Postgres's clock.
    """

    until: datetime | None = None
    for_s: float | None = None

    def tell(self, step: Step) -> str | None:
        """Let the step wait for the time."""
        return engine.suspend(step, "timer", "", self.for_s, self.until)


@dataclass(frozen=True, slots=True)
class AwaitSignal(Deferred):
    """End the step when someone sends the signal, or decides.

    Attributes:
        name: The signal's name; of an approval, the step's.
        what: Which of the two is awaited.
        timeout_s: How long at most, where the kind knows; None leaves it to the step's `timeout`.
        asked: What an approval shows to the person who decides, such as its `prompt`.
    """

    name: str
    what: Literal["signal", "approval"] = "signal"
    timeout_s: float | None = None
    asked: dict[str, Any] = field(default_factory=dict)

    def tell(self, step: Step) -> str | None:
        """Let the step wait for the signal or the decision."""
        wait_s = step.timeout_s if self.timeout_s is None else self.timeout_s
        return engine.suspend(step, self.what, self.name, wait_s)


@dataclass(frozen=True, slots=True)
class Delegate(Deferred):
    """Let the actor of a contract do it: its job ends the step, and its outcome is the output."""

    job: Contract

    def tell(self, step: Step) -> None:
        """Let the step become the job."""
        engine.delegate(step, self.job)


@dataclass(frozen=True, slots=True)
class StartRun(Deferred):
    """Start a run of another workflow of the tenant; its outputs are the step's output."""

    name: str
    input: dict[str, Any] = field(default_factory=dict)

    def tell(self, step: Step) -> None:
        """Start the run, and let the step wait for its end."""
        engine.start_run(step, self.name, self.input)
