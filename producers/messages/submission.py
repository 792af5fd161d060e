"""Messages as services hand them over: one at a time, or many at once."""

from collections.abc import Sequence

from shared.contracts import RecordMessage
from shared.db import Connection
from shared.judgement import trust
from shared.ledger.outbox import Published, publish_many
from shared.queries.judgement import trust_scores


def record(conn: Connection, message: RecordMessage) -> Published:
    """Accept one message in the caller's transaction; see `record_many`."""
    return record_many(conn, [message])[0]


def record_many(conn: Connection, messages: Sequence[RecordMessage]) -> list[Published]:
    """Accept messages in the caller's transaction.

    A message is the same one if all its fields are: give those that may be said twice in the same
    words an `external_id`. Who is trusted less weighs more against limits by cost.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        messages: Of one tenant; a worker records fifty of them in one transaction.

    Returns:
        One entry a message, in the order given; those accepted before are marked as duplicates.

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
    # What it weighs today is no part of what was said: the same message later is a duplicate still.
    return publish_many(conn, weighed, keys=[one.key() for one in messages])
