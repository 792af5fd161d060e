"""Acts on many jobs: how they are chosen, that they are accepted, and where they are followed."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.ledger import bulk_actions, payload_filters
from producers.ledger.bulk_actions import BulkChoice
from producers.queries.ledger import bulk_actions as queries
from producers.queries.ledger.bulk_actions import BulkActionRow
from producers.queries.ledger.dead_letters import DeadLetterFilters
from producers.web import answers
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Limit, Moment
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection, Role
from shared.ids import TenantId

IDS_MAX: Final = 1_000
Id = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Of the action.")]
Text = Annotated[str, Field(max_length=64, pattern=NO_NUL)]
Condition = Annotated[str, Field(max_length=1_300, pattern=NO_NUL)]


class QueueAndJob(BaseModel):
    """Which jobs; unset means any."""

    queue: str | None = Field(None, max_length=100, pattern=NO_NUL, examples=["maintenance"])
    job: str | None = Field(None, max_length=100, pattern=NO_NUL, examples=["probe"])


class Filters(QueueAndJob):
    """Which dead letters; unset means any."""

    error: str | None = Field(
        None, max_length=1_000, pattern=NO_NUL, description="A POSIX regular expression."
    )
    fingerprint: str | None = Field(
        None, max_length=64, pattern=NO_NUL, description="This failure, as /v1/dead/groups has it."
    )
    since: Moment | None = Field(None, description="Only after this time.")
    until: Moment | None = Field(None, description="Only before this time.")
    where: list[Condition] = Field(
        default_factory=list,
        max_length=payload_filters.CONDITIONS_MAX,
        description="Only jobs whose payload holds this, each as FIELD=VALUE.",
        examples=[["order.currency=TRY"]],
    )

    def of(self, tenant_id: TenantId | None) -> DeadLetterFilters:
        """Return them as filters of a tenant, or of all."""
        return DeadLetterFilters(
            queue=self.queue,
            job=self.job,
            tenant_id=tenant_id,
            since=self.since,
            until=self.until,
            error=self.error,
            fingerprint=self.fingerprint,
            where=payload_filters.condition(self.where),
        )


def nothing_chosen(give: str) -> Refused:
    """Return the error of a request that chooses nothing."""
    sentence = f'{give}, or "all": true.'
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "nothing_chosen", sentence)


class _Chosen(BaseModel):
    ids: list[Text] = Field(
        default_factory=list, max_length=IDS_MAX, description="Of jobs or letters; empty for any."
    )
    every: bool = Field(False, alias="all", description="All; needed where nothing is chosen.")
    dry_run: bool = Field(False, alias="dryRun", description="Only count.")

    def check(self, filters: BaseModel) -> None:
        """Require ids, filters, or all.

        Raises:
            Refused: Nothing is chosen.
        """
        given = {name: getattr(filters, name) for name in type(filters).model_fields}
        if not (self.ids or self.every or any(given.values())):
            raise nothing_chosen("Give ids, filters")


class Choice(Filters, _Chosen, Body):
    """Dead jobs by ids or filters."""

    def chosen(self, acting: Acting, **more: Any) -> BulkChoice:  # noqa: ANN401
        """Return what is chosen.

        Raises:
            Refused: Nothing is chosen.
        """
        filters = Filters.model_validate(
            {name: getattr(self, name) for name in Filters.model_fields}
        )
        self.check(filters)
        return BulkChoice(ids=tuple(self.ids), filters=filters.of(acting.tenant_id), **more)


class ChoiceOfFilters(QueueAndJob, _Chosen, Body):
    """Replayed jobs by ids or filters."""

    def chosen(self, acting: Acting) -> BulkChoice:
        """Return what is chosen.

        Raises:
            Refused: Nothing is chosen.
        """
        self.check(QueueAndJob(queue=self.queue, job=self.job))
        wanted = DeadLetterFilters(queue=self.queue, job=self.job, tenant_id=acting.tenant_id)
        return BulkChoice(ids=tuple(self.ids), filters=wanted)


BulkAction = answers.model_of(BulkActionRow, name="BulkAction")
BulkActionList = answers.list_of(BulkAction, name="BulkActionList")
Counted = answers.made("Counted", matched=int, dryRun=bool)
# What an act on many is answered: accepted, or counted only.
ANSWERS: Final[dict[str, Any]] = {
    "status_code": HTTPStatus.ACCEPTED,
    "response_model": BulkAction,
    "responses": {200: {"model": Counted}},
}


def answer(
    request: Request, acting: Acting, action: str, choice: BulkChoice, *, dry_run: bool
) -> Response:
    """Begin an action and tell where it is followed; or only count what it would look at."""
    if dry_run:
        with db.transaction(None, role=Role.RELAY) as conn:
            matched = bulk_actions.count(conn, action, choice)
        return answers.ok({"matched": matched, "dryRun": True})

    def do(conn: Connection) -> Answer:
        row = bulk_actions.begin(conn, action, choice)
        of = action.partition(".")[0]
        headers = {"Location": f"/v1/{of}/actions/{row.id}"}
        return Answer(as_document(row), HTTPStatus.ACCEPTED, headers)

    return answers.once(request, acting, do, role=Role.RELAY)


def add_status_routes(router: APIRouter, *, of: str, read: Scope, write: Scope) -> None:
    """Add `/actions` to a router: what goes on in the background, and what has ended."""

    def list_actions(acting: Annotated[Acting, needs(read)], limit: Limit = 100) -> Response:
        """List acts on many jobs, newest first; they are kept for 30 days."""
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = queries.select_actions(conn, acting.tenant_id, of=of, limit=limit)
        return answers.ok_list(rows)

    def show_action(action_id: Id, acting: Annotated[Acting, needs(read)]) -> Response:
        """Show how far an act on many jobs is."""
        with db.transaction(None, role=Role.RELAY) as conn:
            row = bulk_actions.found(conn, action_id, acting.tenant_id, of=of)
        return answers.ok(as_document(row))

    def stop_action(
        request: Request, action_id: Id, acting: Annotated[Acting, needs(write)]
    ) -> Response:
        """Stop an act on many jobs; what it has done stays done."""

        def do(conn: Connection) -> Answer:
            row = bulk_actions.stop(conn, action_id, acting.tenant_id, of=of)
            return Answer(as_document(row))

        return answers.once(request, acting, do, role=Role.RELAY)

    for path, endpoint, method, model in (
        ("/actions", list_actions, "GET", BulkActionList),
        ("/actions/{action_id}", show_action, "GET", BulkAction),
        ("/actions/{action_id}/stop", stop_action, "POST", BulkAction),
    ):
        verb = endpoint.__name__.partition("_")[0]
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_model=model,
            name=f"{verb}_{of}_action{'s' if verb == 'list' else ''}",
        )
