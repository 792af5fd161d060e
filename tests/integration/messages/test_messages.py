"""Answers recorded with what they rest on, and scored, on a real Postgres."""

import hashlib

import pytest

from shared.contracts import CONTRACTS, RecordMessage, ScoreQuality
from shared.errors import LeaseLost, PayloadRefused, PermanentError
from shared.judgement import provenance
from tests.support.factories import claim, do, job, make_tenant, make_user, publish_jobs, rows
from tests.support.sample_documents import article, ingested, paragraph, stubbed

pytestmark = pytest.mark.usefixtures("pool")
MODEL = "local-extractive"


@pytest.fixture
def cited(tenant):
    """A chunk that an answer may cite, as the answer says it."""
    with stubbed():
        ingested(tenant, article(6, 7))
    ((chunk_id, document_id, content),) = rows(
        'SELECT "id", "documentId", "content" FROM "DocumentChunk" WHERE "content" = %s',
        paragraph(7),
    )
    end = len("harbour 700 lights")
    return {"chunkId": chunk_id, "documentId": document_id, "start": 0, "end": end}, content


def record(tenant, **fields):
    """Record an answer. Returns the lease and the job's outcome."""
    given = {"content": "harbour 700 lights", "model": MODEL, "question": "Which lights?"}
    (lease,) = claim(*publish_jobs(tenant, [RecordMessage(**(given | fields))]))
    do(lease)
    return lease, job(lease.job_id)["outcome"]


def test_the_question_stands_before_its_answer(tenant):
    make_user(tenant, "ada")

    _, outcome = record(tenant)

    found = rows(
        """SELECT "role"::text, "content", "tenantId" FROM "Message"
           WHERE "conversationId" = %s ORDER BY "createdAt" """,
        outcome["conversationId"],
    )
    assert found == [
        ("USER", "Which lights?", tenant),
        ("ASSISTANT", "harbour 700 lights", tenant),
    ]


def test_a_second_message_goes_on_in_its_conversation(tenant):
    make_user(tenant, "ada")
    _, first = record(tenant)

    _, second = record(
        tenant, question="And then?", conversation_id=first["conversationId"], user_id="ada"
    )

    assert second["conversationId"] == first["conversationId"]
    assert rows('SELECT count(*) FROM "Conversation"') == [(1,)]
    assert rows('SELECT count(*) FROM "Message"') == [(4,)]


def test_a_second_delivery_writes_nothing(tenant):
    make_user(tenant, "ada")
    lease, _ = record(tenant)

    with pytest.raises(LeaseLost):
        do(lease)

    assert rows('SELECT count(*) FROM "Message"') == [(2,)]


def test_an_answer_is_never_put_into_another_persons_conversation(tenant):
    make_user(tenant, "ada")
    make_user(tenant, "bob")
    _, adas = record(tenant, user_id="ada")

    with pytest.raises(PermanentError, match="or it is another user"):
        record(tenant, conversation_id=adas["conversationId"], user_id="bob")

    assert rows('SELECT count(*) FROM "Message"') == [(2,)]


def test_another_tenants_conversation_is_none(tenant):
    make_user(tenant, "ada")
    other = make_tenant()
    make_user(other, "eve")
    _, adas = record(tenant)

    with pytest.raises(PermanentError, match="or it is another user"):
        record(other, conversation_id=adas["conversationId"])


def test_without_any_user_nothing_is_recorded(tenant):
    with pytest.raises(PermanentError, match="user create"):
        record(tenant)

    assert rows('SELECT count(*) FROM "Message"') == [(0,)]


def test_what_the_model_counted_and_cost_is_kept_exactly(tenant):
    make_user(tenant, "ada")

    _, outcome = record(tenant, tokens_in=1_234, tokens_out=5, cost_usd="0.00012345")

    found = rows(
        """SELECT "tokensIn", "tokensOut", "cost"::text FROM "Message" WHERE "id" = %s""",
        outcome["messageId"],
    )
    assert found == [(1_234, 5, "0.00012345")]


def test_provenance_proves_question_answer_and_citation(tenant, cited):
    make_user(tenant, "ada")
    citation, _ = cited

    _, outcome = record(tenant, citations=[citation])

    def digest(text):
        return hashlib.sha256(text.encode()).hexdigest()

    asked = provenance.input_sha256("Which lights?", MODEL, {})
    found = rows(
        """SELECT "messageId", "modelId", "inputHash", "outputHash", "citations"
           FROM "Provenance" WHERE "id" = %s""",
        outcome["provenanceId"],
    )
    proof = [citation | {"sha256": digest("harbour 700 lights")}]
    ours = (asked, digest("harbour 700 lights"), proof)
    assert found == [(outcome["messageId"], MODEL, *ours)]


def test_a_citation_before_its_chunk_is_refused(cited):
    citation, _ = cited
    payload = {"content": "x", "model": MODEL, "citations": [citation | {"start": -3}]}

    with pytest.raises(PayloadRefused, match="start"):
        CONTRACTS["record_message"].from_payload(payload, 1)


def test_a_score_is_kept_once_with_its_factors(tenant, cited):
    make_user(tenant, "ada")
    citation, content = cited
    _, recorded = record(tenant, content=content, citations=[citation])
    asked = {"message_id": recorded["messageId"], "chunk_ids": [citation["chunkId"]]}

    for question in ("harbour", "zeppelin"):
        (lease,) = claim(*publish_jobs(tenant, [ScoreQuality(**asked, question=question)]))
        do(lease)

    found = rows('SELECT "messageId", "estimatedScore", "metrics" FROM "QualityScore"')
    outcome = job(lease.job_id)["outcome"]
    ((message_id, score, metrics),) = found
    assert (message_id, score) == (recorded["messageId"], outcome["score"])
    assert metrics["factors"]["groundedness"] == 1.0
    assert metrics["factors"]["relevance"] == 0.0


def test_a_message_that_is_gone_is_not_scored(tenant):
    ids = publish_jobs(tenant, [ScoreQuality(message_id="nothing")])

    with pytest.raises(PermanentError, match="no longer exists"):
        do(claim(*ids)[0])
