"""Fake steps of a trial: they stand in for actors and step kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.errors import UsageError
from shared.workflow.durations import seconds


class FakeMissing(UsageError):
    """A step of a trial has no fake, neither by its name nor by its kind."""

    code = "fake_missing"


@dataclass(frozen=True, slots=True)
class TrialStep:
    """What a fake is told of its step: `workers.steps.step.Step` without the database."""

    name: str
    workflow: str
    run_id: str
    attempt: int
    item: Any
    index: int | None

    def progress(self, part: float, note: str = "") -> None:
        """Tell how far the step is; nobody watches a trial."""


@dataclass(frozen=True, slots=True)
class Takes:
    """An outcome that is there only after a while."""

    outcome: object
    after_s: float


Fake = Callable[[dict[str, Any], TrialStep], object]


def fake(*outcomes: object, takes: str | float = 0) -> Fake:
    """A fake step: its first attempt has the first outcome, and so on; the last one stays.

    Args:
        outcomes: Outputs, JSON values; an exception is raised. Without any the output is null.
        takes: How long an attempt that succeeds takes by the trial's clock, a duration.

    Raises:
        ValueError: `takes` is not a valid duration.
    """
    given = outcomes or (None,)
    after_s = seconds(takes)

    def act(_given: dict[str, Any], step: TrialStep) -> object:
        outcome = given[min(step.attempt, len(given)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return Takes(outcome, after_s) if after_s else outcome

    return act
