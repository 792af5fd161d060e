"""The model whose vectors a tenant reads and gets: its own row's, or the settings'."""

from shared.db import Connection
from shared.models import providers
from shared.queries.models import embedding_models


def live_model(conn: Connection) -> str:
    """The live model of the transaction's tenant."""
    return embedding_models.select_live(conn) or providers.live_model()
