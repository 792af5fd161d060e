"""Provenance records of answers, with the current texts."""

from dataclasses import dataclass
from typing import Any, Final

from shared.db import Connection
from shared.ids import ChunkId, DocumentId, MessageId


@dataclass(frozen=True, slots=True)
class ProvenanceRow:
    """A row of "Provenance", with the texts that it is about as they are now.

    Attributes:
        content: The current answer.
        citations: A list of objects, unless somebody altered it; likewise `inputs`, an object.
        model_slug: The message's current model; None if it is not in the catalogue.
        is_catalogued: Whether the catalogue has the model that was recorded.
        question: The current question; None if it was deleted or never stored.
        inputs: `{parameters}`; None in old records.
    """

    message_id: MessageId
    model: str
    input_sha256: str
    output_sha256: str
    watermark: str | None
    key_id: str | None
    citations: Any
    inputs: Any
    question_id: MessageId | None
    question_sha256: str | None
    content: str
    model_slug: str | None
    is_catalogued: bool
    question: str | None


SELECT_RECORD: Final = """
    SELECT p."messageId", p."modelId" AS "model", p."inputHash" AS "inputSha256",
           p."outputHash" AS "outputSha256", p."watermark", p."keyId",
           coalesce(p."citations", '[]') AS "citations", p."inputs", p."questionId",
           p."questionSha256", m."content", a."slug" AS "modelSlug",
           EXISTS (SELECT FROM "AIModel" o WHERE o."slug" = p."modelId") AS "isCatalogued",
           q."content" AS "question"
    FROM "Provenance" p JOIN "Message" m ON m."id" = p."messageId"
    LEFT JOIN "AIModel" a ON a."id" = m."modelId"
    LEFT JOIN "Message" q ON q."id" = p."questionId"
    WHERE p."messageId" = %(message_id)s
"""


def select_record(conn: Connection, message_id: MessageId) -> ProvenanceRow | None:
    """Return the record of a message; None if there is none."""
    row = conn.execute(SELECT_RECORD, {"message_id": message_id}).fetchone()
    return None if row is None else ProvenanceRow(*row)


SELECT_CITED: Final = """
    SELECT c."id", c."documentId", c."content" FROM "DocumentChunk" c
    WHERE c."id" = ANY(%(ids)s::text[])
"""


def select_cited(
    conn: Connection, chunk_ids: list[ChunkId]
) -> dict[ChunkId, tuple[DocumentId, str]]:
    """Return the chunks that still exist, with their document and current text."""
    rows = conn.execute(SELECT_CITED, {"ids": chunk_ids})
    return {id_: (document_id, content) for id_, document_id, content in rows}
