"""A webhook as it is delivered to, in its tenant's role."""

from dataclasses import dataclass, field
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to post, and the numbers of the secrets to sign with, the newest first."""

    url: str = field(repr=False)
    secrets: list[int]


SELECT_RECEIVER: Final = """
    SELECT w."url",
           CASE WHEN w."rotatedAt" > now() - %(overlap_s)s::float8 * interval '1 second'
                THEN ARRAY[w."secret", w."secret" - 1] ELSE ARRAY[w."secret"] END AS "secrets"
    FROM "Webhook" w
    WHERE w."tenantId" = current_setting('app.tenant_id') AND w."id" = %(id)s AND w."enabled"
"""


def select_receiver(conn: Connection, webhook_id: str, *, overlap_s: float) -> Receiver | None:
    """Return a webhook to deliver to; None if it is disabled or deleted.

    Args:
        conn: A connection of the tenant.
        webhook_id: The webhook.
        overlap_s: How long the secret before signs too, after a rotation.
    """
    values = {"id": webhook_id, "overlap_s": overlap_s}
    row = conn.execute(SELECT_RECEIVER, values).fetchone()
    return None if row is None else Receiver(*row)
