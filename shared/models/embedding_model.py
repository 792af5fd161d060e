"""The live embedding model of a tenant: its own setting, or the default."""

from shared.db import Connection
from shared.models import providers
from shared.queries.models import embedding_models


def live_model(conn: Connection) -> str:
    """Return the live model of the transaction's tenant."""
    return embedding_models.select_live(conn) or providers.live_model()
