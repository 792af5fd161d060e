"""The one table of step kinds: a name, and the function that does a step of this kind."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared import forks
from shared.contracts import CONTRACTS
from shared.errors import PayloadRefused, UnknownKind
from shared.observability.redaction import redact
from shared.workflow.kinds import kind_named
from workers.steps.outcomes import Delegate
from workers.steps.step import Step

Work = Callable[[Any, Step], object]
Function = TypeVar("Function", bound=Work)

_FAULTS_MAX = 5
_table: dict[str, Work] = {}


def step_kind(name: str) -> Callable[[Function], Function]:
    """Enter a function into the table; its `with` is described in `shared.workflow.kinds`.

    The function is called as `function(given, step)` with the kind's own model, and returns the
    output, a JSON value, or one of `workers.steps.outcomes`. It is returned as it is, so tests
    call it directly.
    """

    def enter(function: Function) -> Function:
        assert name not in _table, f"{name} has a function already"
        _table[name] = function
        return function

    return enter


def lookup(kind: str) -> Callable[[dict[str, Any], Step], object]:
    """The function of a kind, which takes the step's `with` as it was rendered.

    Args:
        kind: A name of the table, or of a contract: then its actor does the step.

    Returns:
        A function that raises PayloadRefused, naming field and step, where `with` does not fit.

    Raises:
        UnknownKind: Neither; the message lists the nearest.
    """
    work = _table.get(kind)
    if work is not None:
        fields = _fields(kind)
        return lambda given, step: forks.calling(work, _read(fields, given, step), step)
    if kind in CONTRACTS:
        return lambda given, step: _delegated(kind, given, step)
    raise UnknownKind(f"{kind_named(kind).name} is described as a step kind and has no function.")


@cache
def _fields(kind: str) -> type[BaseModel]:
    return kind_named(kind).fields


def _read(fields: type[BaseModel], given: dict[str, Any], step: Step) -> BaseModel:
    try:
        return fields.model_validate(given)
    except ValidationError as error:
        faults = "; ".join(
            f"with.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:_FAULTS_MAX]
        )
        raise PayloadRefused(redact(f"Step {step.name}: {faults}.")) from None


def _delegated(kind: str, given: dict[str, Any], step: Step) -> Delegate:
    contract = CONTRACTS[kind]
    try:
        return Delegate(contract.from_payload(given, contract.schema_version))
    except PayloadRefused as error:
        raise PayloadRefused(redact(f"Step {step.name}: {error}")) from None
