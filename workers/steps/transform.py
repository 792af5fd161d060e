"""Kind `transform`: values made of values. The expressions were worked out before."""

from shared.workflow.kinds import TransformWith
from workers.steps.step import Step
from workers.steps.table import step_kind


@step_kind("transform")
def transform(given: TransformWith, step: Step) -> object:  # noqa: ARG001 - the table's signature
    """Return the value, whose expressions are worked out."""
    return given.value
