"""The state of a trial: definitions with their fakes, and their runs."""

from dataclasses import dataclass, field
from typing import Any

import jsonschema
from pydantic import BaseModel

from shared.contracts import CONTRACTS, RunStep
from shared.workflow.durations import seconds
from shared.workflow.limits import ATTEMPTS_DEFAULT
from shared.workflow.plan import Node
from shared.workflow.trial.engine_model import At, Graph, Run
from shared.workflow.trial.fakes import Fake


@dataclass(frozen=True, slots=True)
class Script:
    """A definition, made ready to be played many times.

    Attributes:
        fakes: A node's fake; None for one that behaves as it does in a worker.
        fields: What a node's `with` must be; None for anything.
        inputs: What the run's input must be; None for anything.
    """

    name: str
    nodes: tuple[Node, ...]
    graph: Graph
    fakes: list[Fake | None]
    fields: list[type[BaseModel] | None]
    timeout_s: float
    inputs: jsonschema.Draft202012Validator | None

    def attempts_max(self, position: int) -> int:
        """How often a step is tried."""
        node = self.nodes[position]
        asked = (node.spec.get("retry") or {}).get("attempts")
        contract = CONTRACTS.get(node.uses)
        return asked or (contract.attempts_max if contract else ATTEMPTS_DEFAULT)

    def limit_s(self, position: int) -> float:
        """How long one attempt may take."""
        node = self.nodes[position]
        own = node.spec.get("timeout")
        return seconds(own) if own else CONTRACTS.get(node.uses, RunStep).time_limit_s


@dataclass(slots=True, eq=False)
class Wait:
    """What a step waits for; `due_s` in seconds of the play's clock, None for ever."""

    what: str
    name: str
    due_s: float | None


@dataclass(slots=True, eq=False)
class Flow:
    """One run within a play.

    Attributes:
        parent: The step that waits for it; None for the first run.
        is_heard: Whether its parent has been told that it is over.
        working: Steps that are being done, or will be tried again, with a mark of their attempt.
        keys: The concurrency keys that steps hold, or stand in line for.
        deadline: Stands for the run's timeout; a new one takes the place of an older.
        signals: Name and payload of those that nobody has taken yet.
    """

    id: str
    script: Script
    run: Run
    inputs: dict[str, Any]
    started: str
    depth: int
    parent: "tuple[Flow, At] | None"
    is_heard: bool = False
    deadline: object = None
    attempts: dict[At, int] = field(default_factory=dict)
    given: dict[At, Any] = field(default_factory=dict)
    waits: dict[At, Wait] = field(default_factory=dict)
    working: dict[At, object] = field(default_factory=dict)
    keys: dict[At, str] = field(default_factory=dict)
    signals: list[tuple[str, Any]] = field(default_factory=list)
    children: "list[Flow]" = field(default_factory=list)

    def name(self, at: At) -> str:
        """A step's name; an item's has its index."""
        name = self.script.nodes[at[0]].name
        return name if at[1] < 0 else f"{name}[{at[1]}]"

    def scope(self, at: At) -> dict[str, Any]:
        """What a step's expressions may name."""
        rows, nodes = self.run.steps, self.script.nodes
        steps = {}
        for position in nodes[at[0]].reads:
            row = rows[position, -1]
            steps[nodes[position].name] = {
                "output": row.output,
                "state": row.state,
                "error": row.error,
            }
        run = {"id": self.id, "workflow": self.script.name, "started_at": self.started}
        scope = {"inputs": self.inputs, "steps": steps, "run": run}
        return scope if at[1] < 0 else {**scope, "item": rows[at].item, "index": at[1]}
