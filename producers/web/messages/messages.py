"""/v1/messages: record, list, show; /v1/recall: find them by meaning."""

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from producers.accounts import tenants, users
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.messages import conversations, submission
from producers.queries.messages import message_lists
from producers.queries.messages.message_lists import MessageRow
from producers.queries.messages.message_recall import Remembered
from producers.web import answers, bodies, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import NDJSON, Body
from producers.web.lists import Cursor, Limit
from producers.web.routes import NO_NUL
from shared import db
from shared.contracts import RecordMessage
from shared.db import Connection
from shared.ids import MessageId
from shared.ledger.outbox import Published
from shared.observability import tracing

router = routes.router("messages")
recall_router = routes.router("recall")

LINES_MAX: Final = 1_000
Id = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Id of a message.")]
Count = Annotated[int | None, Field(ge=0, le=2**31 - 1)]


class _Camel(Body):
    model_config = ConfigDict(alias_generator=to_camel)


class CitationRequest(_Camel):
    """A passage that an answer rests on: offsets within its chunk."""

    chunk_id: str = Field(max_length=64)
    document_id: str = Field(max_length=64)
    start: int = Field(ge=0, le=2**31 - 1)
    end: int = Field(ge=0, le=2**31 - 1)


class MessageRequest(_Camel):
    """A message to record."""

    content: str = Field(min_length=1, max_length=50_000, examples=["The sea rises twice a day."])
    role: Literal["USER", "ASSISTANT", "SYSTEM", "TOOL"] = "ASSISTANT"
    user: str | None = Field(
        None,
        min_length=1,
        max_length=320,
        description="E-mail or id of the conversation's user. Unset: the tenant's first user.",
    )
    conversation_id: str | None = Field(
        None, min_length=1, max_length=64, description="Unset: a new conversation."
    )
    question: str = Field("", max_length=50_000, description="What an answer belongs to.")
    model: str | None = Field(
        None,
        min_length=1,
        max_length=2_000,
        examples=["extractive"],
        description="Required for an answer.",
    )
    citations: list[CitationRequest] = Field(default_factory=list, max_length=100)
    cost_usd: str | None = Field(None, pattern=r"^[0-9]{1,12}(\.[0-9]{1,8})?$", max_length=21)
    tokens_in: Count = None
    tokens_out: Count = None
    latency_ms: Count = None
    intent: str | None = Field(None, min_length=1, max_length=2_000)
    external_id: str | None = Field(
        None, min_length=1, max_length=2_000, description="Equal texts with one are one message."
    )


class RecallRequest(Body):
    """What to remember."""

    query: str = Field(min_length=1, max_length=16_000, examples=["tides"])
    user: str | None = Field(None, min_length=1, max_length=320)
    k: int = Field(10, ge=1, le=1_000, description="Maximum results.")


RecordedMessage = answers.model_of(Published, name="RecordedMessage")
RecordedMessageList = answers.list_of(RecordedMessage, name="RecordedMessageList")
Message = answers.model_of(MessageRow, name="Message")
MessageList = answers.page_of(Message, name="MessageList")
RememberedMessage = answers.model_of(Remembered, name="RememberedMessage")
RecallList = answers.list_of(RememberedMessage, name="RecallList")


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=RecordedMessage | RecordedMessageList,
    openapi_extra=bodies.described(MessageRequest, lines_of=MessageRequest),
)
def record_messages(
    request: Request,
    body: Annotated[bytes, bodies.RAW],
    acting: Annotated[Acting, needs(Scope.MESSAGES_WRITE)],
) -> Response:
    """Record a message, or with NDJSON up to 1,000: all of them, or none if a line is invalid.

    Embedding, moderation, scoring and analysis follow. `Location` shows the job, whose outcome has
    the ids of message and conversation.
    """
    many = bodies.media_type(request) == NDJSON
    wanted = (
        bodies.lines(body, MessageRequest.model_validate, most=LINES_MAX, done="recorded")
        if many
        else [bodies.read(MessageRequest, body)]
    )
    messages = _messages(wanted, acting)

    def do(conn: Connection) -> Answer:
        conversations.refuse_lacking(conn, messages)
        with tracing.continued(request.headers.get("traceparent")):
            done = submission.record_many(conn, messages)
        documents = [as_document(one) for one in done]
        if many:
            return Answer({"items": documents}, HTTPStatus.ACCEPTED)
        headers = {"Location": f"/v1/jobs/{done[0].id}"}
        return Answer(documents[0], HTTPStatus.ACCEPTED, headers)

    return answers.once(request, acting, do)


def _messages(wanted: list[MessageRequest], acting: Acting) -> list[RecordMessage]:
    """Return the messages that are asked for.

    Raises:
        UserNotFound: The tenant has no such user.
        PayloadRefused: One does not fit.
    """
    known = {
        name: users.named(acting.tenant, name)
        for name in {one.user for one in wanted if one.user is not None}
    }
    found = []
    for number, one in enumerate(wanted, 1):
        given: dict[str, Any] = one.model_dump(exclude={"user"}, exclude_none=True)
        if one.user is not None:
            given["user_id"] = known[one.user]
        where = "The message" if len(wanted) == 1 else f"Line {number}"
        found.append(submission.checked(given, where))
    return found


@router.get("", response_model=MessageList)
def list_messages(
    acting: Annotated[Acting, needs(Scope.MESSAGES_READ)],
    conversation: Annotated[
        str, Query(max_length=64, pattern=NO_NUL, description="Id of the conversation.")
    ],
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List the messages of a conversation, oldest first."""
    since = lists.read(after)
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        found = conversations.found(conn, conversation, slug)
        rows = message_lists.select_of_conversation(conn, found.id, after=since, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.created_at, row.id))


@router.get("/{message_id}", response_model=Message)
def show_message(message_id: Id, acting: Annotated[Acting, needs(Scope.MESSAGES_READ)]) -> Response:
    """Show a message with its verdict, quality, provenance and ratings."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        row = conversations.message(conn, MessageId(message_id), slug)
    return answers.ok(as_document(row))


@recall_router.post("", response_model=RecallList)
def recall_messages(
    body: RecallRequest, acting: Annotated[Acting, needs(Scope.MESSAGES_READ)]
) -> Response:
    """Find past messages by meaning, best first; blocked ones are left out."""
    # Imported now: it brings the models along.
    from producers.messages.recall import recall  # noqa: PLC0415

    user_id = None if body.user is None else users.named(acting.tenant, body.user)
    return answers.ok_list(recall(acting.tenant, body.query, k=body.k, user_id=user_id))
