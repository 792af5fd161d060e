"""Messages recorded many at a time: each once, in order, priced, and handed to who judges them."""

from decimal import Decimal

import pytest

from producers.messages import recall
from producers.messages import submission as messages
from shared import db
from shared.contracts import RecordMessage
from shared.db import Role
from shared.errors import LeaseLost, PermanentError
from tests.support.factories import claim, do, job, make_tenant, make_user, publish_jobs, rows
from workers.actors.scoring import record_message

pytestmark = pytest.mark.usefixtures("person")


@pytest.fixture
def person(tenant):
    return make_user(tenant, f"ada-{tenant}")


MODEL = "gpt-4.1-mini"


def make_model(slug, cost_in, cost_out):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "AIProvider" ("id", "name", "slug") VALUES ('p', 'P', 'p')
               ON CONFLICT DO NOTHING"""
        )
        conn.execute(
            """INSERT INTO "AIModel" ("providerId", "name", "slug", "contextWindow", "costPer1kIn",
                                      "costPer1kOut")
               VALUES ('p', %(slug)s, %(slug)s, 1000, %(cost_in)s, %(cost_out)s)
               ON CONFLICT ("slug") DO UPDATE SET "costPer1kIn" = excluded."costPer1kIn",
                   "costPer1kOut" = excluded."costPer1kOut" """,
            {"slug": slug, "cost_in": cost_in, "cost_out": cost_out},
        )


def record_all(tenant, *messages):
    """Record messages together. Returns their outcomes, in order."""
    jobs = [RecordMessage(**message) for message in messages]
    leases = claim(*publish_jobs(tenant, jobs))
    record_message(list(zip(jobs, leases, strict=True)))
    return [job(lease.job_id)["outcome"] for lease in leases]


def said(number, **fields):
    given = {"content": f"Answer {number}.", "model": MODEL, "question": f"Question {number}?"}
    return given | {"external_id": str(number)} | fields


def follow_ups(name):
    return rows('SELECT "payload" FROM "Job" WHERE "job" = %s ORDER BY "id"', name)


def test_messages_of_one_conversation_keep_their_order(tenant):
    (first,) = record_all(tenant, said(0))
    conversation = first["conversationId"]

    record_all(tenant, *[said(number, conversation_id=conversation) for number in range(1, 8)])

    found = rows('SELECT "content", "createdAt" FROM "Message" ORDER BY "createdAt"')
    pairs = [(f"Question {number}?", f"Answer {number}.") for number in range(8)]
    assert [content for content, _ in found] == [text for pair in pairs for text in pair]
    assert len({at for _, at in found}) == len(found)
    ((moved,),) = rows('SELECT "updatedAt" FROM "Conversation"')
    assert moved == found[-1][1]


def test_messages_without_a_conversation_begin_one_each(tenant):
    first, second = record_all(tenant, said(1), said(2))

    assert first["conversationId"] != second["conversationId"]
    assert rows('SELECT count(*) FROM "Conversation"') == [(2,)]


def test_one_that_has_no_place_refuses_the_batch_and_writes_nothing(tenant):
    with pytest.raises(PermanentError, match="or it is another user"):
        record_all(tenant, said(1), said(2, conversation_id="nobody's"))

    assert rows('SELECT count(*) FROM "Message"') == [(0,)]


def test_a_second_delivery_of_a_batch_writes_nothing(tenant):
    jobs = [RecordMessage(**said(number)) for number in range(3)]
    leases = claim(*publish_jobs(tenant, jobs))
    record_message(list(zip(jobs, leases, strict=True)))

    with pytest.raises(LeaseLost):
        record_message(list(zip(jobs, leases, strict=True)))

    assert rows('SELECT count(*) FROM "Message"') == [(6,)]


def test_a_cost_that_is_not_given_is_the_models_price_for_its_tokens(tenant):
    make_model(MODEL, "0.4", "1.6")

    priced, given, unknown = record_all(
        tenant,
        said(1, tokens_in=1_500, tokens_out=250),
        said(2, tokens_in=1_500, tokens_out=250, cost_usd="0.5"),
        said(3, model="nobody's-model"),
    )

    assert Decimal(priced["costUsd"]) == Decimal("1.0")
    assert Decimal(given["costUsd"]) == Decimal("0.5")
    assert unknown["costUsd"] is None
    kept = rows('SELECT "cost" FROM "Message" WHERE "id" = %s', priced["messageId"])
    assert kept == [(Decimal("1.0"),)]


def test_tokens_that_are_not_given_are_counted(tenant):
    answer, question = record_all(
        tenant, said(1), {"content": "How are you today?", "role": "USER", "external_id": "u"}
    )

    assert (answer["tokensIn"], answer["tokensOut"]) == (4, 4)
    assert (question["tokensIn"], question["tokensOut"]) == (5, None)


def test_a_persons_message_has_neither_model_nor_provenance(tenant):
    (outcome,) = record_all(tenant, {"content": "Merhaba!", "role": "USER"})

    assert outcome["provenanceId"] is None
    assert rows('SELECT "role"::text, "modelId" FROM "Message"') == [("USER", None)]
    assert rows('SELECT count(*) FROM "Provenance"') == [(0,)]


def test_an_answer_without_a_model_is_refused():
    with pytest.raises(ValueError, match="must name its model"):
        RecordMessage(content="Hello")


def test_what_was_recorded_is_embedded_judged_scored_and_analysed(tenant):
    (outcome,) = record_all(tenant, said(1))

    both = {outcome["questionId"], outcome["messageId"]}
    ((embedded,),) = follow_ups("embed_messages")
    assert set(embedded["message_ids"]) == both
    assert {one["content_id"] for (one,) in follow_ups("moderate_content")} == both
    ((scored,),) = follow_ups("score_quality")
    assert scored["message_id"] == outcome["messageId"]
    ((analysed,),) = follow_ups("analyse_conversation")
    assert analysed["conversation_id"] == outcome["conversationId"]


def test_a_workflow_that_judges_by_steps_of_its_own_asks_for_no_judgement(tenant):
    record_all(tenant, said(1, judge=False))

    assert follow_ups("moderate_content") == follow_ups("score_quality") == []
    assert len(follow_ups("embed_messages")) == 1


def test_many_messages_ask_for_one_analysis(tenant):
    (first,) = record_all(tenant, said(0))
    for number in range(1, 4):
        record_all(tenant, said(number, conversation_id=first["conversationId"]))

    assert len(follow_ups("analyse_conversation")) == 1


def test_the_message_of_somebody_distrusted_weighs_more_and_is_the_same_message(tenant):
    ada = f"ada-{tenant}"
    message = RecordMessage(content="Hello", role="USER", user_id=ada)
    with db.transaction(tenant) as conn:
        conn.execute(
            """INSERT INTO "TrustScore" ("userId", "score", "factors") VALUES (%s, 0.1, '{}')""",
            [ada],
        )
        first = messages.record(conn, message)
        conn.execute('UPDATE "TrustScore" SET "score" = 0.9')
        again = messages.record(conn, message)

    assert (again.id, again.duplicate) == (first.id, True)
    assert rows('SELECT "cost", "limitKey" FROM "Job"') == [(4, ada)]


def test_recall_finds_what_was_said_by_meaning_in_either_language(tenant):
    texts = ["Faturamı nasıl iptal ederim?", "The weather is lovely today.", "My cat likes fish."]
    outcomes = record_all(
        tenant, *[{"content": text, "role": "USER", "external_id": text} for text in texts]
    )
    _embed(tenant)

    found = recall.recall(tenant, "How can I cancel my invoice?", k=2)

    assert found[0].message_id == outcomes[0]["messageId"]
    assert found[0].cosine > found[1].cosine


def test_recall_sees_neither_other_tenants_nor_other_people_nor_what_was_blocked(tenant):
    other = make_tenant()
    make_user(other, "eve")
    make_user(tenant, "bob")
    text = {"content": "The red boat sails at noon.", "role": "USER"}
    (mine,) = record_all(tenant, text | {"user_id": f"ada-{tenant}"})
    (theirs,) = record_all(tenant, text | {"user_id": "bob"})
    record_all(other, text)
    _embed(tenant)
    _embed(other)

    everybody = {one.message_id for one in recall.recall(tenant, "red boat")}
    adas = [one.message_id for one in recall.recall(tenant, "red boat", user_id=f"ada-{tenant}")]
    with db.transaction(tenant) as conn:
        conn.execute(
            """INSERT INTO "ModerationResult" ("contentId", "contentType", "flagged", "scores",
                                               "action")
               VALUES (%s, 'message', true, '{}', 'block')""",
            [mine["messageId"]],
        )
    unblocked = {one.message_id for one in recall.recall(tenant, "red boat")}

    assert everybody == {mine["messageId"], theirs["messageId"]}
    assert adas == [mine["messageId"]]
    assert unblocked == {theirs["messageId"]}


def _embed(tenant):
    ids = rows(
        """SELECT "id" FROM "Job" WHERE "job" = 'embed_messages' AND "tenantId" = %s
           AND "state" = 'PENDING'""",
        tenant,
    )
    for lease in claim(*[one for (one,) in ids]):
        do(lease)
