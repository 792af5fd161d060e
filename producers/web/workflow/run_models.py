"""What `producers.workflow.run_view` yields of runs and steps, for the OpenAPI document."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from producers.queries.workflow.workflow_runs import FailedAttempt, RunRow, StepRow
from producers.web import answers
from producers.workflow.run_view import ChildRun


def _without(row: type, *names: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - types
    """Return the fields of a row's JSON but for some, and more of them."""
    whole = answers.model_of(row).model_fields
    kept = {name: (one.annotation, ...) for name, one in whole.items() if name not in names}
    return kept | {name: (kind, ...) for name, kind in more.items()}


_EXACT = ConfigDict(extra="forbid")
FailedAttemptState = create_model(
    "FailedAttempt", __config__=_EXACT, **_without(FailedAttempt, "stepId")
)
ChildRunState = answers.model_of(ChildRun, name="ChildRun")


class WaitingFor(BaseModel):
    """What a step waits for."""

    model_config = _EXACT

    what: str = Field(alias="for", examples=["approval"])
    name: str | None
    until: datetime | None


_HIDDEN = ("dependents", "waitsFor", "waitName", "waitUntil", "compensates", "jobState", "jobQueue")
RunStepState = create_model(
    "RunStep",
    __config__=_EXACT,
    **_without(
        StepRow,
        *_HIDDEN,
        waits=WaitingFor | None,
        itemStates=dict[str, int] | None,
        attempts=list[FailedAttemptState],
        runs=list[ChildRunState],  # type: ignore[valid-type]
    ),
)
Run = create_model(
    "Run",
    __config__=_EXACT,
    **_without(
        RunRow,
        "versionId",
        "now",
        progress=float,
        stepsTotal=int,
        states=dict[str, int],
        steps=list[RunStepState],
        further=list[RunStepState],
    ),
)
