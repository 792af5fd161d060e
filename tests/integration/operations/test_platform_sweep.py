"""What the platform writes into its own tables becomes work here: once, and its text stays."""

import threading

import psycopg
import pytest
from psycopg import sql

from producers.ledger import scheduler
from producers.operations import platform_changes as sweeping
from producers.operations import platform_tables
from producers.queries.operations import schema_facts
from shared import db
from shared.db import Role
from shared.queries.ledger import dispatches
from tests.support.factories import claim, do, do_all, job, make_tenant, rows, waiting
from tests.support.sample_documents import article, chunks_of, content_of, counts

pytestmark = pytest.mark.usefixtures("pool", "provider")


@pytest.fixture
def conn(database_url):
    """A connection of the platform, each statement its own transaction."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET ROLE ailydian_platform")
        yield connection


class AfterOneTurn(threading.Event):
    """A stop that comes when the scheduler would wait for its next turn."""

    def wait(self, timeout=None):
        self.set()
        return True


def write(conn, table, tag, parents=None, **changed):
    """Create a row as the platform's client does: every column named. Returns its id."""
    row = platform_tables.sample_row(platform_tables.TABLES[table], tag, parents or {}) | changed
    row["id"] = f"{table}-{tag}"
    schema_facts.insert_row(conn, table, row)
    return row["id"]


def write_document(conn, tenant, tag="1", **changed):
    content = {"content": article(1, 2, 3), "source": "by the platform"}
    return write(conn, "Document", tag, tenantId=tenant, **content | changed)


def write_message(conn, tenant, tag="1", **changed):
    """A message, with the user and the conversation that it needs."""
    user = write(conn, "User", tag, {"Tenant": tenant})
    talk = write(conn, "Conversation", tag, {"User": user})
    parents = {"Conversation": talk, "AIModel": None}
    return write(conn, "Message", tag, parents, modelId=None, **changed)


def set_column(conn, table, row_id, column, value):
    query = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s")
    conn.execute(query.format(sql.Identifier(table), sql.Identifier(column)), [value, row_id])


def jobs():
    """What was published, as (job, tenant)."""
    return rows('SELECT "job", "tenantId" FROM "Job" ORDER BY "createdAt", "id"')


def test_a_document_of_the_platform_is_ingested_once(conn):
    tenant = make_tenant()
    write_document(conn, tenant)

    taken = [sweeping.sweep() for _ in range(2)]

    assert taken == [1, 0]
    assert jobs() == [("ingest_document", tenant)]


def test_a_message_of_the_platform_is_embedded_judged_and_analysed_once(conn, stub):
    tenant = make_tenant()
    message_id = write_message(conn, tenant, content="Günaydın, nasılsın?")

    for _ in range(2):
        sweeping.sweep()
    found = jobs()
    do_all()

    assert sorted(found) == [
        ("analyse_conversation", tenant),
        ("embed_messages", tenant),
        ("moderate_content", tenant),
    ]
    assert rows('SELECT "messageId", "model" FROM "MessageEmbedding"') == [
        (message_id, "text-embedding-3-small")
    ]
    assert stub.seen.bodies[-1]["input"] == ["Günaydın, nasılsın?"]


def test_a_message_that_the_platform_changes_is_embedded_again(conn, stub):
    tenant = make_tenant()
    message_id = write_message(conn, tenant, content="before")
    sweeping.sweep()
    do_all()

    for content in ("after", "before"):
        set_column(conn, "Message", message_id, "content", content)
        sweeping.sweep()
        do_all()

    assert [body["input"] for body in stub.seen.bodies] == [["before"], ["after"], ["before"]]
    assert len(rows('SELECT 1 FROM "MessageEmbedding"')) == 1


def test_a_message_that_is_changed_and_changed_back_is_judged_each_time(conn, stub):
    tenant = make_tenant()
    bad = "The key is sk-abcdefghijklmnopqrstuvwx."
    message_id = write_message(conn, tenant, content=bad)
    held = []
    for content in (None, "harmless", bad):
        if content is not None:
            set_column(conn, "Message", message_id, "content", content)
        sweeping.sweep()
        do_all()
        held += rows('SELECT "action" FROM "ModerationResult" WHERE NOT "superseded"')

    assert held == [("block",), ("allow",), ("block",)]


def test_an_answer_of_the_platform_is_scored_against_what_stands_before_it(conn, stub):
    tenant = make_tenant()
    write_message(conn, tenant, role="USER", content="Which lights burn?")
    conn.execute(
        """INSERT INTO "Message" ("conversationId", "role", "content")
           SELECT "conversationId", 'ASSISTANT', 'The harbour lights burn.' FROM "Message" """
    )

    sweeping.sweep()

    (asked,) = waiting("score_quality")
    assert job(asked)["payload"]["question"] == "Which lights burn?"


