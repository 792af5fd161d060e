"""/v1/quarantine: invalid messages found in Redis, for those who may act for all tenants."""

import base64
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from producers.accounts.scopes import Scope
from producers.ledger import quarantine_actions, quarantine_edit
from producers.ledger.dead_selection import regex_checked
from producers.ledger.quarantine_actions import Move
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.ledger.bulk import nothing_chosen
from producers.web.lists import Cursor, Moment
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection, Role
from shared.queries.ledger import quarantines
from shared.queries.ledger.quarantines import QuarantineFilters

router = routes.router("quarantine")

AT_ONCE_MAX: Final = 2_000
Id = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Of the message.")]
# A row of a list is read with its first 64 kB.
Limit = Annotated[int, Query(ge=1, le=200, description="Rows of a page.")]
MessageId = Annotated[str, Field(max_length=64, pattern=NO_NUL)]


class MessageFilters(BaseModel):
    """Which messages; unset means any."""

    queue: str | None = Field(None, max_length=100, pattern=NO_NUL, examples=["maintenance"])
    error: str | None = Field(
        None,
        max_length=1_000,
        pattern=NO_NUL,
        description="A POSIX regular expression on the reason.",
    )
    since: Moment | None = Field(None, description="Only after this time.")
    until: Moment | None = Field(None, description="Only before this time.")

    def filters(self) -> QuarantineFilters:
        """Return them as filters."""
        return QuarantineFilters(self.queue, self.since, self.until, self.error)


class MessageChoice(MessageFilters, Body):
    """Messages by ids or filters; of more than `limit`, the oldest, and `more` says so."""

    ids: list[MessageId] = Field(
        default_factory=list, max_length=1_000, description="Empty for any."
    )
    every: bool = Field(False, alias="all", description="All; needed where nothing is chosen.")
    dry_run: bool = Field(False, alias="dryRun", description="Only count.")
    limit: int = Field(AT_ONCE_MAX, ge=1, le=AT_ONCE_MAX)


class MessageEdit(Body):
    """A wake-up of a job, or the fields of an entry that change."""

    message: dict[str, Any] = Field(
        max_length=20, examples=[{"job": "01a22cb1-5b28-74bb-843b-5b9d39e959c9", "attempt": 0}]
    )


_FIELDS: Final[dict[str, Any]] = {
    "id": str,
    "queue": str,
    "reason": str,
    "sha256": str,
    "receivedAt": datetime,
    "source": str,
    "seen": int,
    "seenAt": datetime,
    "edits": list[dict[str, Any]],
    "bytes": int,
}
QuarantinedMessage = answers.made("QuarantinedMessage", **_FIELDS)
QuarantinedBytes = answers.extended(QuarantinedMessage, name="QuarantinedBytes", message=str)
QuarantineList = answers.page_of(QuarantinedMessage, name="QuarantineList")
QuarantineEdited = answers.made("QuarantineEdited", id=str, edited=bool)
QuarantineReplayed = answers.made("QuarantineReplayed", matched=int, replayed=int, more=bool)
QuarantineDiscarded = answers.made("QuarantineDiscarded", matched=int, discarded=int, more=bool)
Replayed = answers.made("MessageReplayed", id=str, replayed=bool)
Discarded = answers.made("MessageDiscarded", id=str, discarded=bool)


