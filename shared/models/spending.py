"""What models were asked for, told to the ledger: by every process, with its sign of life."""

from shared import db
from shared.db import Role
from shared.models.providers import uses
from shared.queries.models import model_uses
from shared.queries.models.model_uses import ModelUse


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
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            model_uses.add(conn, [ModelUse(*use) for use in taken])
    except BaseException:
        uses.put_back(taken)
        raise
    return sum(use.tokens for use in taken)