def test_a_hundred_messages_are_two_jobs(conn):
    tenant = make_tenant()
    write_message(conn, tenant)
    conn.execute(
        """INSERT INTO "Message" ("conversationId", "role", "content")
           SELECT "conversationId", "role", 'm' || n FROM "Message", generate_series(1, 99) AS n"""
    )

    sweeping.sweep()

    found = [job(one)["payload"]["message_ids"] for one in waiting("embed_messages")]
    assert [len(ids) for ids in found] == [64, 36]


def test_a_rating_reaches_the_score_of_its_message(conn):
    tenant = make_tenant()
    message_id = write_message(conn, tenant)
    write(conn, "QualityScore", "1", {"Message": message_id}, actualScore=None)
    write(conn, "Feedback", "1", messageId=message_id, userId="User-1", rating=4)

    sweeping.sweep()
    do_all()
    first = rows('SELECT "actualScore" FROM "QualityScore"')
    set_column(conn, "Feedback", "Feedback-1", "rating", 1)
    sweeping.sweep()
    do_all()

    assert first == [(0.75,)]
    assert rows('SELECT "actualScore" FROM "QualityScore"') == [(0.0,)]
    assert sweeping.sweep() == 0


def test_a_document_that_is_not_changed_in_its_text_is_no_work(conn):
    tenant = make_tenant()
    document_id = write_document(conn, tenant)
    sweeping.sweep()
    do_all()
    before = len(jobs())

    set_column(conn, "Document", document_id, "title", "Another title")
    sweeping.sweep()

    assert len(jobs()) == before


def test_an_ingested_document_keeps_the_platforms_text(conn):
    tenant = make_tenant()
    text = "\r\n  # Kıyı\u0000".replace("\0", "") + "\r\n\r\n" + article(1, 2, 3) + "  \n\n"
    document_id = write_document(conn, tenant, content=text)
    columns = 'SELECT "title", "source", "updatedAt", "metadata" FROM "Document"'
    before = rows(columns)

    sweeping.sweep()
    do_all()

    chunks = chunks_of(document_id)
    assert content_of(document_id) == text
    assert rows(columns) == before
    assert len(chunks) >= 3
    assert [text[start:end] for _, start, end in chunks] == [chunk for chunk, _, _ in chunks]
    found = counts()
    assert found["ChunkVector"] == found["ChunkEmbedding"] == found["ChunkText"] == len(chunks)


def test_a_changed_text_replaces_the_chunks(conn):
    tenant = make_tenant()
    document_id = write_document(conn, tenant)
    for content in (article(1, 9, 3), article(1, 2, 3)):
        sweeping.sweep()
        do_all()
        set_column(conn, "Document", document_id, "content", content)

    sweeping.sweep()
    do_all()

    content = content_of(document_id)
    assert content == article(1, 2, 3)
    assert all(content[start:end] == chunk for chunk, start, end in chunks_of(document_id))
    assert [row[0] for row in jobs()].count("ingest_document") == 3


def test_a_text_that_changes_while_it_is_ingested_waits_for_its_own_job(conn, stub):
    tenant = make_tenant()
    document_id = write_document(conn, tenant)
    sweeping.sweep()
    [lease] = claim(*waiting())
    set_column(conn, "Document", document_id, "content", article(7, 8))

    do(lease)  # reads the new text already, which its job did not name
    sweeping.sweep()
    do_all()

    content = content_of(document_id)
    assert [chunk for chunk, _, _ in chunks_of(document_id)] == [
        content[start:end] for _, start, end in chunks_of(document_id)
    ]
    assert "harbour 700" in chunks_of(document_id)[0][0]


def test_what_we_write_ourselves_is_no_change_of_the_platform(conn):
    tenant = make_tenant()
    write_document(conn, tenant)
    sweeping.sweep()

    do_all()

    assert sweeping.sweep() == 0


def test_rows_without_a_tenant_are_left_alone(conn):
    make_tenant()
    write_document(conn, None)

    assert sweeping.sweep() == 0
    assert jobs() == []


def test_each_tenants_changes_become_its_own_jobs(conn):
    one, other = make_tenant(), make_tenant()
    write_document(conn, one, "1")
    write_document(conn, other, "2")

    assert sweeping.sweep() == 2

    assert sorted(jobs()) == sorted([("ingest_document", one), ("ingest_document", other)])


def test_a_document_deleted_before_the_sweep_is_no_work(conn):
    document_id = write_document(conn, make_tenant())
    conn.execute('DELETE FROM "Document" WHERE "id" = %s', [document_id])

    sweeping.sweep()

    assert jobs() == []


def test_a_full_queue_keeps_the_changes_and_stops_no_scheduler(conn):
    tenant = make_tenant()
    write_document(conn, tenant)
    with db.transaction(None, role=Role.RELAY) as relay:
        dispatches.measure_depth(relay, ["ingest"], depth_max=0)

    scheduler.run(AfterOneTurn())
    kept = rows('SELECT "tableName" FROM "PlatformChange"')
    none = jobs()
    with db.transaction(None, role=Role.RELAY) as relay:
        dispatches.measure_depth(relay, ["ingest"], depth_max=10)
    scheduler.run(AfterOneTurn())

    assert (kept, none) == ([("Document",)], [])
    assert len(jobs()) == 1
