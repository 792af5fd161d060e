"""Conversations and messages of a tenant, by their ids."""

from collections.abc import Sequence

from producers.errors import ConversationNotFound
from producers.queries.messages import message_lists
from producers.queries.messages.message_lists import ConversationRow, MessageRow
from shared.contracts import RecordMessage
from shared.db import Connection
from shared.errors import MessageNotFound
from shared.ids import MessageId


def found(conn: Connection, conversation_id: str, slug: str) -> ConversationRow:
    """Return a conversation of the transaction's tenant.

    Raises:
        ConversationNotFound: The tenant of this slug has none of this id.
    """
    row = message_lists.select_conversation(conn, conversation_id)
    if row is None:
        raise ConversationNotFound(f"The tenant {slug} has no conversation {conversation_id}.")
    return row


def refuse_lacking(conn: Connection, messages: Sequence[RecordMessage]) -> None:
    """Refuse messages of a conversation that the tenant, or the user they name, does not have.

    Raises:
        ConversationNotFound: Of one of them.
    """
    wanted = {(one.conversation_id, one.user_id) for one in messages if one.conversation_id}
    lacking = message_lists.select_lacking(conn, [*wanted]) if wanted else None
    if lacking is not None:
        raise ConversationNotFound(
            f"The tenant has no conversation {lacking}, or it is another user's."
        )


def message(conn: Connection, message_id: MessageId, slug: str) -> MessageRow:
    """Return a message of the transaction's tenant.

    Raises:
        MessageNotFound: The tenant of this slug has none of this id.
    """
    row = message_lists.select_message(conn, message_id)
    if row is None:
        raise MessageNotFound(f"The tenant {slug} has no message {message_id}.")
    return row
