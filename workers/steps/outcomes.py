"""What a step's function returns in place of an output: what the walker has to see to first."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from shared.contracts import Contract


@dataclass(frozen=True, slots=True)
class Sleep:
    """End the step at a time, or so many seconds after it began. Exactly one of both is set.

    Attributes:
        until: An aware time; one in the past ends the step at once.
        for_s: Seconds, >= 0, by Postgres's clock.
    """

    until: datetime | None = None
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class AwaitSignal:
    """End the step when someone sends the signal, or decides.

    Attributes:
        name: The signal's name; of an approval, the step's.
        what: Which of the two is awaited.
        timeout_s: How long at most, where the kind knows; None leaves it to the step's `timeout`.
        asked: What an approval shows to who decides, such as its `prompt`.
    """

    name: str
    what: Literal["signal", "approval"] = "signal"
    timeout_s: float | None = None
    asked: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delegate:
    """Let the actor of a contract do it: its job ends the step, and its outcome is the output."""

    job: Contract


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a run of another workflow of the tenant; its outputs are the step's output."""

    name: str
    input: dict[str, Any] = field(default_factory=dict)
