"""/v1/feedback: ratings of messages."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import users
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.judgement import feedback
from producers.queries.judgement import feedback_entries
from producers.queries.judgement.feedback_entries import FeedbackRow
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection
from shared.ids import MessageId
from shared.ledger.outbox import Published

router = routes.router("feedback")


class FeedbackRequest(Body):
    """A rating; a user's later one of the same message replaces it."""

    message_id: str = Field(min_length=1, max_length=64, alias="messageId")
    user: str = Field(
        min_length=1, max_length=320, examples=["ada@example.org"], description="E-mail or id."
    )
    rating: int = Field(ge=1, le=5, description="1 (worst) to 5 (best).")
    comment: str | None = Field(None, max_length=feedback.COMMENT_CHARS_MAX)


Feedback = answers.model_of(FeedbackRow, name="Feedback")
FeedbackList = answers.page_of(Feedback, name="FeedbackList")
GivenFeedback = answers.model_of(Published, name="GivenFeedback")


@router.post("", status_code=HTTPStatus.ACCEPTED, response_model=GivenFeedback)
def give_feedback(
    request: Request,
    body: FeedbackRequest,
    acting: Annotated[Acting, needs(Scope.FEEDBACK_WRITE)],
) -> Response:
    """Rate a message: the job changes its score, routing, its author's trust and training."""
    user_id = users.named(acting.tenant, body.user)

    def do(conn: Connection) -> Answer:
        message_id = MessageId(body.message_id)
        job = feedback.give(conn, message_id, user_id, rating=body.rating, comment=body.comment)
        headers = {"Location": f"/v1/jobs/{job.id}"}
        return Answer(as_document(job), HTTPStatus.ACCEPTED, headers)

    return answers.once(request, acting, do)


@router.get("", response_model=FeedbackList)
def list_feedback(
    acting: Annotated[Acting, needs(Scope.MESSAGES_READ)],
    message: Annotated[
        str | None, Query(max_length=64, pattern=NO_NUL, description="Only this message's.")
    ] = None,
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List ratings, newest first."""
    before = lists.read(after)
    wanted = None if message is None else MessageId(message)
    with db.transaction(acting.tenant) as conn:
        rows = feedback_entries.select_feedback(conn, wanted, before=before, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.created_at, row.id))
