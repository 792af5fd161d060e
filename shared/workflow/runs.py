"""Store a definition and start a run, in the caller's transaction."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from shared.db import Connection
from shared.errors import PayloadRefused, RunRefused, WorkflowNotFound
from shared.ids import RunId
from shared.ledger.outbox import producer, raise_refusal
from shared.observability import tracing
from shared.queries.workflow import workflows
from shared.queries.workflow.workflows import NewNode, NewRun, NewVersion, VersionRow
from shared.workflow.definition import Definition
from shared.workflow.durations import seconds
from shared.workflow.expressions.evaluation import compile_expression, references, render
from shared.workflow.input_schema import input_faults
from shared.workflow.limits import (
    ATTEMPTS_DEFAULT,
    BACKOFF_DEFAULT_S,
    DEPTH_MAX,
    INPUT_BYTES_MAX,
    KEY_CHARS_MAX,
    TIMEOUT_DEFAULT_S,
)
from shared.workflow.plan import Node, WorkflowPlan, compile_plan
from shared.workflow.reading import of_json


@dataclass(frozen=True, slots=True)
class StoredWorkflow:
    """A stored definition; `changed` is False where it was the newest version already."""

    name: str
    version: int
    version_id: str
    steps: int
    changed: bool


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that was started now, or before under the same key."""

    id: RunId
    state: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Parent:
    """The step that a run is started for, and how deep that is."""

    step_id: str
    depth: int


def put(conn: Connection, definition: Definition) -> StoredWorkflow:
    """Store a definition as the newest version of the tenant's workflow of its name.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        definition: As `shared.workflow.reading.read` returns it.
    """
    assert conn.info.transaction_status == TransactionStatus.INTRANS, "put in a transaction"
    plan = compile_plan(definition)
    dag = definition.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)
    workflow_id = workflows.lock_workflow(conn, definition.name, definition.description, dag)
    nodes = sum(node.compensates is None for node in plan.nodes)
    newest = workflows.select_newest(conn, definition.name)
    if newest is not None and newest.digest == plan.digest:
        return StoredWorkflow(
            definition.name, newest.version, newest.id, len(definition.steps), changed=False
        )
    version_id, number = workflows.insert_version(
        conn,
        NewVersion(
            workflow_id=workflow_id,
            description=definition.description,
            dag=dag,
            digest=plan.digest,
            steps=nodes,
            ends=_ends(plan),
            timeout_s=TIMEOUT_DEFAULT_S
            if definition.timeout is None
            else seconds(definition.timeout),
            created_by=producer.get(),
        ),
    )
    name_at = {node.position: node.name for node in plan.nodes}
    rows = [_row(node, [name_at[position] for position in node.reads]) for node in plan.nodes]
    workflows.insert_nodes(conn, version_id, rows)
    return StoredWorkflow(definition.name, number, version_id, len(definition.steps), changed=True)


def start(
    conn: Connection,
    name: str,
    given: Mapping[str, Any],
    *,
    key: str | None = None,
    version: int | None = None,
    parent: Parent | None = None,
) -> StartedRun:
    """Start a run in the caller's transaction: it exists if, and only if, that commits.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        name: The workflow's name.
        given: The run's input, checked against the definition's `inputs`.
        key: Idempotency key: a second start under it returns the first run.
        version: A version's number; None for the newest.
        parent: The step that waits for the run, if one does.

    Raises:
        WorkflowNotFound: The tenant has no workflow, or no such version, of this name.
        PayloadRefused: Invalid input.
        RunRefused: Nested too deep, or another run holds its concurrency key and it rejects.
    """
    found = _version(conn, name, version)
    text = _checked_input(found, given)
    depth = 0 if parent is None else parent.depth + 1
    if depth > DEPTH_MAX:
        raise RunRefused(f"{name}: runs within runs go {DEPTH_MAX} deep at most.")
    if key is not None and not 0 < len(key) <= KEY_CHARS_MAX:
        raise RunRefused(f"A run's key must be 1 to {KEY_CHARS_MAX} characters (got {len(key)}).")
    slot_key, on_conflict = _slot(found, given)
    with tracing.publishing("run_step", "workflow", count=1) as traceparent:
        new = NewRun(
            version_id=found.id,
            input=text,
            key=key,
            slot_key=slot_key,
            on_conflict=on_conflict,
            parent_step=None if parent is None else parent.step_id,
            depth=depth,
            producer=producer.get(),
            traceparent=traceparent,
        )
        try:
            run_id, state, duplicate = workflows.start_run(conn, new)
        except psycopg.Error as error:
            raise_refusal(error)
    return StartedRun(RunId(run_id), state, duplicate)


