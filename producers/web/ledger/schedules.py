"""/v1/schedules: cron schedules of a tenant; those who may act for all see the system's sweeps."""

from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.ledger import schedule_changes
from producers.queries.ledger import schedules as queries
from producers.queries.ledger.schedules import NewSchedule
from producers.web import answers, conditions, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.ledger.publications import contract_of
from producers.web.lists import Cursor, Limit
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from shared import db
from shared.contracts import StartWorkflow
from shared.db import Connection, Role

router = routes.router("schedules")

# As the command takes it: printable characters, of which one at least is no space.
Name = Annotated[
    str,
    Path(
        min_length=1,
        max_length=100,
        pattern=r"^[^\u0000-\u001f\u007f/]*$",
        examples=["heartbeat"],
    ),
]


class ScheduleRequest(Body):
    """A schedule, complete: a job with its payload, or a workflow with its input."""

    cron: str = Field(
        max_length=200,
        pattern=NO_NUL,
        description="Five fields, or six starting with seconds.",
        examples=["0 7 * * MON-FRI"],
    )
    time_zone: str = Field(
        "UTC", max_length=100, pattern=NO_NUL, alias="timeZone", examples=["Europe/Istanbul"]
    )
    job: str | None = Field(None, max_length=100, examples=["probe"])
    payload: dict[str, Any] | None = Field(None, max_length=1_000, examples=[{"n": 1}])
    workflow: str | None = Field(None, min_length=1, max_length=200, pattern=NO_NUL)
    given: dict[str, Any] | None = Field(
        None, max_length=1_000, alias="input", description="Of each run of the workflow."
    )
    jitter_s: int = Field(
        0, ge=0, le=86_400, alias="jitterSeconds", description="Spreads load: a part of it."
    )
    missed: Literal["once", "skip", "all"] = Field("once", description="What missed slots do.")
    enabled: bool = True

    def wanted(self, name: str, acting: Acting) -> NewSchedule:
        """Return the schedule that is asked for.

        Raises:
            Refused: Not exactly one of job and workflow, or a field of the other one.
        """
        if (self.job is None) == (self.workflow is None):
            raise _invalid("Give either job with payload, or workflow with input.")
        if (self.given if self.workflow is None else self.payload) is not None:
            raise _invalid("payload needs job, and input needs workflow.")
        job, payload = StartWorkflow.actor_name, self.payload or {}
        if self.job is not None:
            job = contract_of(self.job, payload, acting).actor_name
        else:
            payload = {"name": self.workflow, "input": self.given or {}}
        return NewSchedule(
            name=name,
            cron=self.cron,
            time_zone=self.time_zone,
            jitter_s=self.jitter_s,
            missed=self.missed,
            job=job,
            payload=payload,
            enabled=self.enabled,
        )


_FIELDS: Final[dict[str, Any]] = {
    "id": str,
    "tenant": str | None,
    "name": str,
    "cron": str,
    "timeZone": str,
    "missed": str,
    "job": str | None,
    "payload": dict[str, Any],
    "sweep": str | None,
    "enabled": bool,
    "slotAt": datetime,
    "nextAt": datetime,
    "ranSlotAt": datetime | None,
    "ranAt": datetime | None,
    "lastJobId": str | None,
    "error": str | None,
    "jitterSeconds": int,
}
Schedule = answers.made("Schedule", **_FIELDS)
ScheduleList = answers.page_of(Schedule, name="ScheduleList")
ScheduleDeleted = answers.made("ScheduleDeleted", id=str, name=str, deleted=bool)


@router.get("", response_model=ScheduleList)
def list_schedules(
    acting: Annotated[Acting, needs(Scope.SCHEDULES_READ)],
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List schedules and their next runs, by tenant and name."""
    place = lists.read_texts(after) or ("", "")
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = queries.select_schedules(conn, acting.tenant_id, after=place, limit=limit)
    last = rows[-1] if len(rows) == limit else None
    items = [schedule_changes.document(row) for row in rows]
    following = last and lists.write_texts(last.tenant or "", last.name)
    return answers.ok({"items": items, "next": following})


@router.get("/{name}", response_model=Schedule)
def show_schedule(name: Name, acting: Annotated[Acting, needs(Scope.SCHEDULES_READ)]) -> Response:
    """Show a schedule."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        row = schedule_changes.found(conn, slug, name)
    return answers.ok(schedule_changes.document(row))


@router.put("/{name}", response_model=Schedule, openapi_extra=conditions.DESCRIBED)
def put_schedule(
    request: Request,
    name: Name,
    body: ScheduleRequest,
    acting: Annotated[Acting, needs(Scope.SCHEDULES_WRITE)],
) -> Response:
    """Create or replace a schedule; new times apply from now on.

    If-Match takes its ETag, which changes with each run; `If-None-Match: *` only creates.
    """
    if not name.strip() or not name.isprintable():
        raise _invalid("The name must be 1-100 printable characters.")
    wanted, slug = body.wanted(name, acting), tenants.slug_of(acting.tenant)

    def do(conn: Connection) -> Answer:
        _check(request, conn, slug, name)
        row = schedule_changes.put(conn, acting.tenant, slug, wanted)
        return answers.tagged(schedule_changes.document(row))

    return answers.once(request, acting, do)


@router.post("/{name}/pause", response_model=Schedule)
def pause_schedule(
    request: Request, name: Name, acting: Annotated[Acting, needs(Scope.SCHEDULES_WRITE)]
) -> Response:
    """Keep a schedule without running it."""
    return _switch(request, name, acting, enabled=False)


@router.post("/{name}/resume", response_model=Schedule)
def resume_schedule(
    request: Request, name: Name, acting: Annotated[Acting, needs(Scope.SCHEDULES_WRITE)]
) -> Response:
    """Run a schedule again, from its next slot after now."""
    return _switch(request, name, acting, enabled=True)


@router.delete("/{name}", response_model=ScheduleDeleted, openapi_extra=conditions.DESCRIBED)
def delete_schedule(
    request: Request, name: Name, acting: Annotated[Acting, needs(Scope.SCHEDULES_WRITE)]
) -> Response:
    """Delete a schedule; jobs already published stay."""
    slug = tenants.slug_of(acting.tenant)

    def do(conn: Connection) -> Answer:
        _check(request, conn, slug, name)
        schedule_id = schedule_changes.delete(conn, acting.tenant, slug, name)
        return Answer({"id": schedule_id, "name": name, "deleted": True})

    return answers.once(request, acting, do)


def _check(request: Request, conn: Connection, slug: str, name: str) -> None:
    if conditions.is_conditional(request):
        row = queries.lock(conn, name)
        current = row and schedule_changes.document(replace(row, tenant=slug))
        conditions.check(request, current)


def _switch(request: Request, name: str, acting: Acting, *, enabled: bool) -> Response:
    slug = tenants.slug_of(acting.tenant)

    def do(conn: Connection) -> Answer:
        row = schedule_changes.switch(conn, acting.tenant, slug, name, enabled=enabled)
        return answers.tagged(schedule_changes.document(row))

    return answers.once(request, acting, do)


def _invalid(sentence: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", sentence)
