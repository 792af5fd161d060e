"""/v1/workflows and /v1/definitions: put, list, show, compare and check definitions."""

import threading
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.queries.workflow import workflow_lists
from producers.queries.workflow.workflow_lists import DefinitionRow
from producers.web import answers, lists, routes
from producers.web.access import Acting, demand, needs
from producers.web.answers import Answer
from producers.web.bodies import JSON, RAW
from producers.web.lists import Cursor, Limit
from producers.web.problems import InvalidJson, Refused
from producers.web.routes import NO_NUL
from producers.workflow import graphs, workflows
from producers.workflow.differences import difference
from producers.workflow.graphs import WorkflowGraph
from producers.workflow.json_schema import json_schema
from producers.workflow.workflows import Validation
from shared import db
from shared.db import Connection
from shared.errors import DefinitionRefused, WorkflowNotFound
from shared.queries.workflow import workflows as shelf

router = routes.router("workflows")
definitions_router = routes.router("definitions")
graphs_router = routes.router("graphs")

YAML: Final = "application/yaml"
SOURCE: Final = "body"
Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,63}$", examples=["answer-question"])]
Version = Annotated[int, Query(ge=1, le=2**31 - 1)]
# YAML, and JSON is YAML: read as one text, so that faults have line and column. What a definition
# may be, /v1/definitions/schema says.
TEXT: Final = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {},
                "example": {"name": "hello", "steps": {"a": {"uses": "transform", "with": {}}}},
            },
            YAML: {
                "schema": {"type": "string"},
                "example": "name: hello\nsteps: {a: {uses: transform}}\n",
            },
        },
    }
}


class PutWorkflow(BaseModel):
    """A stored definition; `changed` is false where it was the newest version already."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(description="Of the version.")
    name: str
    version: int
    steps: int
    changed: bool


class Differences(BaseModel):
    """Two versions, compared: steps added, removed and changed, as field -> [before, after]."""

    model_config = ConfigDict(extra="forbid")

    workflow: dict[str, list[Any]]
    added: list[str]
    removed: list[str]
    changed: dict[str, dict[str, list[Any]]]


VALIDATED_BYTES_MAX: Final = 1_000_000
# Checking a large one takes seconds of CPU, of which others' requests need some.
_validating: Final = threading.Lock()

WorkflowVersion = answers.model_of(DefinitionRow, name="WorkflowVersion")
VersionList = answers.list_of(WorkflowVersion, name="VersionList")
WorkflowList = answers.page_of(WorkflowVersion, name="WorkflowList")
Workflow = create_model("Workflow", __base__=WorkflowVersion, definition=(dict[str, Any], ...))
Graph = answers.model_of(WorkflowGraph, name="Graph")
ValidationResult = answers.model_of(Validation, name="ValidationResult")


@router.get("", response_model=WorkflowList)
def list_workflows(
    acting: Annotated[Acting, needs(Scope.WORKFLOWS_READ)],
    after: Cursor = None,
    limit: Limit = 1_000,
) -> Response:
    """List workflows by name, with their latest version."""
    name, _ = lists.read_texts(after) or ("", "")
    with db.transaction(acting.tenant) as conn:
        rows = workflow_lists.select_definitions(conn, acting.tenant, None, after=name, limit=limit)
    following = lists.write_texts(rows[-1].workflow, "") if len(rows) == limit else None
    return answers.ok({"items": [as_document(row) for row in rows], "next": following})


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=PutWorkflow,
    responses={200: {"model": PutWorkflow, "description": "It is the latest version already."}},
    openapi_extra=TEXT,
)
def put_workflow(
    request: Request,
    body: Annotated[bytes, RAW],
    acting: Annotated[Acting, needs(Scope.WORKFLOWS_WRITE)],
) -> Response:
    """Store a definition, as YAML or JSON. A changed one is a new version; runs keep theirs."""
    text = _text(body)

    def do(conn: Connection) -> Answer:
        try:
            done = workflows.put(conn, text, source=SOURCE)
        except DefinitionRefused as refused:
            raise _faults(refused) from None
        document = as_document(done)
        status = HTTPStatus.CREATED if done.changed else HTTPStatus.OK
        headers = {"Location": f"/v1/workflows/{done.name}"}
        return Answer({"id": document.pop("versionId")} | document, status, headers)

    return answers.once(request, acting, do)


@router.get("/{name}", response_model=Workflow)
def show_workflow(
    name: Name,
    acting: Annotated[Acting, needs(Scope.WORKFLOWS_READ)],
    version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Unset: the latest.")
    ] = None,
) -> Response:
    """Show a version of a workflow with its definition."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        rows = workflow_lists.select_definitions(
            conn, acting.tenant, name, version=version, limit=1
        )
        if not rows:
            raise _not_found(slug, name, version)
        definition = _definition(conn, slug, name, rows[0].version)
    return answers.ok(as_document(rows[0]) | {"definition": definition})


