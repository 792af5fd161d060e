"""/v1/tenants: for those who may act for all."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Path, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import request_rules, tenants
from producers.accounts.request_rules import Subject
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.web import answers, conditions, lists, routes
from producers.web.access import Acting, needs, tenant_named
from producers.web.accounts import rules
from producers.web.accounts.rules import Rule, RuleRequest
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit
from shared.db import Connection, Role
from shared.queries.accounts.accounts import TenantRow

router = routes.router("tenants")

Slug = Annotated[str, Path(pattern=tenants.SLUG)]


class TenantRequest(Body):
    """What a tenant shall be; unset stays as it is, or is the slug and FREE."""

    name: str | None = Field(None, min_length=1, max_length=200)
    tier: Literal["FREE", "PRO", "ENTERPRISE"] | None = None


Tenant = answers.model_of(TenantRow, name="Tenant")
TenantList = answers.page_of(Tenant, name="TenantList")


@router.get("", response_model=TenantList)
def list_tenants(
    _: Annotated[Acting, needs(Scope.TENANTS_READ)], after: Cursor = None, limit: Limit = 1_000
) -> Response:
    """List tenants by slug."""
    slug, _rest = lists.read_texts(after) or ("", "")
    found = tenants.list_page(slug, limit=limit)
    following = lists.write_texts(found[-1].slug, "") if len(found) == limit else None
    return answers.ok({"items": [as_document(row) for row in found], "next": following})


@router.put("/{slug}", response_model=Tenant, responses={201: {"model": Tenant}})
def put_tenant(
    request: Request,
    slug: Slug,
    body: TenantRequest,
    acting: Annotated[Acting, needs(Scope.TENANTS_WRITE)],
) -> Response:
    """Create a tenant (201), or set the name and tier of one that exists (200)."""

    def do(conn: Connection) -> Answer:
        row, created = tenants.put(conn, slug, name=body.name, tier=body.tier)
        return Answer(as_document(row), HTTPStatus.CREATED if created else HTTPStatus.OK)

    return answers.once(request, acting, do, role=Role.OWNER)


@router.get("/{slug}/rule", response_model=Rule)
def show_tenant_rule(slug: Slug, acting: Annotated[Acting, needs(Scope.TENANTS_READ)]) -> Response:
    """Show how many requests a tenant may make, and from where; null is the rate of its tier."""
    subject = Subject(tenant_named(acting.by, slug))
    return answers.ok(as_document(request_rules.show(subject)))


@router.put("/{slug}/rule", response_model=Rule, openapi_extra=conditions.DESCRIBED)
def put_tenant_rule(
    request: Request,
    slug: Slug,
    body: RuleRequest,
    acting: Annotated[Acting, needs(Scope.TENANTS_WRITE)],
) -> Response:
    """Set how many requests a tenant may make, and from where. It applies within a second."""
    return rules.put(request, acting, Subject(tenant_named(acting.by, slug)), body)
