"""The step kinds: the fields of `with`, and the outputs."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts import CONTRACTS
from shared.errors import UnknownKind


class _With(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TransformWith(_With):
    """Yield a value, its expressions evaluated."""

    value: Any


class PythonWith(_With):
    """Call a registered Python function."""

    function: str
    args: dict[str, Any] = {}


class HttpWith(_With):
    """Make an HTTP request to a public address."""

    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = {}
    json_body: Any = None
    body: str | None = None
    expect: list[int] = []
    bytes_max: Annotated[int, Field(ge=1, le=1_048_576)] = 262_144


class SearchWith(_With):
    """Search the tenant's documents."""

    query: Annotated[str, Field(min_length=1)]
    k: Annotated[int, Field(ge=1, le=100)] = 10
    mode: Literal["hybrid", "vector", "text"] = "hybrid"


class CompleteWith(_With):
    """Let a language model answer."""

    prompt: str
    system: str | None = None
    model: str | None = None
    context: list[dict[str, Any]] = []
    tokens_max: Annotated[int, Field(ge=1, le=100_000)] = 512
    temperature: float | None = None
    user_id: str | None = None
    intent: str | None = None
    cost_usd_max: Annotated[float | None, Field(ge=0)] = None
    latency_ms_max: Annotated[int | None, Field(ge=1)] = None
    cache: bool = True


class WorkflowWith(_With):
    """Run another workflow of the tenant and wait for it."""

    name: str
    input: dict[str, Any] = {}


class ApprovalWith(BaseModel):
    """Wait until somebody approves, or rejects."""

    model_config = ConfigDict(frozen=True, extra="allow")
    prompt: str = ""


class SignalWith(_With):
    """Wait for a signal of this name."""

    name: str


class SleepWith(_With):
    """Wait for a while, or until a time."""

    for_: Annotated[str | float | None, Field(alias="for")] = None
    until: datetime | None = None

    @model_validator(mode="after")
    def _one(self) -> "SleepWith":
        if (self.for_ is None) == (self.until is None):
            raise ValueError("exactly one of for, until is required")
        return self


class CheckIndexWith(_With):
    """Check that a document is found by search."""

    document_id: str


# Jobs of the workflow engine are not step kinds.
_ENGINE = frozenset({"run_step"})


class SearchOutput(BaseModel):
    """The output of `search`."""

    hits: list[dict[str, Any]]
    count: int


class CompleteOutput(BaseModel):
    """The output of `complete`; dollars as decimal text, null where no price is known."""

    text: str
    model: str
    citations: list[dict[str, Any]]
    tokens_in: Annotated[int, Field(alias="tokensIn")]
    tokens_out: Annotated[int, Field(alias="tokensOut")]
    cost_usd: Annotated[str | None, Field(alias="costUsd")]
    latency_ms: Annotated[int, Field(alias="latencyMs")] = 0
    intent: str = "unknown"
    parameters: dict[str, Any] = {}
    chosen_because: Annotated[dict[str, str], Field(alias="chosenBecause")] = {}
    cached: bool = False


class HttpOutput(BaseModel):
    """The output of `http`; the body as JSON where the reply is JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class ApprovalOutput(BaseModel):
    """The output of `approval`."""

    approved: bool
    by: str
    comment: str | None


class SignalOutput(BaseModel):
    """The output of `signal`."""

    payload: Any


class CheckIndexOutput(BaseModel):
    """The output of `check_index`."""

    chunks: int
    vectors: int
    found: bool
    rank: int | None


@dataclass(frozen=True, slots=True)
class StepKind:
    """A step kind.

    Attributes:
        name: As `uses` names it.
        fields: The fields of `with`.
        output: Its output; None where that depends on its input.
        about: One sentence.
    """

    name: str
    fields: type[BaseModel]
    output: type[BaseModel] | None
    about: str


_OWN: Mapping[str, type[BaseModel]] = {
    "transform": TransformWith,
    "python": PythonWith,
    "http": HttpWith,
    "search": SearchWith,
    "complete": CompleteWith,
    "workflow": WorkflowWith,
    "approval": ApprovalWith,
    "signal": SignalWith,
    "sleep": SleepWith,
    "check_index": CheckIndexWith,
}


_OUTPUTS: Mapping[str, type[BaseModel]] = {
    "search": SearchOutput,
    "complete": CompleteOutput,
    "http": HttpOutput,
    "approval": ApprovalOutput,
    "signal": SignalOutput,
    "check_index": CheckIndexOutput,
}


def kinds() -> dict[str, StepKind]:
    """All kinds: our own, and one a contract."""
    own = {
        name: StepKind(name, fields, _OUTPUTS.get(name), _first_line(fields))
        for name, fields in _OWN.items()
    }
    jobs = {
        name: StepKind(name, contract, None, _first_line(contract))
        for name, contract in CONTRACTS.items()
        if name not in _ENGINE
    }
    return own | jobs


def kind_named(name: str) -> StepKind:
    """The kind of this name.

    Raises:
        UnknownKind: There is none; the message lists the nearest.
    """
    known = kinds()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name[:100], known, n=3)) or ", ".join(
            sorted(known)
        )
        raise UnknownKind(f"Unknown step kind {name!r}; known kinds: {near}.")
    return known[name]


def _first_line(described: type[BaseModel]) -> str:
    return (described.__doc__ or "").split("\n")[0]
