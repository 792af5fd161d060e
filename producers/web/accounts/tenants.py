"""/v1/tenants: for those who may act for all."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Path
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.web import answers, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from shared.queries.accounts.accounts import TenantRow

router = routes.router("tenants")

Slug = Annotated[str, Path(pattern=tenants.SLUG)]


class TenantRequest(Body):
    """What a tenant shall be; unset stays as it is, or is the slug and FREE."""

    name: str | None = Field(None, min_length=1, max_length=200)
    tier: Literal["FREE", "PRO", "ENTERPRISE"] | None = None


Tenant = answers.model_of(TenantRow, name="Tenant")
TenantList = answers.list_of(Tenant, name="TenantList")


@router.get("", response_model=TenantList)
def list_tenants(_: Annotated[Acting, needs(Scope.TENANTS_READ)]) -> Response:
    """List all tenants by slug."""
    return answers.ok_list(tenants.list_all())


@router.put("/{slug}", response_model=Tenant, responses={201: {"model": Tenant}})
def put_tenant(
    slug: Slug, body: TenantRequest, acting: Annotated[Acting, needs(Scope.TENANTS_WRITE)]
) -> Response:
    """Create a tenant (201), or set the name and tier of one that exists (200)."""
    with acting.named():
        row, created = tenants.put(slug, name=body.name, tier=body.tier)
    status = HTTPStatus.CREATED if created else HTTPStatus.OK
    return answers.answer(Answer(as_document(row), status))
