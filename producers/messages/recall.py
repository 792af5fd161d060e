"""Semantic recall: past messages similar in meaning, across languages."""

from typing import Final

from producers.queries.messages import message_recall
from producers.queries.messages.message_recall import RecallQuery, Remembered
from shared import db
from shared.documents import quantization
from shared.documents.search import K_MAX, QUESTION_CHARS_MAX, QueryRefused
from shared.ids import TenantId, UserId
from shared.models import providers
from shared.models.embedding_model import live_model
from shared.models.providers.shaping import cleaned

_SCANNED_MIN: Final = 800  # as search takes them: see there


def recall(
    tenant_id: TenantId, text: str, *, k: int = 10, user_id: UserId | None = None
) -> list[Remembered]:
    """Find messages similar in meaning to a text. Do not hold a database connection meanwhile.

    Args:
        tenant_id: The tenant; no other tenant's messages are visible.
        text: The query, at most 16,000 characters.
        k: Maximum results, 1 to 1,000.
        user_id: Only conversations of this user; None for the whole tenant.

    Returns:
        At most k messages, best first. Blocked messages are left out; messages without a vector
        of the live model are not found.

    Raises:
        QueryRefused: A blank or too long text, or an invalid `k`.
        ProviderRefused: The model rejects the text.
        TransientError: The model or Postgres is unavailable.
    """
    text = cleaned(text)
    if not text.strip() or len(text) > QUESTION_CHARS_MAX:
        raise QueryRefused(f"The query must be 1-{QUESTION_CHARS_MAX:,} characters.")
    if not 1 <= k <= K_MAX:
        raise QueryRefused(f"k must be 1 to {K_MAX} (got {k}).")
    with db.transaction(tenant_id) as conn:
        model = live_model(conn)
    # Think: no connection is held while the model answers.
    vector = providers.embedder_for(model).embed_query(text)
    wanted = RecallQuery(model, vector, quantization.bits(vector[None])[0], user_id)
    with db.transaction(tenant_id) as conn:
        return message_recall.select_nearest(
            conn, wanted, scanned=max(_SCANNED_MIN, 2 * k), hits_max=k
        )
