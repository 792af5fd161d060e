"""The model whose vectors a tenant reads and gets: its own row's, or the settings'."""

from shared import providers
from shared.db import Connection
from shared.queries import live_models


def live_model(conn: Connection) -> str:
    """The live model of the transaction's tenant."""
    return live_models.select_live(conn) or providers.live_model()
