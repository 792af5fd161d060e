"""Verification of provenance: everything altered since an answer was recorded."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from producers.queries.judgement import provenance_records
from producers.queries.judgement.provenance_records import ProvenanceRow
from producers.queries.messages import message_lists
from shared.db import Connection
from shared.errors import MessageNotFound
from shared.ids import ChunkId, MessageId
from shared.judgement import provenance
from shared.judgement.provenance import SealedContent


@dataclass(frozen=True, slots=True)
class Finding:
    """One altered part of a record: which, and what is wrong with it."""

    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification; `is_sealed`: a watermark of ours covers the record."""

    message_id: MessageId
    is_sealed: bool
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether nothing was altered and the record is ours."""
        return self.is_sealed and not self.findings


def found(conn: Connection, message_id: MessageId, slug: str) -> ProvenanceRow:
    """Return the record of an answer.

    Raises:
        MessageNotFound: The tenant of this slug has none.
    """
    row = provenance_records.select_record(conn, message_id)
    if row is None:
        raise MessageNotFound(f"The tenant {slug} has no provenance record of {message_id}.")
    return row


def verify(conn: Connection, key: bytes, message_id: MessageId) -> Report:
    """Compare a message, its question and its citations with its provenance record.

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
        unsealed = Finding("watermark", "the record has no watermark: it may have been rewritten")
        return Report(message_id, False, [unsealed, *_texts(row), *_citations(conn, row)])
    findings = [*_seal(row, key), *_texts(row), *_citations(conn, row)]
    return Report(message_id, is_sealed=True, findings=findings)


def _seal(row: ProvenanceRow, key: bytes) -> Iterator[Finding]:
    sealed = SealedContent(
        message_id=row.message_id,
        model=row.model,
        input_sha256=row.input_sha256,
        output_sha256=row.output_sha256,
        citations=_listed(row.citations),
    )
    assert row.watermark is not None, "only sealed records are checked"
    if provenance.is_sealed_by(key, sealed, row.watermark):
        return
    of_key = row.watermark.split(":")[1] if row.watermark.count(":") > 1 else "?"
    ours = provenance.key_id(key)
    if of_key != ours:
        yield Finding("watermark", f"it was made with the key {of_key}, not with ours, {ours}")
    else:
        yield Finding(
            "watermark",
            "it does not match the record: model, hashes, citations or the watermark itself "
            "were altered; the findings below may be forged",
        )


def _texts(row: ProvenanceRow) -> Iterator[Finding]:
    if row.output_sha256 not in _hashes(row):
        yield Finding("answer", "its text differs from the recorded one")
    if row.model_slug != row.model and (row.model_slug is not None or row.is_catalogued):
        named = row.model_slug or "none"
        yield Finding("model", f"the message names {named}, the record {row.model}")
    if row.watermark is not None or row.inputs is not None:
        yield from _question(row)


def _question(row: ProvenanceRow) -> Iterator[Finding]:
    """Check the question and the parameters; old unsealed records have neither."""
    if row.question_id is not None and row.question is None:
        yield Finding("question", f"the message {row.question_id} was deleted")
        return
    question = row.question or ""
    parameters = row.inputs.get("parameters") if isinstance(row.inputs, Mapping) else None
    asked = provenance.input_sha256(question, row.model, parameters or {})
    is_kept = row.question_sha256 == provenance.output_sha256(question)
    if isinstance(parameters, Mapping) and asked == row.input_sha256:
        if not is_kept:
            yield Finding("question hash", "it was altered; the question itself was not")
        return
    if not is_kept:
        yield Finding("question", "its text differs from the recorded one")
    elif isinstance(parameters, Mapping):
        yield Finding(
            "parameters",
            "the model was called with other parameters than recorded, or the question and its "
            "hash were altered together",
        )
    if not isinstance(parameters, Mapping):
        yield Finding("parameters", "they are missing from the record")


def _citations(conn: Connection, row: ProvenanceRow) -> Iterator[Finding]:
    citations = _listed(row.citations)
    if citations != row.citations:
        yield Finding("citations", "not a valid list of passages: some cannot be read")
    ids = [ChunkId(str(one.get("chunkId"))) for one in citations]
    chunks = provenance_records.select_cited(conn, ids)
    for place, (cited, chunk_id) in enumerate(zip(citations, ids, strict=True), 1):
        if fault := _fault(cited, chunks.get(chunk_id)):
            yield Finding(f"citation {place}", f"chunk {chunk_id}: {fault}")


def _listed(citations: object) -> list[dict[str, Any]]:
    """Read citations without trusting their form: they may have been altered."""
    if not isinstance(citations, list):
        return []
    return [one for one in citations if isinstance(one, dict)]


def _hashes(row: ProvenanceRow) -> tuple[str, ...]:
    """Return the possible hashes of the answer; old records hash the raw bytes."""
    ours = provenance.output_sha256(row.content)
    if row.watermark is not None:
        return (ours,)
    return ours, hashlib.sha256(row.content.encode()).hexdigest()


def _fault(cited: dict[str, Any], chunk: tuple[str, str] | None) -> str:
    if chunk is None:
        return "it was deleted, with its document or by a new version of it"
    document_id, content = chunk
    start, end = cited.get("start"), cited.get("end")
    if cited.get("documentId") != document_id:
        return f"it belongs to the document {document_id}, not to {cited.get('documentId')}"
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(content)):
        return f"[{start}:{end}] is not within its {len(content)} characters"
    if hashlib.sha256(content[start:end].encode()).hexdigest() != cited.get("sha256"):
        return f"its text at [{start}:{end}] differs from the cited text"
    return ""
