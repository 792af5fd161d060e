"""Kind `check_index`: whether search really finds a document, and reads all of it."""

from typing import Final

from shared import db
from shared.documents.search import search_many
from shared.errors import DocumentNotFound, PermanentError, TransientError
from shared.ids import DocumentId
from shared.models.embedding_model import live_model
from shared.text.sentences import sentences
from shared.text.stems import stems
from shared.workflow.kinds import CheckIndexWith
from workers.queries.documents import chunk_indexes
from workers.queries.documents.chunk_indexes import Indexed
from workers.steps.step import Step
from workers.steps.table import step_kind

HITS: Final = 10
_QUESTION_CHARS_MAX: Final = 400
_STEMS_MIN: Final = 3


class IndexIncomplete(TransientError):
    """Chunks are not embedded yet, or never were: retries end it where they do not come."""

    code = "index_incomplete"


class DocumentNotFindable(PermanentError):
    """Everything is in the index, and search does not find the document by its own words."""

    code = "document_not_findable"


@step_kind("check_index")
def check_index(given: CheckIndexWith, step: Step) -> object:
    """Return {chunks, vectors, found, rank}: `rank` is the document's best place, from 1.

    Raises:
        DocumentNotFound: The tenant has no such document.
        IndexIncomplete: Rows that search reads are missing; the message says of which kind.
        DocumentNotFindable: It has no chunk, or is not among the first ten.
    """
    document_id = DocumentId(given.document_id)
    with db.transaction(step.tenant_id) as conn:
        model = live_model(conn)
        indexed = chunk_indexes.select_indexed(conn, step.tenant_id, document_id, model)
    if indexed is None:
        raise DocumentNotFound(f"There is no document {document_id}.")
    _refuse_incomplete(indexed, document_id, model)
    questions = [_title(indexed), _first_sentence(indexed)]
    answers = search_many(step.tenant_id, [it for it in questions if it], k=HITS)
    ranks = [
        place
        for hits in answers
        for place, hit in enumerate(hits, 1)
        if hit.document_id == document_id
    ]
    if not ranks:
        raise DocumentNotFindable(
            f"Document {document_id} is not among the first {HITS} hits for its own words."
        )
    return {
        "chunks": indexed.chunks,
        "vectors": indexed.vectors,
        "found": True,
        "rank": min(ranks),
    }


def _refuse_incomplete(indexed: Indexed, document_id: DocumentId, model: str) -> None:
    if not indexed.chunks:
        raise DocumentNotFindable(f"Document {document_id} has no chunk.")
    missing = []
    if indexed.vectors < indexed.chunks:
        missing.append(f"{indexed.chunks - indexed.vectors} vectors of {model}")
    if indexed.texts < indexed.chunks:
        missing.append(f"{indexed.chunks - indexed.texts} rows for text search")
    if missing:
        raise IndexIncomplete(
            f"Document {document_id} has {indexed.chunks} chunks and lacks {' and '.join(missing)}."
        )


def _title(indexed: Indexed) -> str:
    return indexed.title[:_QUESTION_CHARS_MAX].strip()


def _first_sentence(indexed: Indexed) -> str:
    """The first sentence that says something; the beginning of the text where none does."""
    for sentence in sentences(indexed.opening):
        if len(stems(sentence.text)) >= _STEMS_MIN:
            return sentence.text[:_QUESTION_CHARS_MAX]
    return indexed.opening[:_QUESTION_CHARS_MAX].strip()
