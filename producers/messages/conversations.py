"""Conversations and messages of a tenant, by their ids."""

from producers.errors import ConversationNotFound
from producers.queries.messages import message_lists
from producers.queries.messages.message_lists import ConversationRow, MessageRow
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


def message(conn: Connection, message_id: MessageId, slug: str) -> MessageRow:
    """Return a message of the transaction's tenant.

    Raises:
        MessageNotFound: The tenant of this slug has none of this id.
    """
    row = message_lists.select_message(conn, message_id)
    if row is None:
        raise MessageNotFound(f"The tenant {slug} has no message {message_id}.")
    return row
