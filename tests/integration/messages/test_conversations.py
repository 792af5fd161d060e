"""Conversations analysed: what is kept of them, and that no message is left out of it."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from shared import db
from shared.contracts import AnalyseConversation, EmbedMessages, RecordMessage
from shared.db import Role
from shared.errors import LeaseLost
from shared.ledger.outbox import publish
from tests.support.factories import claim, do, job, make_tenant, make_user, publish_jobs, rows
from tests.support.patience import patience
from workers.actors.scoring import analyse_conversation, record_message
from workers.actors.scoring import conversations as actor
from workers.judgement import topics
from workers.queries.messages import conversations, messages
from workers.queries.messages.conversations import ReadingLimits
from workers.queries.messages.messages import MessageTarget, NewMessage

pytestmark = pytest.mark.usefixtures("person")


@pytest.fixture
def person(tenant):
    return make_user(tenant, tenant)


ANALYSES = """SELECT "payload" ->> 'analysis', "state" FROM "Job"
              WHERE "job" = 'analyse_conversation' ORDER BY "createdAt", "id" """


def record(tenant, content, conversation_id=None, **fields):
    """Record a message as a worker does. Returns the id of its conversation."""
    given = {"content": content, "role": "USER", "conversation_id": conversation_id}
    message = RecordMessage(**(given | fields))
    (lease,) = claim(*publish_jobs(tenant, [message]))
    record_message([(message, lease)])
    return job(lease.job_id)["outcome"]["conversationId"]


def due_analyses():
    """What waits to be analysed, due at once."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "JobOutbox" SET "dueAt" = now() WHERE "job" LIKE 'analyse%%'""", {})
    waiting = rows(
        """SELECT "id" FROM "Job" WHERE "job" = 'analyse_conversation' AND "state" = 'PENDING'
           ORDER BY "id" """
    )
    leases = claim(*(id_ for (id_,) in waiting))
    return [(AnalyseConversation(**lease.payload), lease) for lease in leases]


def until_blocked(database_url):
    """Wait until somebody waits for a lock of this database."""
    deadline = time.monotonic() + patience(20)
    with psycopg.connect(database_url, autocommit=True) as conn:
        while not conn.execute(
            """SELECT 1 FROM pg_stat_activity
               WHERE "datname" = current_database() AND "wait_event_type" = 'Lock'"""
        ).fetchall():
            assert time.monotonic() < deadline, "nobody waits"


def metadata():
    return rows(
        """SELECT "conversationId", "sentiment", "topic", "tags", "messages", "language"
           FROM "ConversationMetadata" ORDER BY "conversationId" """
    )


def test_a_conversation_gets_its_mood_topic_and_tags(tenant):
    conversation = record(tenant, "Kargom üç gündür gelmedi, hiç memnun değilim.")
    record(tenant, "Kargo nerede, ne zaman teslim edilecek?", conversation)

    analyse_conversation(due_analyses())

    ((id_, mood, topic, tags, count, language),) = metadata()
    assert (id_, topic, count, language) == (conversation, "delivery", 2, "tr")
    assert -1 <= mood < -0.05
    assert tags[0] == "kargo"
    assert "language:tr" in tags
    assert any(tag.startswith("intent:") for tag in tags)


def test_conversations_of_a_batch_are_analysed_together_each_by_itself(tenant):
    sad = record(tenant, "This is terrible, my invoice is wrong again.")
    happy = record(tenant, "Harika bir otel, çok memnun kaldık, teşekkürler!")

    analyse_conversation(due_analyses())

    found = {row[0]: row for row in metadata()}
    assert found[sad][1] < -0.05 < 0.05 < found[happy][1]
    assert (found[sad][5], found[happy][5]) == ("en", "tr")


def test_the_answer_has_no_say_in_the_mood(tenant):
    conversation = record(tenant, "What is the capital of France?")
    record(
        tenant,
        "Wonderful, great, excellent question! Paris.",
        conversation,
        role="ASSISTANT",
        model="m",
    )

    analyse_conversation(due_analyses())

    assert metadata()[0][1] == 0.0


def test_many_messages_share_one_analysis_and_the_next_message_asks_for_another(tenant):
    conversation = record(tenant, "Merhaba.")
    for number in range(4):
        record(tenant, f"Mesaj {number}", conversation)
    before = rows(ANALYSES)

    analyse_conversation(due_analyses())
    record(tenant, "Bir şey daha.", conversation)

    assert before == [("0", "PENDING")]
    assert rows(ANALYSES) == [("0", "COMPLETED"), ("1", "PENDING")]


