"""The HTTP API as an application: its routes, how it reads JSON, and the pages of operators."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from producers.web import problems
from producers.web.access import Keys
from producers.web.accounts import keys, tenants, users
from producers.web.bounds import BodyBounds
from producers.web.ledger import jobs
from producers.web.pages import Pages, shown
from producers.web.problems import Problem

ROUTERS = (
    jobs.router,
    keys.router,
    tenants.router,
    users.router,
    users.preferences_router,
)


def build(known: Keys, pages: Pages) -> FastAPI:
    """Return the application.

    Args:
        known: The API keys that this process knows.
        pages: /metrics, /health and /ready.
    """
    app = FastAPI(
        title="Ailydian workers",
        summary="Jobs, documents, workflows and their life in Postgres.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.keys = known
    app.state.routes = [one for router in ROUTERS for one in router.routes]
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    _add_pages(app, pages)
    app.add_middleware(BodyBounds)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _add_pages(app: FastAPI, pages: Pages) -> None:
    for name in ("metrics", "health", "ready"):
        show = shown(getattr(pages, name))
        app.add_api_route(f"/{name}", show, methods=["GET", "HEAD"], include_in_schema=False)


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problem.pop("$defs")
        schemas["Problem"] = problem
        app.openapi_schema = document
    return app.openapi_schema
