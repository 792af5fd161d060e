"""/v1/audit: who did what to which thing; append-only."""

from typing import Annotated

from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from producers.accounts.scopes import Scope
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.lists import Cursor, Limit, Moment
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Role
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import ActFilters, ActRow

router = routes.router("audit")


class ActQuery(BaseModel):
    """Which entries; unset means any."""

    actor: str | None = Field(None, max_length=200, pattern=NO_NUL, examples=["cli:root"])
    action: str | None = Field(None, max_length=200, pattern=NO_NUL, examples=["dead.replay"])
    resource: str | None = Field(None, max_length=200, pattern=NO_NUL, examples=["Job"])
    resource_id: str | None = Field(None, max_length=200, pattern=NO_NUL, alias="resourceId")
    since: Moment | None = Field(None, description="From this time on.")
    until: Moment | None = Field(None, description="Before this time.")


AuditList = answers.page_of(answers.model_of(ActRow, name="AuditEntry"), name="AuditList")


@router.get("", response_model=AuditList)
def list_audit(
    acting: Annotated[Acting, needs(Scope.AUDIT_READ)],
    filters: Annotated[ActQuery, Query()],
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List the audit log, newest first.

    One who may act for all and names no tenant reads the entries without one, such as of queues.
    """
    wanted = ActFilters(acting.tenant_id, **filters.model_dump())
    before = lists.read(after)
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        rows = audit_logs.select_latest(conn, wanted, before=before, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.created_at, row.id))
