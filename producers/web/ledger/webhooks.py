"""/v1/webhooks: where the events of a tenant are posted."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.ledger import webhooks as hooks
from producers.ledger.webhooks import WebhookSecret, What
from producers.queries.ledger.webhooks import WebhookRow
from producers.web import answers, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Limit
from producers.web.routes import NO_NUL
from shared.db import Connection

router = routes.router("webhooks")

Id = Annotated[str, Path(max_length=64, pattern=NO_NUL)]
JobName = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]


class WebhookRequest(Body):
    """A webhook to create."""

    url: str = Field(max_length=4_000, examples=["https://example.org/hooks/ailydian"])
    events: list[What] = Field(min_length=1, max_length=50, examples=[["DEAD", "RUN_COMPLETED"]])
    jobs: list[JobName] = Field(
        default_factory=list,
        max_length=100,
        description="Of jobs and runs, only events of these kinds and workflows; none for all. "
        "Events of batches, steps and incidents are posted in any case.",
    )


class WebhookChange(Body):
    """What of a webhook can be changed."""

    enabled: bool = Field(examples=[False])


Webhook = answers.model_of(WebhookRow)
NewWebhook = answers.model_of(WebhookSecret, name="NewWebhook")
WebhookList = answers.list_of(Webhook, name="WebhookList")


@router.get("", response_model=WebhookList)
def list_webhooks(
    acting: Annotated[Acting, needs(Scope.WEBHOOKS_READ)], limit: Limit = 1_000
) -> Response:
    """List webhooks, newest first."""
    return answers.ok_list(hooks.list_webhooks(acting.tenant_id, limit=limit))


@router.post(
    "", status_code=HTTPStatus.CREATED, response_model=NewWebhook, dependencies=[answers.SHOWN_ONCE]
)
def create_webhook(
    body: WebhookRequest, acting: Annotated[Acting, needs(Scope.WEBHOOKS_WRITE)]
) -> Response:
    """Create a webhook. Its secret is shown this once and stored nowhere."""
    with acting.named():
        made = hooks.create(acting.tenant, body.url, events=body.events, jobs=body.jobs)
    return answers.answer(Answer(as_document(made), HTTPStatus.CREATED))


@router.get("/{webhook_id}", response_model=Webhook)
def show_webhook(webhook_id: Id, acting: Annotated[Acting, needs(Scope.WEBHOOKS_READ)]) -> Response:
    """Show a webhook."""
    return answers.ok(as_document(hooks.show(acting.tenant_id, webhook_id)))


@router.patch("/{webhook_id}", response_model=Webhook)
def change_webhook(
    request: Request,
    webhook_id: Id,
    body: WebhookChange,
    acting: Annotated[Acting, needs(Scope.WEBHOOKS_WRITE)],
) -> Response:
    """Post events from now on, or post none."""

    def do(conn: Connection) -> Answer:
        row = hooks.enable(conn, acting.tenant, webhook_id, enabled=body.enabled)
        return Answer(as_document(row))

    return answers.once(request, acting, do)


@router.post(
    "/{webhook_id}/rotate",
    status_code=HTTPStatus.CREATED,
    response_model=NewWebhook,
    dependencies=[answers.SHOWN_ONCE],
)
def rotate_webhook(
    webhook_id: Id, acting: Annotated[Acting, needs(Scope.WEBHOOKS_WRITE)]
) -> Response:
    """Sign with a new secret; for a day the old one signs too."""
    with acting.named():
        made = hooks.rotate(acting.tenant, webhook_id)
    return answers.answer(Answer(as_document(made), HTTPStatus.CREATED))


@router.delete("/{webhook_id}", response_model=Webhook)
def delete_webhook(
    request: Request, webhook_id: Id, acting: Annotated[Acting, needs(Scope.WEBHOOKS_WRITE)]
) -> Response:
    """Delete a webhook; deliveries that wait end without being posted."""

    def do(conn: Connection) -> Answer:
        return Answer(as_document(hooks.delete(conn, acting.tenant, webhook_id)))

    return answers.once(request, acting, do)
