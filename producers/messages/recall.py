"""Semantic recall: what was said before about something, in other words or another language."""

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
    """Find messages that are near to a text in meaning. Hold no database connection meanwhile.

    Args:
        tenant_id: Whose messages; nothing else is ever seen.
        text: What is looked for, at most 16,000 characters.
        k: How many, 1 to 1,000.
        user_id: Only those of this person's conversations; None for the whole tenant's.

    Returns:
        At most k messages, best first. What was blocked is left out, and what has no vector of the
        live model yet is not found.

    Raises:
        QueryRefused: A blank or too long text, or an impossible `k`.
        ProviderRefused: The model does not serve the text.
        TransientError: The model or Postgres is away.
    """
    text = cleaned(text)
    if not text.strip() or len(text) > QUESTION_CHARS_MAX:
        raise QueryRefused(f"What is looked for has 1 to {QUESTION_CHARS_MAX:,} characters.")
    if not 1 <= k <= K_MAX:
        raise QueryRefused(f"k is {k}; it must be 1 to {K_MAX}.")
    with db.transaction(tenant_id) as conn:
        model = live_model(conn)
    # Think: no connection is held while the model answers.
    vector = providers.embedder_for(model).embed_query(text)
    wanted = RecallQuery(model, vector, quantization.bits(vector[None])[0], user_id)
    with db.transaction(tenant_id) as conn:
        return message_recall.select_nearest(
            conn, wanted, scanned=max(_SCANNED_MIN, 2 * k), hits_max=k
        )
