"""What models were asked for, told to the ledger at the catalogue's prices.

Every process that asks models tells it: workers with their sign of life, a command at its end. A
program of one's own that searches or recalls calls `flush` as well.
"""

from collections.abc import Mapping, Sequence

import structlog

from shared import db
from shared.db import Role
from shared.models.providers import uses
from shared.models.providers.uses import UsageRecord
from shared.queries.models import model_uses, models
from shared.queries.models.model_uses import ModelUse
from shared.queries.models.models import Price

log = structlog.get_logger()

_unpriced: set[str] = set()  # models that were warned about: once a process, not every heartbeat


def flush() -> int:
    """Add what this process asked of models since the last call to "ModelUse".

    A process that is killed takes with it what it did not tell: these are figures, no accounts.

    Returns:
        How many tokens were told.

    Raises:
        ServerUnavailable: Postgres does not answer; nothing is lost, the next call tells it.
    """
    taken = uses.take()
    if not taken:
        return 0
    try:
        # The application reads the catalogue, the relay's role keeps the ledger's figures.
        with db.transaction(None, role=Role.APP, durable=False) as conn:
            prices = models.select_prices(conn, [use.model for use in taken])
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            model_uses.add(conn, [_priced(use, prices) for use in taken])
    except BaseException:
        uses.put_back(taken)
        raise
    _warn_of([use.model for use in taken if use.model not in prices])
    return sum(use.tokens_in + use.tokens_out for use in taken)


def _warn_of(unpriced: Sequence[str]) -> None:
    """Say, once a process, that what these models cost is unknown, and how to set a price."""
    for model in unpriced:
        if model not in _unpriced:
            _unpriced.add(model)
            log.warning(
                "model.unpriced",
                model=model,
                error=f"no price in the catalogue for model {model}: its costs are unknown",
                advice=f"ailydian models put {model} --in DOLLARS --out DOLLARS",
            )


def _priced(use: UsageRecord, prices: Mapping[str, Price]) -> ModelUse:
    price, tokens = prices.get(use.model), use.tokens_in + use.tokens_out
    if price is None:
        return ModelUse(use.model, use.requests, tokens, None, use.requests)
    cost_usd = price.of(use.tokens_in, use.tokens_out)
    return ModelUse(use.model, use.requests, tokens, cost_usd, 0)
