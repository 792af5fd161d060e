"""Kinds that wait: `sleep`, `signal`, `approval`. A wait is a row, and holds no thread."""

from shared.errors import PayloadRefused
from shared.workflow.durations import seconds
from shared.workflow.kinds import ApprovalWith, SignalWith, SleepWith
from workers.steps.outcomes import AwaitSignal, Sleep
from workers.steps.step import Step
from workers.steps.table import step_kind


@step_kind("sleep")
def sleep(given: SleepWith, step: Step) -> Sleep:
    """Wait for a while, or until a time.

    Raises:
        PayloadRefused: `for` is not a valid duration, or `until` does not say in which zone it is.
    """
    if given.until is not None:
        if given.until.tzinfo is None:
            raise PayloadRefused(
                f"Step {step.name}: with.until: {given.until.isoformat()} has no zone; end it "
                f"with Z or an offset."
            )
        return Sleep(until=given.until)
    try:
        return Sleep(for_s=seconds(given.for_ or 0))
    except ValueError as error:
        raise PayloadRefused(f"Step {step.name}: with.for: {error}") from None


@step_kind("signal")
def signal(given: SignalWith, step: Step) -> AwaitSignal:  # noqa: ARG001 - the table's signature
    """Wait for a signal of this name, sent to the run."""
    return AwaitSignal(given.name, "signal")


@step_kind("approval")
def approval(given: ApprovalWith, step: Step) -> AwaitSignal:
    """Wait until someone approves of the step, or does not."""
    return AwaitSignal(step.name, "approval", asked=given.model_dump(mode="json"))
