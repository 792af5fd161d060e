"""Stores the model usage of this process in the ledger, at the catalogue's prices.

Every process that uses models calls `flush`: workers with each heartbeat, a command at its end. A
program of your own that searches or recalls must call it as well.
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
    """Add this process's model usage since the last call to "ModelUse".

    A killed process loses its unstored usage: these are statistics, not accounting.

    Returns:
        Number of tokens stored.

    Raises:
        ServerUnavailable: Postgres is not responding; nothing is lost, the next call stores it.
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
    """Warn once per process that the costs of these models are unknown."""
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
