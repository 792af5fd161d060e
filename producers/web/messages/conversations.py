"""/v1/conversations: list and show. The first message of one makes it."""

from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import Response

from producers.accounts import tenants, users
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.messages import conversations
from producers.queries.messages import message_lists
from producers.queries.messages.message_lists import ConversationRow
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.lists import Cursor, Limit
from producers.web.routes import NO_NUL
from shared import db

router = routes.router("conversations")

Conversation = answers.model_of(ConversationRow, name="Conversation")
ConversationList = answers.page_of(Conversation, name="ConversationList")


@router.get("", response_model=ConversationList)
def list_conversations(
    acting: Annotated[Acting, needs(Scope.CONVERSATIONS_READ)],
    user: Annotated[
        str | None, Query(max_length=320, pattern=NO_NUL, description="E-mail or id of a user.")
    ] = None,
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List conversations, most recent first."""
    before = lists.read(after)
    user_id = None if user is None else users.named(acting.tenant, user)
    with db.transaction(acting.tenant) as conn:
        rows = message_lists.select_conversations(conn, user_id, before=before, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.updated_at, row.id))


@router.get("/{conversation_id}", response_model=Conversation)
def show_conversation(
    conversation_id: Annotated[str, Path(max_length=64, pattern=NO_NUL)],
    acting: Annotated[Acting, needs(Scope.CONVERSATIONS_READ)],
) -> Response:
    """Show a conversation with its analysis; its messages are at `/v1/messages?conversation=`."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        row = conversations.found(conn, conversation_id, slug)
    return answers.ok(as_document(row))
