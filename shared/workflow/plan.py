"""A definition compiled: steps in topological order, and who depends on whom."""

import hashlib
import json
from collections import deque
from dataclasses import dataclass
from typing import Any

from shared.errors import DefinitionRefused
from shared.workflow.definition import Definition, StepSpec
from shared.workflow.expressions import compile_expression, references


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
class Plan:
    """What the engine runs; `digest` is the SHA-256 of the definition's canonical JSON."""

    digest: str
    nodes: tuple[Node, ...]


def compile_plan(definition: Definition) -> Plan:
    """Compile a definition that has been checked."""
    needs = {name: _needs(step) for name, step in definition.steps.items()}
    order = _topological(needs)
    position = {name: at for at, name in enumerate(order)}
    dependents: dict[str, list[int]] = {name: [] for name in order}
    for name in order:
        for needed in needs[name]:
            dependents[needed].append(position[name])
    sinks = [name for name in order if not dependents[name]]
    if definition.outputs is not None:
        for name in sinks:
            dependents[name].append(len(order))
    nodes = []
    for name in order:
        step = definition.steps[name]
        nodes.append(
            _node(
                position[name],
                name,
                step,
                len(needs[name]),
                tuple(sorted(dependents[name])),
                position,
            )
        )
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
    canonical = definition.model_dump_json(by_alias=True, exclude_none=True)
    text = json.dumps(json.loads(canonical), sort_keys=True, separators=(",", ":"))
    return Plan(hashlib.sha256(text.encode()).hexdigest(), tuple(nodes))


def _needs(step: StepSpec) -> list[str]:
    return [step.needs] if isinstance(step.needs, str) else list(step.needs)


def _topological(needs: dict[str, list[str]]) -> list[str]:
    left = {name: len(needed) for name, needed in needs.items()}
    after: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for one in needed:
            after[one].append(name)
    ready = deque(name for name, count in left.items() if not count)
    order = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for one in after[name]:
            left[one] -= 1
            if not left[one]:
                ready.append(one)
    if len(order) < len(needs):
        raise DefinitionRefused("The steps need one another in a circle.")
    return order


def _node(
    at: int,
    name: str,
    step: StepSpec,
    needs: int,
    dependents: tuple[int, ...],
    position: dict[str, int],
) -> Node:
    spec = step.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"needs"})
    uses = step.uses or ("signal" if step.wait_for is not None else "sleep")
    if step.wait_for is not None:
        spec["with"] = {"name": spec.pop("wait_for")}
    if step.sleep is not None:
        spec["with"] = {"for": spec.pop("sleep")}
    named = set(references(spec))
    for plain in ("if", "for_each", "concurrency"):
        if isinstance(spec.get(plain), str) and "${{" not in spec[plain]:
            named |= compile_expression(spec[plain]).steps if plain != "concurrency" else set()
    reads = tuple(sorted(position[one] for one in named if one in position))
    return Node(at, name, uses, spec, needs, dependents, reads, None)
