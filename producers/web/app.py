"""The HTTP API as an application: its routes, how it reads JSON, and the pages of operators."""

from collections.abc import Sequence

from anyio import CapacityLimiter
from fastapi import FastAPI

from producers.accounts.openid import OpenIdProvider
from producers.accounts.sessions import SessionPolicy
from producers.web import cors, document, problems
from producers.web.access import Keys
from producers.web.accounts import keys, login_pages, sessions, tenants, users
from producers.web.bounds import BodyBounds
from producers.web.documents import documents, search
from producers.web.heads import Heads
from producers.web.judgement import feedback, judgements, moderation
from producers.web.ledger import (
    batches,
    dead,
    events,
    jobs,
    quarantine,
    queues,
    schedules,
    webhooks,
)
from producers.web.messages import cache, conversations, messages
from producers.web.models import models
from producers.web.operations import audit, audit_proofs, incidents
from producers.web.pages import Pages, shown
from producers.web.rates import RateGate, Rates
from producers.web.sessions_seen import Sessions
from producers.web.streams import Streams
from producers.web.visitors import Visitors
from producers.web.workflow import run_texts, runs, workflows

ROUTERS = (
    cache.router,
    conversations.router,
    documents.router,
    feedback.router,
    jobs.router,
    webhooks.router,
    dead.router,
    quarantine.router,
    queues.router,
    batches.router,
    schedules.router,
    incidents.router,
    audit.router,
    audit_proofs.router,
    judgements.explanations_router,
    judgements.provenance_router,
    judgements.trust_router,
    moderation.appeals_router,
    moderation.policies_router,
    moderation.verdicts_router,
    events.router,
    keys.router,
    messages.router,
    messages.recall_router,
    models.router,
    models.providers_router,
    models.routes_router,
    run_texts.router,
    runs.router,
    search.router,
    sessions.router,
    tenants.router,
    users.router,
    users.preferences_router,
    workflows.router,
    workflows.definitions_router,
    workflows.graphs_router,
)


def build(
    known: Keys,
    pages: Pages,
    streams: Streams,
    *,
    origins: Sequence[str] = (),
    visitors: Visitors | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        known: The API keys that this process knows.
        pages: /metrics, /health and /ready.
        streams: Of events; stopped by the caller before the server is.
        origins: Whose pages in browsers may call the API.
        visitors: How people and addresses are known; None keeps sessions as keys.
    """
    app = routed()
    app.state.keys, app.state.streams = known, streams
    app.state.rates = rates = Rates()
    visitors = visitors or Visitors(Sessions(SessionPolicy(known.pepper)))
    app.state.sessions, app.state.proxies = visitors.sessions, visitors.proxies
    app.state.openid = visitors.provider and OpenIdProvider(visitors.provider)
    app.state.comparing = CapacityLimiter(sessions.COMPARED_AT_ONCE)
    app.state.asking = CapacityLimiter(login_pages.AT_ONCE)
    app.state.redis, app.state.wire = pages.client, pages.wire
    app.state.reading_texts = CapacityLimiter(run_texts.READ_AT_ONCE)
    _add_pages(app, pages)
    login_pages.add(app)
    app.add_middleware(BodyBounds)
    app.add_middleware(Heads)
    app.add_middleware(RateGate, keys=known, rates=rates)
    if origins:
        app.add_middleware(
            cors.Cors,
            allow_origins=origins,
            allow_methods=cors.METHODS,
            allow_headers=cors.REQUEST_HEADERS,
            expose_headers=cors.ANSWER_HEADERS,
            max_age=cors.KEPT_S,
        )
    return app


def routed() -> FastAPI:
    """Return an application with the routes of the API alone, to be asked for its document."""
    app = FastAPI(
        title="Ailydian workers",
        summary="Jobs, documents, workflows and their life in Postgres.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.routes = [one for router in ROUTERS for one in router.routes]
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = lambda: document.of(app)  # type: ignore[method-assign]
    return app


def _add_pages(app: FastAPI, pages: Pages) -> None:
    for name in ("metrics", "health", "ready"):
        show = shown(getattr(pages, name))
        app.add_api_route(f"/{name}", show, methods=["GET", "HEAD"], include_in_schema=False)
