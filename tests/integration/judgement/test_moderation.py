"""Moderation on a real Postgres: what is judged, kept, and seen by whom."""

import pytest

from shared import db
from shared.contracts import ModerateContent, RecordMessage
from shared.db import Role
from shared.errors import ContentGone, LeaseLost
from tests.support.factories import claim, do, job, make_tenant, publish_jobs, rows
from tests.support.sample_documents import ingested, stubbed
from workers.domain.judgement.moderation import ENGINE

pytestmark = pytest.mark.usefixtures("pool")
SECRET = "The key is sk-abcdefghijklmnopqrstuv, keep it."


def document(tenant, text):
    with stubbed():
        return ingested(tenant, text)


def judge(tenant, content_type, content_id):
    """Judge a text. Returns the lease and the job's outcome."""
    asked = ModerateContent(content_type=content_type, content_id=content_id)
    (lease,) = claim(*publish_jobs(tenant, [asked]))
    do(lease)
    return lease, job(lease.job_id)["outcome"]


def results():
    return rows(
        """SELECT "contentType", "contentId", "tenantId", "flagged", "categories", "action"
           FROM "ModerationResult" """
    )


def test_a_document_with_a_secret_is_blocked(tenant):
    document_id = document(tenant, SECRET)

    _, outcome = judge(tenant, "document", document_id)

    assert (outcome["blocked"], outcome["categories"]) == (True, ["secret"])
    assert results() == [("document", document_id, tenant, True, ["secret"], "block")]


def test_a_clean_document_passes_and_the_result_names_its_engine(tenant):
    document_id = document(tenant, "The harbour lights burn all night.")

    _, outcome = judge(tenant, "document", document_id)

    assert (outcome["flagged"], outcome["blocked"], outcome["engine"]) == (
        *(False, False),
        ENGINE,
    )
    assert "languages other than Turkish and English" in outcome["blind"]
    assert results() == [("document", document_id, tenant, False, [], "allow")]


def test_what_is_kept_says_where_and_never_repeats_the_text(tenant):
    document_id = document(tenant, SECRET)

    judge(tenant, "document", document_id)

    ((scores,),) = rows('SELECT "scores" FROM "ModerationResult"')
    ((category, start, end),) = scores["spans"]
    assert (category, SECRET[start:end]) == ("secret", "sk-abcdefghijklmnopqrstuv")
    assert "sk-" not in str(scores)


def test_a_message_is_judged_as_a_document_is(tenant):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "User" ("email", "passwordHash", "tenantId", "updatedAt")
               VALUES ('ada@example.org', '', %s, now())""",
            [tenant],
        )
    (lease,) = claim(*publish_jobs(tenant, [RecordMessage(content=SECRET, model="m", judge=False)]))
    do(lease)
    message_id = job(lease.job_id)["outcome"]["messageId"]

    _, outcome = judge(tenant, "message", message_id)

    assert outcome["blocked"]
    assert results() == [("message", message_id, tenant, True, ["secret"], "block")]


def test_a_second_delivery_writes_nothing(tenant):
    lease, _ = judge(tenant, "document", document(tenant, SECRET))

    with pytest.raises(LeaseLost):
        do(lease)

    assert len(results()) == 1


def test_another_tenants_document_is_gone(tenant):
    document_id = document(tenant, SECRET)

    with pytest.raises(ContentGone):
        judge(make_tenant(), "document", document_id)

    assert results() == []
