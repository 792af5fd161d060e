"""/v1/incidents: something wrong that has one cause; listed, taken, closed."""

from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.operations import incident_acts
from producers.queries.operations import incident_notices
from producers.queries.operations import incidents as queries
from producers.queries.operations.incident_notices import NoticeRow
from producers.queries.operations.incidents import IncidentFilters, IncidentRow
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection, Role

router = routes.router("incidents")

NOTICES_MAX = 1_000
Id = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Of the incident.")]


class CloseRequest(Body):
    """Why an incident is closed."""

    reason: str = Field(
        min_length=1, max_length=2_000, pattern=r"^[^\u0000]*\S[^\u0000]*$", examples=["mended"]
    )


Incident = answers.model_of(IncidentRow, name="Incident")
IncidentNotice = answers.model_of(NoticeRow, name="IncidentNotice")
IncidentNoticed = answers.extended(
    Incident,
    name="IncidentNoticed",
    notices=list[IncidentNotice],  # type: ignore[valid-type]
)
IncidentList = answers.page_of(Incident, name="IncidentList")


@router.get("", response_model=IncidentList)
def list_incidents(
    acting: Annotated[Acting, needs(Scope.INCIDENTS_READ)],
    only_open: Annotated[bool, Query(alias="open", description="Only unresolved ones.")] = False,
    system: Annotated[bool, Query(description="Only those without a tenant.")] = False,
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List incidents, newest first; a key of a tenant sees that tenant's."""
    before = lists.read(after)
    if system and acting.tenant_id is not None:
        return answers.ok({"items": [], "next": None})
    wanted = IncidentFilters(tenant_id=acting.tenant_id, system=system, only_open=only_open)
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = queries.select_incidents(conn, wanted, before=before, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.detected_at, row.id))


@router.get("/{incident_id}", response_model=IncidentNoticed)
def show_incident(
    incident_id: Id, acting: Annotated[Acting, needs(Scope.INCIDENTS_READ)]
) -> Response:
    """Show an incident and its notifications."""
    with db.transaction(None, role=Role.RELAY) as conn:
        row = incident_acts.found(conn, incident_id, acting.tenant_id)
        notices = incident_notices.select_notices(conn, incident_id, limit=NOTICES_MAX)
    return answers.ok(as_document(row) | {"notices": [as_document(one) for one in notices]})


@router.post("/{incident_id}/take", response_model=Incident)
def take_incident(
    request: Request, incident_id: Id, acting: Annotated[Acting, needs(Scope.INCIDENTS_WRITE)]
) -> Response:
    """Acknowledge an incident: it no longer escalates by time alone."""

    def do(conn: Connection) -> Answer:
        return Answer(as_document(incident_acts.take(conn, incident_id, acting.tenant_id)))

    return answers.once(request, acting, do, role=Role.RELAY)


@router.post("/{incident_id}/close", response_model=Incident)
def close_incident(
    request: Request,
    incident_id: Id,
    body: CloseRequest,
    acting: Annotated[Acting, needs(Scope.INCIDENTS_WRITE)],
) -> Response:
    """Close an incident. The same cause stays quiet for an hour unless it gets worse."""

    def do(conn: Connection) -> Answer:
        row = incident_acts.close(conn, incident_id, body.reason, acting.tenant_id)
        return Answer(as_document(row))

    return answers.once(request, acting, do, role=Role.RELAY)
