"""Verifying where an answer came from: what was altered since it was recorded, piece by piece."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared import provenance
from shared.db import Connection
from shared.errors import MessageNotFound
from shared.ids import ChunkId, MessageId
from shared.provenance import Sealed
from shared.queries import message_lists, provenance_records
from shared.queries.provenance_records import ProvenanceRow


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was recorded: which, and what is wrong with it."""

    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found; `is_sealed` is whether a watermark of ours covers the record."""

    message_id: MessageId
    is_sealed: bool
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether everything is as it was recorded, and the record is ours."""
        return self.is_sealed and not self.findings


def verify(conn: Connection, key: bytes, message_id: MessageId) -> Report:
    """Compare a message, its question and what it cites with what was recorded of them.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        key: The installation's signing key.
        message_id: The answer.

    Raises:
        MessageNotFound: The tenant has no such message.
    """
    row = provenance_records.select_record(conn, message_id)
    if row is None:
        if message_lists.select_message(conn, message_id) is None:
            raise MessageNotFound(f"The tenant has no message {message_id}.")
        missing = Finding("record", "there is no provenance record of this message")
        return Report(message_id, is_sealed=False, findings=[missing])
    if row.watermark is None:
        unsealed = Finding(
            "watermark", "the record has no watermark: it may have been written anew"
        )
        return Report(message_id, False, [unsealed, *_texts(row), *_citations(conn, row)])
    findings = [*_seal(row, key), *_texts(row), *_citations(conn, row)]
    return Report(message_id, is_sealed=True, findings=findings)


def _seal(row: ProvenanceRow, key: bytes) -> Iterator[Finding]:
    sealed = Sealed(
        message_id=row.message_id,
        model=row.model,
        input_sha256=row.input_sha256,
        output_sha256=row.output_sha256,
        citations=row.citations,
    )
    assert row.watermark is not None, "who has none is not asked"
    if provenance.is_sealed_by(key, sealed, row.watermark):
        return
    of_key = row.watermark.split(":")[1] if row.watermark.count(":") > 1 else "?"
    ours = provenance.key_id(key)
    if of_key != ours:
        yield Finding("watermark", f"it was made with the key {of_key}, not with ours, {ours}")
    else:
        yield Finding(
            "watermark",
            "it does not fit the record: its model, hashes or citations, or the watermark itself, "
            "were altered; what is told of those below may be forged",
        )


def _texts(row: ProvenanceRow) -> Iterator[Finding]:
    if provenance.output_sha256(row.content) != row.output_sha256:
        yield Finding("answer", "its text is not the one that was recorded")
    if row.model_slug is not None and row.model_slug != row.model:
        yield Finding("model", f"the message names {row.model_slug}, the record {row.model}")
    if row.inputs is None:  # of before: the hash was of the question alone, and is not kept by id
        return
    if row.question_id is not None and row.question is None:
        yield Finding("question", f"the message {row.question_id} is gone")
        return
    question = row.question or ""
    if row.question_sha256 != provenance.output_sha256(question):
        yield Finding("question", "its text is not the one that was recorded")
        return
    parameters: dict[str, Any] = row.inputs.get("parameters", {})
    if provenance.input_sha256(question, row.model, parameters) != row.input_sha256:
        yield Finding("parameters", "the model was asked with others than the record says")


def _citations(conn: Connection, row: ProvenanceRow) -> Iterator[Finding]:
    ids = [ChunkId(str(one.get("chunkId"))) for one in row.citations]
    chunks = provenance_records.select_cited(conn, ids)
    for place, (cited, chunk_id) in enumerate(zip(row.citations, ids, strict=True), 1):
        if fault := _fault(cited, chunks.get(chunk_id)):
            yield Finding(f"citation {place}", f"chunk {chunk_id}: {fault}")


def _fault(cited: dict[str, Any], chunk: tuple[str, str] | None) -> str:
    if chunk is None:
        return "it is gone, with its document or because that has a new version"
    document_id, content = chunk
    start, end = cited.get("start"), cited.get("end")
    if cited.get("documentId") != document_id:
        return f"it is of the document {document_id}, not of {cited.get('documentId')}"
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(content)):
        return f"[{start}:{end}] is not within its {len(content)} characters"
    if hashlib.sha256(content[start:end].encode()).hexdigest() != cited.get("sha256"):
        return f"its text at [{start}:{end}] is not the one that was cited"
    return ""
