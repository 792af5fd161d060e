"""The graph of a run with its states, or of a workflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from producers.queries.workflow import workflow_runs as queries
from producers.workflow.graph import mermaid
from shared.db import Connection
from shared.errors import UsageError, WorkflowNotFound
from shared.ids import RunId
from shared.queries.workflow import workflows as shelf
from shared.workflow.definition import Definition

STEPS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class WorkflowGraph:
    """A definition as Mermaid text; `states` of the steps where it is that of a run."""

    name: str
    mermaid: str
    states: Mapping[str, str]


def read(conn: Connection, what: str, slug: str) -> tuple[Definition, Mapping[str, str]]:
    """Return the definition of a run with its states, or the latest of a workflow.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        what: Id of a run, or name of a workflow.
        slug: Of the tenant.

    Raises:
        WorkflowNotFound: The tenant has neither.
    """
    run = queries.select_run(conn, RunId(what))
    if run is None:
        found = shelf.select_newest(conn, what)
    else:
        found = shelf.select_version(conn, run.workflow, run.version)
    if found is None:
        raise WorkflowNotFound(
            f"Tenant {slug} has no run and no workflow {what!r}: "
            f"see `ailydian workflow definitions --tenant {slug}`."
        )
    states = {} if run is None else queries.select_states(conn, run.id, limit=STEPS_MAX)
    return Definition.model_validate(found.definition), states


def drawn(what: str, definition: Definition, states: Mapping[str, str]) -> WorkflowGraph:
    """Draw a definition.

    Raises:
        UsageError: It has too many steps.
    """
    if len(definition.steps) > STEPS_MAX:
        raise UsageError(
            f"{what} has {len(definition.steps):,} steps, too many to draw: {STEPS_MAX:,} at most."
        )
    return WorkflowGraph(definition.name, mermaid(definition, states), states)
