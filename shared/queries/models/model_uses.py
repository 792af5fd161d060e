"""Use of models: requests, tokens and dollars by the hour. In the relay's role."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class ModelUse:
    """The use of one model, and its cost by the catalogue.

    Attributes:
        cost_usd: Of the requests that had a price; None where none had.
        unpriced: Requests that had none, because the catalogue did not know the model.
    """

    model: str
    requests: int
    tokens: int
    cost_usd: Decimal | None
    unpriced: int


# In one order, so that processes that write at once never deadlock.
ADD: Final = """
    INSERT INTO "ModelUse" AS m ("model", "hour", "requests", "tokens", "costUsd", "unpriced")
    SELECT u."model", date_trunc('hour', now(), 'UTC'), u."requests", u."tokens", u."costUsd",
           u."unpriced"
    FROM unnest(%(models)s::text[], %(requests)s::bigint[], %(tokens)s::bigint[],
                %(costs)s::numeric[], %(unpriced)s::bigint[])
         AS u("model", "requests", "tokens", "costUsd", "unpriced")
    ORDER BY u."model"
    ON CONFLICT ("model", "hour") DO UPDATE
    SET "requests" = m."requests" + excluded."requests",
        "tokens" = m."tokens" + excluded."tokens",
        "costUsd" = coalesce(m."costUsd" + excluded."costUsd", m."costUsd", excluded."costUsd"),
        "unpriced" = m."unpriced" + excluded."unpriced"
"""


def add(conn: Connection, uses: Sequence[ModelUse]) -> None:
    """Add to the use of models in this hour, one row a model."""
    values: dict[str, object] = {
        "models": [use.model for use in uses],
        "requests": [use.requests for use in uses],
        "tokens": [use.tokens for use in uses],
        "costs": [use.cost_usd for use in uses],
        "unpriced": [use.unpriced for use in uses],
    }
    conn.execute(ADD, values)


SELECT_TOTALS: Final = """
    SELECT "model", sum("requests")::bigint AS "requests", sum("tokens")::bigint AS "tokens",
           sum("costUsd") AS "costUsd", sum("unpriced")::bigint AS "unpriced"
    FROM "ModelUse" GROUP BY "model" ORDER BY "model"
"""


def select_totals(conn: Connection) -> list[ModelUse]:
    """The total use of each model."""
    return [ModelUse(*row) for row in conn.execute(SELECT_TOTALS)]
