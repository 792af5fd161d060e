"""/v1/cache: answers that are kept for their next question."""

from typing import Annotated

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.messages import answer_cache
from producers.messages.answer_cache import CacheTotals
from producers.web import answers, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from shared import db
from shared.db import Connection
from shared.queries.messages import semantic_entries
from shared.queries.messages.semantic_entries import CacheFigures

router = routes.router("cache")

CachedModel = answers.model_of(CacheFigures, name="CachedModel")


class Cache(answers.model_of(CacheTotals, name="CacheTotals")):  # type: ignore[misc]
    """A tenant's answer cache, by model."""

    models: list[CachedModel]  # type: ignore[valid-type]


class ClearedCache(BaseModel):
    """How many answers were deleted."""

    model_config = ConfigDict(extra="forbid")

    tenant: str
    removed: int


@router.get("", response_model=Cache)
def show_cache(acting: Annotated[Acting, needs(Scope.MESSAGES_READ)]) -> Response:
    """Show entries, hits and dollars saved, by model."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        found = semantic_entries.select_figures(conn)
    models = [as_document(one) for one in found]
    return answers.ok(as_document(answer_cache.totals(slug, found)) | {"models": models})


@router.delete("", response_model=ClearedCache)
def clear_cache(
    request: Request, acting: Annotated[Acting, needs(Scope.MESSAGES_WRITE)]
) -> Response:
    """Delete all cached answers."""
    slug = tenants.slug_of(acting.tenant)

    def do(conn: Connection) -> Answer:
        return Answer({"tenant": slug, "removed": answer_cache.clear(conn)})

    return answers.once(request, acting, do)
