"""Compile a definition that was read: steps in topological order, with their dependents."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from shared.errors import DefinitionRefused
from shared.workflow.definition import Definition, StepSpec
from shared.workflow.expressions.evaluation import compile_expression, references
from shared.workflow.loading import collected_later
from shared.workflow.ordering import ordered


@dataclass(frozen=True, slots=True)
class Node:
    """One step; positions count from 0 in topological order."""

    position: int
    name: str
    uses: str
    spec: dict[str, Any]
    needs: int
    dependents: tuple[int, ...]
    reads: tuple[int, ...]
    compensates: int | None


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """A compiled definition; `digest` is the SHA-256 of the definition's canonical JSON."""

    digest: str
    nodes: tuple[Node, ...]


def compile_plan(definition: Definition) -> WorkflowPlan:
    """Compile a definition that has been checked."""
    with collected_later():
        return _compiled(definition)


def _compiled(definition: Definition) -> WorkflowPlan:
    needs = {name: _needs(step) for name, step in definition.steps.items()}
    order = ordered(needs)
    if len(order) < len(needs):
        raise DefinitionRefused("The steps need each other in a cycle.")
    position = {name: at for at, name in enumerate(order)}
    dependents: dict[str, list[int]] = {name: [] for name in order}
    for name in order:
        for needed in needs[name]:
            dependents[needed].append(position[name])
    sinks = [name for name in order if not dependents[name]]
    if definition.outputs is not None:
        for name in sinks:
            dependents[name].append(len(order))
    said = json.loads(definition.model_dump_json(by_alias=True, exclude_none=True))
    # Before the nodes are made, for they take the steps of `said` over.
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    nodes = [
        _node(name, definition.steps[name], said["steps"][name], dependents[name], position)
        for name in order
    ]
    if definition.outputs is not None:
        spec = {"with": {"value": definition.outputs}}
        reads = tuple(sorted(position[name] for name in references(definition.outputs)))
        nodes.append(Node(len(nodes), "outputs", "outputs", spec, len(sinks), (), reads, None))
    for name in order:
        undo = definition.steps[name].compensate
        if undo is not None:
            spec = {"with": undo.with_}
            reads = tuple(sorted({position[one] for one in references(undo.with_)}))
            nodes.append(
                Node(len(nodes), f"undo_{name}", undo.uses, spec, 0, (), reads, position[name])
            )
    return WorkflowPlan(digest, tuple(nodes))


def _needs(step: StepSpec) -> list[str]:
    return [step.needs] if isinstance(step.needs, str) else list(step.needs)


def _node(
    name: str,
    step: StepSpec,
    spec: dict[str, Any],
    dependents: list[int],
    position: dict[str, int],
) -> Node:
    needs = spec.pop("needs", [])
    uses = step.uses or ("signal" if step.wait_for is not None else "sleep")
    if step.wait_for is not None:
        spec["with"] = {"name": spec.pop("wait_for")}
    if step.sleep is not None:
        spec["with"] = {"for": spec.pop("sleep")}
    # What undoes a step has a node, and reads, of its own.
    named = set(references({field: said for field, said in spec.items() if field != "compensate"}))
    for bare in ("if", "for_each"):
        if isinstance(spec.get(bare), str):
            named |= compile_expression(spec[bare]).steps
    reads = tuple(sorted(position[one] for one in named if one in position))
    return Node(
        position=position[name],
        name=name,
        uses=uses,
        spec=spec,
        needs=1 if isinstance(needs, str) else len(needs),
        dependents=tuple(sorted(dependents)),
        reads=reads,
        compensates=None,
    )