@router.get("/{name}/versions", response_model=VersionList)
def list_versions(
    name: Name, acting: Annotated[Acting, needs(Scope.WORKFLOWS_READ)], limit: Limit = 1_000
) -> Response:
    """List the versions of a workflow, newest first."""
    with db.transaction(acting.tenant) as conn:
        rows = workflow_lists.select_definitions(conn, acting.tenant, name, limit=limit)
    if not rows:
        raise _not_found(tenants.slug_of(acting.tenant), name, None)
    return answers.ok_list(rows)


@router.get("/{name}/difference", response_model=Differences)
def compare_versions(
    name: Name,
    before: Version,
    after: Version,
    acting: Annotated[Acting, needs(Scope.WORKFLOWS_READ)],
) -> Response:
    """Compare two versions of a workflow."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        old, new = (_definition(conn, slug, name, one) for one in (before, after))
    return answers.ok(difference(old, new))


@graphs_router.get("/{what}", response_model=Graph)
def draw_graph(
    what: Annotated[
        str, Path(max_length=64, pattern=NO_NUL, description="Id of a run, or name of a workflow.")
    ],
    acting: Annotated[Acting, needs(Scope.WORKFLOWS_READ)],
) -> Response:
    """Draw a workflow, or with the scope `runs:read` a run with the states of its steps."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        definition, states = graphs.read(conn, what, slug)
    if states:
        demand(acting.by, Scope.RUNS_READ)
    return answers.ok(as_document(graphs.drawn(what, definition, states)))


@definitions_router.post("/validate", response_model=ValidationResult, openapi_extra=TEXT)
def validate_definition(
    body: Annotated[bytes, RAW], _: Annotated[Acting, needs(Scope.WORKFLOWS_READ)]
) -> Response:
    """Check a definition of up to 1 MB without storing it; faults have line, column and rule."""
    if len(body) > VALIDATED_BYTES_MAX:
        raise Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "definition_too_large",
            f"A definition to check must be at most {VALIDATED_BYTES_MAX:,} bytes.",
        )
    if not _validating.acquire(blocking=False):
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "validation_busy",
            "Another definition is being checked: ask again.",
            {"Retry-After": "1"},
        )
    try:
        return answers.ok(as_document(workflows.validate(_text(body), source=SOURCE)))
    finally:
        _validating.release()


@definitions_router.get("/schema", response_model=dict[str, Any])
def show_definition_schema(_: Annotated[Acting, needs(Scope.WORKFLOWS_READ)]) -> Response:
    """Show the JSON Schema of definitions, for editors."""
    return answers.ok(json_schema())


def _definition(conn: Connection, slug: str, name: str, version: int) -> dict[str, Any]:
    found = shelf.select_version(conn, name, version)
    if found is None:
        raise _not_found(slug, name, version)
    return found.definition


def _not_found(slug: str, name: str, version: int | None) -> WorkflowNotFound:
    which = f"workflow {name!r}" if version is None else f"version {version} of {name!r}"
    return WorkflowNotFound(f"Tenant {slug} has no {which}.")


def _text(body: bytes) -> str:
    if not body.strip():
        raise InvalidJson(HTTPStatus.UNPROCESSABLE_ENTITY, "The body has no definition.")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidJson(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is not UTF-8.") from None


def _faults(refused: DefinitionRefused) -> Refused:
    """Return the refusal of a definition, with its faults one by one."""
    faults = str(refused).splitlines()
    return Refused(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        refused.code,
        faults[0] if len(faults) == 1 else f"{faults[0]} {len(faults) - 1:,} more faults.",
        invalid=[{"pointer": f"/{SOURCE}", "detail": fault} for fault in faults],
    )