def test_a_message_that_comes_while_it_is_analysed_is_analysed_next(tenant, database_url):
    conversation = record(tenant, "Merhaba.")
    jobs = due_analyses()

    with ThreadPoolExecutor(1) as threads:
        with db.transaction(tenant) as conn:
            (opened,) = messages.open_conversations(conn, [MessageTarget(conversation, None, "")])
            late = NewMessage(conversation, "USER", "Paketim hâlâ gelmedi, rezalet!")
            messages.insert_messages(conn, [late])
            publish(conn, AnalyseConversation(conversation_id=conversation, analysis=0))
            analysis = threads.submit(analyse_conversation, jobs)
            until_blocked(database_url)  # it has read and thought, and waits for us
        analysis.result(patience(20))
    first = metadata()
    asked = rows(ANALYSES)
    analyse_conversation(due_analyses())

    assert opened.analysis == 0
    assert asked == [("0", "COMPLETED"), ("1", "PENDING")]
    assert first[0][4] == 1
    assert metadata()[0][4] == 2
    assert metadata()[0][1] < -0.05
    assert [state for _, state in rows(ANALYSES)] == ["COMPLETED", "COMPLETED"]


def test_one_who_records_after_it_is_locked_asks_for_the_next_analysis(tenant):
    """The other way of the race: the analysis has the row, and the message comes after."""
    conversation = record(tenant, "Merhaba.")
    with db.transaction(tenant) as conn:
        standing = conversations.begin_next(conn, [conversation])

    record(tenant, "Bir şey daha.", conversation)

    assert standing[conversation].analysis == 1
    assert [analysis for analysis, _ in rows(ANALYSES)] == ["0", "1"]


def test_nothing_new_asks_for_no_other_analysis(tenant):
    record(tenant, "Merhaba.")

    analyse_conversation(due_analyses())

    assert rows(ANALYSES) == [("0", "COMPLETED")]


def test_a_second_delivery_writes_nothing(tenant):
    conversation = record(tenant, "Merhaba.")
    jobs = due_analyses()
    analyse_conversation(jobs)

    with pytest.raises(LeaseLost):
        analyse_conversation(jobs)

    assert rows('SELECT "analysis" FROM "Conversation"') == [(1,)]
    assert len(metadata()) == 1
    assert metadata()[0][0] == conversation


def test_an_analysis_does_not_move_the_conversation(tenant):
    record(tenant, "Merhaba.")
    before = rows('SELECT "updatedAt" FROM "Conversation"')

    analyse_conversation(due_analyses())

    assert rows('SELECT "updatedAt" FROM "Conversation"') == before
    with db.transaction(tenant) as conn:
        conn.execute("""UPDATE "Conversation" SET "title" = 'Another'""")
    assert rows('SELECT "updatedAt" FROM "Conversation"') > before


def test_a_conversation_that_is_gone_is_nobodys_failure(tenant):
    record(tenant, "Merhaba.")
    record(tenant, "Günaydın.")
    jobs = due_analyses()
    with db.transaction(tenant) as conn:
        conn.execute('DELETE FROM "Conversation" WHERE "id" = %s', [jobs[0][0].conversation_id])

    analyse_conversation(jobs)

    assert job(jobs[0][1].job_id)["outcome"] == {"gone": True}
    assert [row[0] for row in metadata()] == [jobs[1][0].conversation_id]


def test_one_without_a_persons_words_has_neither_mood_nor_topic(tenant):
    record(tenant, "Hoş geldiniz, size nasıl yardımcı olabilirim?", role="ASSISTANT", model="m")

    analyse_conversation(due_analyses())

    assert metadata()[0][1:3] == (None, "other")


def test_only_the_newest_messages_are_read(tenant):
    conversation = record(tenant, "x")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "Message" ("conversationId", "role", "content", "createdAt")
               SELECT %s, 'USER', 'n' || n, now() + n * interval '1 s'
               FROM generate_series(1, 60) n""",
            [conversation],
        )

    how = ReadingLimits(turns=50, chars=2, vectors=10, model="none")
    with db.transaction(tenant) as conn:
        thread = conversations.select_threads(conn, [conversation], how)[conversation]

    assert [turn.content for turn in thread.turns] == [f"n{n}"[:2] for n in range(11, 61)]
    assert thread.messages == 61


def test_stored_vectors_of_the_local_model_are_used_and_say_the_same(tenant):
    record(tenant, "Where is my parcel, when will it be delivered?")
    ids = [id_ for (id_,) in rows('SELECT "id" FROM "Message"')]
    for lease in claim(
        *publish_jobs(tenant, [EmbedMessages(message_ids=ids, model=topics.model())])
    ):
        do(lease)

    with db.transaction(tenant) as conn:
        (thread,) = conversations.select_threads(conn, _ids(), actor.READ).values()
    analyse_conversation(due_analyses())

    vector = thread.turns[0].vector
    own = topics.embedded([thread.turns[0].content])[0]
    assert abs(float(vector @ own) - 1) < 1e-3
    assert metadata()[0][2] == "delivery"


def test_another_tenants_conversation_is_not_there(tenant):
    conversation = record(tenant, "Merhaba.")
    other = make_tenant()

    with db.transaction(other) as conn:
        assert conversations.select_threads(conn, [conversation], actor.READ) == {}
        assert conversations.begin_next(conn, [conversation]) == {}


def _ids():
    return [id_ for (id_,) in rows('SELECT "id" FROM "Conversation"')]