@router.get("", response_model=QuarantineList)
def list_quarantined(
    _: Annotated[Acting, needs(Scope.QUARANTINE_READ)],
    filters: Annotated[MessageFilters, Query()],
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List quarantined messages, newest first."""
    before, wanted = lists.read(after), filters.filters()
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked(conn, wanted.error):
        rows = quarantines.select_quarantined(conn, wanted, before=before, limit=limit)
    last = rows[-1] if len(rows) == limit else None
    items = [quarantine_actions.document(row) for row in rows]
    return answers.ok({"items": items, "next": last and lists.write(last.received_at, last.id)})


@router.post("/replay", response_model=QuarantineReplayed)
def replay_quarantined(
    request: Request,
    body: MessageChoice,
    acting: Annotated[Acting, needs(Scope.QUARANTINE_WRITE)],
) -> Response:
    """Send messages by ids or filters, unchanged, to their original queues and streams."""
    return _move_many(request, acting, body, _sender(request), "replay", "replayed")


@router.post("/discard", response_model=QuarantineDiscarded)
def discard_quarantined(
    request: Request,
    body: MessageChoice,
    acting: Annotated[Acting, needs(Scope.QUARANTINE_WRITE)],
) -> Response:
    """Delete messages by ids or filters."""
    return _move_many(request, acting, body, quarantines.discard, "discard", "discarded")


@router.get("/{message_id}", response_model=QuarantinedBytes)
def show_quarantined(
    message_id: Id, _: Annotated[Acting, needs(Scope.QUARANTINE_READ)]
) -> Response:
    """Show a message: the reason, and its first 64 kB as base64."""
    with db.transaction(None, role=Role.RELAY) as conn:
        row = quarantine_edit.found(conn, message_id)
    message = base64.b64encode(row.message).decode()
    return answers.ok(quarantine_actions.document(row) | {"message": message})


@router.patch("/{message_id}", response_model=QuarantineEdited)
def edit_quarantined(
    request: Request,
    message_id: Id,
    body: MessageEdit,
    acting: Annotated[Acting, needs(Scope.QUARANTINE_WRITE)],
) -> Response:
    """Turn a message into a valid wake-up and sign it, or change fields of an entry."""

    def do(conn: Connection) -> Answer:
        quarantine_edit.edit(conn, request.app.state.wire, message_id, body.message)
        return Answer({"id": message_id, "edited": True})

    return answers.once(request, acting, do, role=Role.RELAY)


@router.post("/{message_id}/replay", response_model=Replayed)
def replay_message(
    request: Request, message_id: Id, acting: Annotated[Acting, needs(Scope.QUARANTINE_WRITE)]
) -> Response:
    """Send a message, unchanged, to its original queue or stream."""
    return _move_one(request, acting, message_id, _sender(request), "replay", "replayed")


@router.post("/{message_id}/discard", response_model=Discarded)
def discard_message(
    request: Request, message_id: Id, acting: Annotated[Acting, needs(Scope.QUARANTINE_WRITE)]
) -> Response:
    """Delete a message."""
    return _move_one(request, acting, message_id, quarantines.discard, "discard", "discarded")


def _sender(request: Request) -> Move:
    state = request.app.state
    return quarantine_actions.sender(state.redis, state.wire)


def _move_one(
    request: Request, acting: Acting, message_id: str, move: Move, verb: str, word: str
) -> Response:
    def do(conn: Connection) -> Answer:
        quarantine_actions.move_one(conn, move, verb, message_id)
        return Answer({"id": message_id, word: True})

    return answers.once(request, acting, do, role=Role.RELAY)


def _move_many(
    request: Request, acting: Acting, body: MessageChoice, move: Move, verb: str, word: str
) -> Response:
    names = list(MessageFilters.model_fields)
    given = {name: str(getattr(body, name)) for name in names if getattr(body, name) is not None}
    if not (body.ids or body.every or given):
        raise nothing_chosen("Give ids, filters")
    wanted, ids = body.filters(), body.ids or None

    def do(conn: Connection) -> Answer:
        with regex_checked(conn, wanted.error):
            if body.dry_run:
                matched = quarantines.count_quarantined(conn, wanted, ids=ids)
                return Answer({"matched": matched, word: 0, "more": False})
            found = quarantines.select_ids(conn, wanted, ids=ids, after="", limit=body.limit + 1)
        page = found[: body.limit]
        moved = quarantine_actions.move_page(conn, move, verb, page, given)
        more = len(found) > body.limit
        return Answer({"matched": len(page), word: len(moved), "more": more})

    return answers.once(request, acting, do, role=Role.RELAY)
