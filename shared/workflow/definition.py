"""The shape of a definition, as pydantic models. Its JSON form is what "Workflow"."dag" holds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Duration = str | int | float
StepName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Retry(_Part):
    """Attempts of a step, and the first wait between them, which doubles."""

    attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    backoff: Duration | None = None


class Compensation(_Part):
    """The compensation of a step."""

    uses: str
    with_: Annotated[dict[str, Any], Field(alias="with")] = {}


class Concurrency(_Part):
    """Runs with one key come one at a time."""

    key: str
    on_conflict: Literal["queue", "cancel_previous", "reject"] = "queue"


class StepSpec(_Part):
    """One step."""

    uses: str | None = None
    with_: Annotated[dict[str, Any], Field(alias="with")] = {}
    needs: str | list[str] = []
    if_: Annotated[str | bool | None, Field(alias="if")] = None
    for_each: str | list[Any] | None = None
    max_parallel: Annotated[int, Field(ge=1, le=1_000)] | None = None
    retry: Retry | None = None
    timeout: Duration | None = None
    on_error: Literal["fail", "continue", "compensate"] = "fail"
    compensate: Compensation | None = None
    concurrency: str | None = None
    wait_for: str | None = None
    sleep: Duration | None = None

    @model_validator(mode="after")
    def _has_one_kind(self) -> "StepSpec":
        if sum(one is not None for one in (self.uses, self.wait_for, self.sleep)) != 1:
            raise ValueError("exactly one of uses, wait_for, sleep is required")
        return self


class Definition(_Part):
    """A workflow."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
    description: str | None = None
    inputs: dict[str, Any] | None = None
    timeout: Duration | None = None
    concurrency: str | Concurrency | None = None
    steps: Annotated[dict[StepName, StepSpec], Field(min_length=1, max_length=100_000)]
    outputs: dict[str, Any] | None = None
