"""The step kinds: what each takes under `with`, and what it yields."""

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
    """Kind `transform`."""

    value: Any


class PythonWith(_With):
    """Kind `python`."""

    function: str
    args: dict[str, Any] = {}


class HttpWith(_With):
    """Kind `http`."""

    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = {}
    json_body: Any = None
    body: str | None = None
    expect: list[int] = []
    bytes_max: Annotated[int, Field(ge=1, le=1_048_576)] = 262_144


class SearchWith(_With):
    """Kind `search`."""

    query: Annotated[str, Field(min_length=1)]
    k: Annotated[int, Field(ge=1, le=100)] = 10
    mode: Literal["hybrid", "vector", "text"] = "hybrid"


class CompleteWith(_With):
    """Kind `complete`."""

    prompt: str
    system: str | None = None
    model: str | None = None
    context: list[dict[str, Any]] = []
    tokens_max: Annotated[int, Field(ge=1, le=100_000)] = 512
    temperature: float | None = None


class WorkflowWith(_With):
    """Kind `workflow`."""

    name: str
    input: dict[str, Any] = {}


class ApprovalWith(BaseModel):
    """Kind `approval`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    prompt: str = ""


class SignalWith(_With):
    """Kind `signal`."""

    name: str


class SleepWith(_With):
    """Kind `sleep`."""

    for_: Annotated[str | float | None, Field(alias="for")] = None
    until: datetime | None = None

    @model_validator(mode="after")
    def _one(self) -> "SleepWith":
        if (self.for_ is None) == (self.until is None):
            raise ValueError("say one of for, until")
        return self


class CheckIndexWith(_With):
    """Kind `check_index`."""

    document_id: str


# What moves runs is no step of one.
_ENGINE = frozenset({"run_step"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A step kind."""

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


def kinds() -> dict[str, Kind]:
    """All kinds: our own, and one a contract."""
    own = {name: Kind(name, fields, None, fields.__doc__ or "") for name, fields in _OWN.items()}
    jobs = {
        name: Kind(name, contract, None, contract.__doc__ or "")
        for name, contract in CONTRACTS.items()
        if name not in _ENGINE
    }
    return own | jobs


def kind_named(name: str) -> Kind:
    """The kind of this name.

    Raises:
        UnknownKind: There is none; the message lists the nearest.
    """
    known = kinds()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=3)) or ", ".join(sorted(known))
        raise UnknownKind(f"No step kind is named {name!r}; there are: {near}.")
    return known[name]
