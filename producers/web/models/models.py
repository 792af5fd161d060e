"""/v1/models, /v1/providers and /v1/routes: the catalogue and how routing ranks it."""

from decimal import Decimal
from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field, Strict
from pydantic.alias_generators import to_camel

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.models import catalogue
from producers.web import answers, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection, Role
from shared.queries.models import model_routes
from shared.queries.models import models as queries
from shared.queries.models.model_routes import RouteRow
from shared.queries.models.models import ModelRow, NewProvider

router = routes.router("models")
providers_router = routes.router("providers")
routes_router = routes.router("routes")

Slug = Annotated[str, Path(min_length=1, max_length=200, pattern=NO_NUL, examples=["gpt-4.1-mini"])]
Price = Annotated[
    Decimal | None,
    Strict(False),
    Field(ge=0, lt=10**12, max_digits=20, decimal_places=8, examples=["0.0004"]),
]
Changing = Annotated[Acting, needs(Scope.MODELS_WRITE)]


class _Camel(Body):
    model_config = ConfigDict(alias_generator=to_camel)


class ModelRequest(_Camel):
    """What a model shall be; unset stays. A new one needs provider, context window and prices."""

    provider: str | None = Field(None, min_length=1, max_length=200, examples=["openai"])
    name: str | None = Field(None, min_length=1, max_length=200)
    context_window: int | None = Field(None, ge=1, le=2**31 - 1, examples=[128_000])
    cost_in: Price = Field(None, description="Dollars per thousand input tokens.")
    cost_out: Price = Field(None, description="Dollars per thousand output tokens.")
    capabilities: list[Annotated[str, Field(min_length=1, max_length=100)]] | None = Field(
        None, min_length=1, max_length=20, examples=[["completion"]]
    )
    enabled: bool | None = Field(None, description="Whether routing may choose it.")


class ProviderRequest(_Camel):
    """What a provider shall be; unset stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    base_url: str | None = Field(None, min_length=1, max_length=2_000)
    enabled: bool | None = Field(
        None,
        description="Disabled, its models are out of use at once. Unset, a new one is enabled.",
    )


Model = answers.model_of(ModelRow, name="Model")
ModelList = answers.list_of(Model, name="ModelList")
Provider = answers.model_of(NewProvider, name="Provider")
Route = answers.model_of(RouteRow, name="Route")
RouteList = answers.list_of(Route, name="RouteList")


@router.get("", response_model=ModelList)
def list_models(
    _: Annotated[Acting, needs(Scope.MODELS_READ)],
    enabled: Annotated[bool, Query(description="Only usable models.")] = False,
) -> Response:
    """List models: prices per thousand tokens, statistics, circuit breakers."""
    with db.transaction(None, role=Role.OWNER) as conn:
        rows = queries.select_models(conn)
    usable = [one for one in rows if not enabled or (one.enabled and one.provider_enabled)]
    return answers.ok_list(usable)


@router.get("/{slug}", response_model=Model)
def show_model(slug: Slug, _: Annotated[Acting, needs(Scope.MODELS_READ)]) -> Response:
    """Show a model."""
    with db.transaction(None, role=Role.OWNER) as conn:
        row = catalogue.found(conn, slug)
    return answers.ok(as_document(row))


@router.put("/{slug}", response_model=Model)
def put_model(request: Request, slug: Slug, body: ModelRequest, acting: Changing) -> Response:
    """Create a model, or change what is given of one."""
    given = body.model_dump(exclude_none=True)

    def do(conn: Connection) -> Answer:
        return Answer(as_document(catalogue.change_model(conn, slug, given)))

    return answers.once(request, acting, do, role=Role.OWNER)


@providers_router.put("/{slug}", response_model=Provider)
def put_provider(request: Request, slug: Slug, body: ProviderRequest, acting: Changing) -> Response:
    """Create a provider, or change one."""

    def do(conn: Connection) -> Answer:
        new = catalogue.change_provider(
            conn, slug, name=body.name, base_url=body.base_url, enabled=body.enabled
        )
        return Answer(as_document(new))

    return answers.once(request, acting, do, role=Role.OWNER)


@routes_router.get("", response_model=RouteList)
def list_routes(
    _: Annotated[Acting, needs(Scope.MODELS_READ)],
    intent: Annotated[str | None, Query(max_length=100, pattern=NO_NUL)] = None,
) -> Response:
    """List the routing score of each model per intent, and its components."""
    with db.transaction(None, role=Role.OWNER) as conn:
        rows = model_routes.select_routes(conn, intent)
    return answers.ok_list(rows)