def _version(conn: Connection, name: str, version: int | None) -> VersionRow:
    if version is not None:
        found = workflows.select_version(conn, name, version)
    else:
        unread = workflows.select_unread(conn, name)
        if unread is not None:  # the platform wrote the table itself: a version like any other
            put(conn, of_json({"name": name, **unread} if isinstance(unread, dict) else unread))
        found = workflows.select_newest(conn, name)
    if found is None:
        which = "" if version is None else f" with a version {version}"
        raise WorkflowNotFound(f"No workflow named {name!r}{which}; put one first.")
    return found


def _checked_input(found: VersionRow, given: Mapping[str, Any]) -> str:
    text = json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text.encode()) > INPUT_BYTES_MAX:
        raise PayloadRefused(f"The input is larger than {INPUT_BYTES_MAX:,} bytes; send ids.")
    if "\\u0000" in text:
        raise PayloadRefused("The input contains NUL, which Postgres cannot store.")
    schema = found.definition.get("inputs")
    if schema is not None and (faults := input_faults(schema, given)):
        raise PayloadRefused(f"Invalid input: {'; '.join(faults)}.")
    return text


def _slot(found: VersionRow, given: Mapping[str, Any]) -> tuple[str | None, str]:
    concurrency = found.definition.get("concurrency")
    if concurrency is None:
        return None, "queue"
    if isinstance(concurrency, str):
        concurrency = {"key": concurrency}
    key = str(render(concurrency["key"], {"inputs": dict(given), "steps": {}, "run": {}}))
    return slot_key(f"{found.workflow_id}/{key}"), concurrency.get("on_conflict", "queue")


def slot_key(text: str) -> str:
    """A concurrency key as its row holds it: as it is, or hashed where it is long."""
    return text if len(text) <= KEY_CHARS_MAX else hashlib.sha256(text.encode()).hexdigest()


def _ends(plan: WorkflowPlan) -> int:
    return sum(not node.dependents for node in plan.nodes if node.compensates is None)


def _row(node: Node, names: Sequence[str]) -> NewNode:
    """A node's row; `names` are those of the steps that it reads."""
    spec = node.spec
    retry = spec.get("retry") or {}
    backoff, timeout = retry.get("backoff"), spec.get("timeout")
    mapped = spec.get("for_each") is not None
    reads: tuple[int, ...] = node.reads
    listed: tuple[int, ...] = ()
    if mapped:  # its items do not each read the list again
        own = _named({name: value for name, value in spec.items() if name != "for_each"})
        listed = node.reads
        reads = tuple(at for at, name in zip(node.reads, names, strict=True) if name in own)
    return NewNode(
        position=node.position,
        name=node.name,
        uses=node.uses,
        spec=json.dumps(spec, ensure_ascii=False, separators=(",", ":")),
        needs=node.needs,
        dependents=node.dependents,
        reads=reads,
        list_reads=listed,
        compensates=node.compensates,
        mapped=mapped,
        on_error=spec.get("on_error") or "fail",
        attempts_max=retry.get("attempts") or ATTEMPTS_DEFAULT,
        backoff_s=BACKOFF_DEFAULT_S if backoff is None else seconds(backoff),
        timeout_s=None if timeout is None else seconds(timeout),
    )


def _named(spec: Mapping[str, Any]) -> frozenset[str]:
    """The steps that a step's templates, and its bare expressions, name."""
    condition = spec.get("if")
    bare = compile_expression(condition).steps if isinstance(condition, str) else frozenset()
    return references(spec) | bare
