"""Submitting messages: one or many."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts import RecordMessage
from shared.db import Connection
from shared.errors import PayloadRefused
from shared.judgement import trust
from shared.ledger.outbox import Published, publish_many
from shared.queries.judgement import trust_scores


def checked(given: Mapping[str, Any], where: str) -> RecordMessage:
    """Return a message of these fields; equal ones are two messages without an external id.

    Raises:
        PayloadRefused: They do not fit; the sentence begins with where they stand.
    """
    fields = {"external_id": uuid.uuid4().hex} | dict(given)
    try:
        return RecordMessage.from_payload(fields, RecordMessage.schema_version)
    except PayloadRefused as error:
        raise PayloadRefused(f"{where}: {error}") from None


def record(conn: Connection, message: RecordMessage) -> Published:
    """Accept one message in the caller's transaction; see `record_many`."""
    return record_many(conn, [message])[0]


def record_many(conn: Connection, messages: Sequence[RecordMessage]) -> list[Published]:
    """Accept messages in the caller's transaction.

    Messages with equal fields are duplicates: give an `external_id` to those that may repeat.
    Less trusted users cost more against limits by cost.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        messages: Of one tenant; a worker records fifty of them in one transaction.

    Returns:
        One entry per message, in the order given; duplicates are marked.

    Raises:
        PayloadTooLarge: One of them is above 64 kB.
        QueueFull: Back-pressure; none was accepted.
    """
    people = sorted({one.user_id for one in messages if one.user_id is not None})
    scores = trust_scores.select_scores(conn, people) if people else {}
    weighed = [
        one
        if one.user_id is None
        else one.model_copy(
            update={"weight": trust.rate_weight(scores.get(one.user_id, trust.NEUTRAL))}
        )
        for one in messages
    ]
    # The cost is not part of the identity: the same message later is still a duplicate.
    return publish_many(conn, weighed, keys=[one.key() for one in messages])
