"""Provenance on a real Postgres: each alteration is found and named."""

import json

import pytest

from producers.judgement import provenance
from shared import db
from shared.contracts import RecordMessage
from shared.db import Role
from shared.errors import MessageNotFound
from shared.models.providers import LOCAL_COMPLETER
from shared.settings import settings
from tests.support.factories import (
    claim,
    do,
    job,
    make_tenant,
    publish_jobs,
    read_job,
    rows,
)
from tests.support.sample_documents import article, ingested, paragraph, stubbed
from workers.actors.scoring import record_message

pytestmark = pytest.mark.usefixtures("ada")


@pytest.fixture
def answer(tenant):
    """An answer that cites a chunk. Returns its id."""
    with stubbed():
        ingested(tenant, article(6, 7))
    ((chunk_id, document_id),) = rows(
        'SELECT "id", "documentId" FROM "DocumentChunk" WHERE "content" = %s', paragraph(7)
    )
    cited = {"chunkId": chunk_id, "documentId": document_id, "start": 0, "end": 18}
    given = RecordMessage(
        content="harbour 700 lights",
        question="Which lights?",
        model=LOCAL_COMPLETER,
        citations=[cited],
        parameters={"temperature": 0.1},
        user_id="ada",
    )
    (lease,) = claim(*publish_jobs(tenant, [given]))
    do(lease)
    return job(lease.job_id)["outcome"]["messageId"]


def verify(tenant, message_id, key=None):
    key = key or settings().signing_key.get_secret_value().encode()
    with db.transaction(tenant) as conn:
        return provenance.verify(conn, key, message_id)


def test_what_nobody_touched_is_as_it_was_recorded(tenant, answer):
    assert verify(tenant, answer).ok


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("""UPDATE "Message" SET "content" = 'harbour 701 lights'
            WHERE "role" = 'ASSISTANT'""", ["answer"]),
        ("""UPDATE "Message" SET "content" = 'What?' WHERE "role" = 'USER'""", ["question"]),
        ("""DELETE FROM "Message" WHERE "role" = 'USER'""", ["question"]),
        ("""UPDATE "Message" SET "modelId" = (SELECT "id" FROM "AIModel" WHERE "slug" = 'gpt-5')
            WHERE "role" = 'ASSISTANT'""", ["model"]),
        ("""UPDATE "Message" SET "modelId" = NULL WHERE "role" = 'ASSISTANT'""", ["model"]),
        ("""UPDATE "Provenance" SET "inputs" = NULL""", ["parameters"]),
        ("""UPDATE "Provenance" SET "inputs" = '[]'""", ["parameters"]),
        ("""UPDATE "Provenance" SET "questionSha256" = repeat('0', 64)""", ["question hash"]),
        ("""UPDATE "Provenance" SET "inputs" = '{"parameters": {"temperature": 0.9}}'""",
         ["parameters"]),
        ("""UPDATE "DocumentChunk" SET "content" = 'x' || "content" """, ["citation 1"]),
        ("""UPDATE "DocumentChunk" SET "content" = 'short' """, ["citation 1"]),
        ("""DELETE FROM "DocumentChunk" """, ["citation 1"]),
        ("""UPDATE "Provenance" SET "citations" = '"x"'""", ["watermark", "citations"]),
        ("""UPDATE "Provenance" SET "citations" = "citations" || '5'""", ["citations"]),
        ("""UPDATE "Provenance" SET "citations" = '[]'""", ["watermark"]),
        ("""UPDATE "Provenance" SET "citations" = jsonb_set("citations", '{0,end}', '17')""",
         ["watermark", "citation 1"]),
        ("""UPDATE "Provenance" SET "modelId" = 'gpt-5'""", ["watermark", "model", "parameters"]),
        ("""UPDATE "Provenance" SET "outputHash" = repeat('0', 64)""", ["watermark", "answer"]),
        ("""UPDATE "Provenance" SET "watermark" = 'v1:00000000:00'""", ["watermark"]),
        ("""UPDATE "Provenance" SET "watermark" = NULL""", ["watermark"]),
        ("""DELETE FROM "Provenance" """, ["record"]),
    ],
)  # fmt: skip
def test_each_alteration_is_found_and_named(tenant, answer, tampering, found):
    with db.transaction(None, role=Role.OWNER) as conn:
        assert conn.execute(tampering).rowcount > 0

    report = verify(tenant, answer)

    assert not report.ok
    assert [one.what for one in report.findings] == found


def test_who_rewrites_answer_and_hash_together_is_found_by_the_seal(tenant, answer):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Message" SET "content" = 'forged' WHERE "role" = 'ASSISTANT'""")
        conn.execute(
            """UPDATE "Provenance" SET "outputHash" = encode(sha256('forged'::bytea), 'hex')"""
        )

    assert [one.what for one in verify(tenant, answer).findings] == ["watermark"]


def test_who_rewrites_question_and_hash_together_is_found(tenant, answer):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Message" SET "content" = 'Why?' WHERE "role" = 'USER'""")
        conn.execute(
            """UPDATE "Provenance" SET "questionSha256" = encode(sha256('Why?'::bytea), 'hex')"""
        )

    (finding,) = verify(tenant, answer).findings

    assert "question and its hash were altered together" in finding.detail


def test_of_a_record_from_before_the_seal_the_answer_is_still_compared(tenant, answer):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "Message" SET "content" = E'Cafe\\u0301' WHERE "role" = 'ASSISTANT'"""
        )
        conn.execute(
            """UPDATE "Provenance" SET "watermark" = NULL, "keyId" = NULL, "inputs" = NULL,
                   "outputHash" = encode(sha256(convert_to(E'Cafe\\u0301', 'UTF8')), 'hex')"""
        )
    untouched = verify(tenant, answer)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Message" SET "content" = 'Tea' WHERE "role" = 'ASSISTANT'""")

    altered = verify(tenant, answer)

    assert [one.what for one in untouched.findings] == ["watermark"]
    assert [one.what for one in altered.findings] == ["watermark", "answer"]


def test_a_thousand_answers_that_nobody_touched_are_all_as_recorded(tenant):
    jobs = [
        RecordMessage(
            content=f"Answer {number}: Çok güzel!",
            question=f"Question {number}?",
            model=LOCAL_COMPLETER,
            parameters={"temperature": number / 7, "seed": 10.0**number if number < 30 else number},
            user_id="ada",
            judge=False,
        )
        for number in range(1_000)
    ]
    leases = claim(*publish_jobs(tenant, jobs))
    record_message([(read_job(lease), lease) for lease in leases])

    answers = [message_id for (message_id,) in rows('SELECT "messageId" FROM "Provenance"')]
    altered = [one for one in answers if not verify(tenant, one).ok]

    assert len(answers) == 1_000
    assert altered == []


def test_another_key_is_named_as_such(tenant, answer):
    (finding,) = verify(tenant, answer, key=b"somebody else's key").findings

    assert "not with ours" in finding.detail


def test_another_tenants_message_is_none(answer):
    with pytest.raises(MessageNotFound):
        verify(make_tenant(), answer)


def test_the_command_ends_1_when_something_was_altered(tenant, answer, run):
    which = (answer, "--tenant", tenant)

    assert run("provenance", "verify", *which)[0] == 0
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Message" SET "content" = 'forged' WHERE "role" = 'ASSISTANT'""")

    code, altered = run("provenance", "verify", "--json", *which)

    assert code == 1
    assert json.loads(altered)["findings"][0]["what"] == "answer"
    assert "v1:" in run("provenance", "show", *which)[1]
