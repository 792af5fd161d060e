"""/v1/dead: dead letters, one by its id or many by filters."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.ledger import dead_actions, dead_edit
from producers.ledger.bulk_actions import BulkChoice
from producers.ledger.dead_selection import regex_checked
from producers.queries.ledger import dead_letters
from producers.queries.ledger.dead_letters import GroupRow
from producers.web import answers, conditions, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.ledger import bulk
from producers.web.ledger.bulk import Choice, ChoiceOfFilters, Filters
from producers.web.ledger.publications import contract_of
from producers.web.ledger.rows import DeadLetter, JobAttempt
from producers.web.lists import Limit
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection, Role

router = routes.router("dead")

Id = Annotated[
    str,
    Path(
        max_length=64,
        pattern=NO_NUL,
        description="Of the job, or of its letter.",
        examples=["01a22cb1-5b28-74bb-843b-5b9d39e959c9"],
    ),
]
After = Annotated[
    str | None,
    Query(max_length=64, pattern=NO_NUL, description="`next` of the page before."),
]


class DeadReplay(Choice):
    """Dead jobs to replay; with a canary the first ones must end well before the others follow."""

    rate: float | None = Field(None, ge=0.001, le=1e6, description="At most so many a second.")
    canary: int | None = Field(None, ge=1, le=2_000, description="Replay so many first.")
    canary_s: float = Field(60, gt=0, le=86_400, alias="canarySeconds")
    failing_max: float | None = Field(
        None,
        ge=0,
        le=1,
        alias="failingMax",
        description="Stop when more than this share of the replayed jobs fails again.",
    )

    def choice(self, acting: Acting) -> BulkChoice:
        """Return what is chosen, and how fast it goes."""
        return self.chosen(
            acting,
            rate=self.rate,
            canary=self.canary,
            canary_s=self.canary_s,
            failing_max=self.failing_max,
        )


class DeadDiscard(Choice):
    """Dead jobs to discard."""

    rate: float | None = Field(None, ge=0.001, le=1e6, description="At most so many a second.")


class DeadEdit(Body):
    """The complete new payload of a dead job."""

    payload: dict[str, Any] = Field(max_length=1_000, examples=[{"n": 2}])


DeadGroup = answers.model_of(GroupRow, name="DeadGroup")
DeadJob = answers.extended(
    DeadLetter,
    name="DeadJob",
    payload=dict[str, Any] | str,
    schemaVersion=int,
    key=str | None,
    edits=list[dict[str, Any]],
    history=list[JobAttempt],  # type: ignore[valid-type]
)
DeadLetterList = answers.page_of(DeadLetter, name="DeadLetterList")
DeadGroupList = answers.list_of(DeadGroup, name="DeadGroupList")
DeadEdited = answers.made("DeadEdited", id=str, edited=bool, changes=dict[str, dict[str, Any]])
DeadMoved = answers.made("DeadMoved", id=str, state=str)


@router.get("", response_model=DeadLetterList)
def list_dead_letters(
    acting: Annotated[Acting, needs(Scope.DEAD_READ)],
    filters: Annotated[Filters, Query()],
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """List dead jobs by time of death, oldest first."""
    wanted = filters.of(acting.tenant_id)
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked(conn, wanted.error):
        rows = dead_letters.select_dead(conn, wanted, after=after, limit=limit)
    following = rows[-1].letter_id if len(rows) == limit else None
    return answers.ok({"items": [as_document(row) for row in rows], "next": following})


@router.get("/groups", response_model=DeadGroupList)
def list_dead_groups(
    acting: Annotated[Acting, needs(Scope.DEAD_READ)],
    filters: Annotated[Filters, Query()],
    limit: Limit = 100,
) -> Response:
    """List dead jobs grouped by failure, the most frequent first."""
    wanted = filters.of(acting.tenant_id)
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked(conn, wanted.error):
        rows = dead_letters.select_groups(conn, wanted, limit=limit)
    return answers.ok_list(rows)


@router.post("/replay", **bulk.ANSWERS)
def replay_dead_letters(
    request: Request, body: DeadReplay, acting: Annotated[Acting, needs(Scope.DEAD_REPLAY)]
) -> Response:
    """Replay dead jobs by ids or filters; attempts restart from one, old ones stay visible."""
    return bulk.answer(request, acting, "dead.replay", body.choice(acting), dry_run=body.dry_run)


@router.post("/discard", **bulk.ANSWERS)
def discard_dead_letters(
    request: Request, body: DeadDiscard, acting: Annotated[Acting, needs(Scope.DEAD_WRITE)]
) -> Response:
    """Discard dead jobs by ids or filters: they become CANCELLED and keep their error."""
    choice = body.chosen(acting, rate=body.rate)
    return bulk.answer(request, acting, "dead.discard", choice, dry_run=body.dry_run)


@router.post("/undo", **bulk.ANSWERS)
def undo_replays(
    request: Request, body: ChoiceOfFilters, acting: Annotated[Acting, needs(Scope.DEAD_REPLAY)]
) -> Response:
    """Undo replays by ids or filters: jobs not started yet become dead letters again."""
    return bulk.answer(request, acting, "dead.undo", body.chosen(acting), dry_run=body.dry_run)


bulk.add_status_routes(router, of="dead", read=Scope.DEAD_READ, write=Scope.DEAD_REPLAY)


@router.get("/{job_id}", response_model=DeadJob)
def show_dead_letter(job_id: Id, acting: Annotated[Acting, needs(Scope.DEAD_READ)]) -> Response:
    """Show a dead job: its payload, and every attempt with its traceback."""
    with db.transaction(None, role=Role.RELAY) as conn:
        found = dead_edit.read(conn, job_id, acting.tenant_id)
    return answers.ok(_document(found))


@router.put("/{job_id}/payload", response_model=DeadEdited, openapi_extra=conditions.DESCRIBED)
def edit_dead_letter(
    request: Request,
    job_id: Id,
    body: DeadEdit,
    acting: Annotated[Acting, needs(Scope.DEAD_WRITE)],
) -> Response:
    """Edit a dead job's payload, to replay it afterwards; its contract validates it.

    If-Match takes the ETag of the dead job.
    """

    def do(conn: Connection) -> Answer:
        found = dead_edit.read(conn, job_id, acting.tenant_id)
        conditions.check(request, _document(found))
        contract_of(found.row.job, body.payload, acting)  # whether who asks might publish it
        changes = dead_edit.change(conn, found.row, found.letter, body.payload)
        return Answer({"id": job_id, "edited": bool(changes), "changes": changes})

    return answers.once(request, acting, do, role=Role.RELAY)


@router.post("/{job_id}/replay", response_model=DeadMoved)
def replay_dead_letter(
    request: Request, job_id: Id, acting: Annotated[Acting, needs(Scope.DEAD_REPLAY)]
) -> Response:
    """Replay a dead job; attempts restart from one."""
    return _move(request, acting, "replay", job_id, "PENDING")


@router.post("/{job_id}/discard", response_model=DeadMoved)
def discard_dead_letter(
    request: Request, job_id: Id, acting: Annotated[Acting, needs(Scope.DEAD_WRITE)]
) -> Response:
    """Discard a dead job: it becomes CANCELLED and keeps its error."""
    return _move(request, acting, "discard", job_id, "CANCELLED")


@router.post("/{job_id}/undo", response_model=DeadMoved)
def undo_replay(
    request: Request, job_id: Id, acting: Annotated[Acting, needs(Scope.DEAD_REPLAY)]
) -> Response:
    """Undo a replay that no worker has started: the job is a dead letter again."""
    return _move(request, acting, "undo", job_id, "DEAD")


def _document(found: dead_edit.DeadJob) -> dict[str, Any]:
    return found.document() | {"history": [as_document(one) for one in found.history]}


def _move(request: Request, acting: Acting, verb: str, job_id: str, state: str) -> Response:
    def do(conn: Connection) -> Answer:
        moved = dead_actions.move_one(conn, verb, job_id, acting.tenant_id)
        return Answer({"id": moved.id, "state": state}, HTTPStatus.OK)

    return answers.once(request, acting, do, role=Role.RELAY)
