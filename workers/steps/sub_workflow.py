"""Kind `workflow`: a run of another workflow as a step of this one."""

from shared.workflow.kinds import WorkflowWith
from workers.steps.outcomes import StartRun
from workers.steps.step import Step
from workers.steps.table import step_kind


@step_kind("workflow")
def workflow(given: WorkflowWith, step: Step) -> StartRun:  # noqa: ARG001 - the table's signature
    """Ask for a run of the newest version of a workflow of the same tenant."""
    return StartRun(given.name, given.input)
