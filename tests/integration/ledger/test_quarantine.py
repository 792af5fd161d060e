"""The quarantine: counted, capped, edited into sense, sent again, thrown away."""

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from producers.cli.ledger.quarantine import read_choice, wire
from producers.errors import JobNotFound
from producers.ledger import quarantine_actions, quarantine_edit
from producers.ledger.ingress_entries import quarantined
from producers.ledger.redis_ingress import RedisIngress
from shared import db
from shared.db import Role
from shared.errors import EditRefused, PayloadRefused
from shared.ledger import outbox
from shared.ledger.wakeups import Wire, connect
from shared.queries.ledger import quarantines
from shared.queries.ledger.quarantines import BadMessage, QuarantineFilters
from tests.support.commands import document
from tests.support.factories import environment, make_tenant, publish_probe, rows

KEY = b"a key for tests, as long as it must be"
WIRE = Wire("ailydian", KEY)
ANY = {
    "ids": (),
    "every": True,
    "dry_run": False,
    "rate": None,
    "queue": None,
    "error": None,
    "since": None,
    "until": None,
}


def bad(content, *, reason="not_json", kept=64 * 1024):
    digest = hashlib.sha256(content).hexdigest()
    return BadMessage(reason, content[:kept], len(content), digest)


def keep(*messages, queue="ingest"):
    """Quarantine messages, in a transaction each, and return the ids of all there are."""
    for message in messages:
        with db.transaction(None, role=Role.RELAY) as conn:
            quarantines.insert_quarantined(conn, queue, [message])
    return [row[0] for row in rows('SELECT "id" FROM "Quarantine" ORDER BY "receivedAt", "id"')]


def kept():
    return {bytes(row[0]) for row in rows('SELECT "message" FROM "Quarantine"')}


def replay(client, **given):
    choice = read_choice(ANY | given)
    return quarantine_actions.act(quarantine_actions.sender(client, WIRE), "replay", choice)


def edit(message_id, fields):
    with outbox.published_by("cli:ada"), db.transaction(None, role=Role.RELAY) as conn:
        quarantine_edit.edit(conn, wire(), message_id, fields)


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def signed():
    """Settings with a signing key, as the workers have it."""
    with environment(AILYDIAN_SIGNING_KEY=base64.b64encode(KEY).decode()):
        yield wire()


def test_the_same_bytes_again_are_only_counted(pool):
    keep(bad(b"{"), bad(b"{"), bad(b"["))

    assert rows('SELECT "message", "seen" FROM "Quarantine" ORDER BY "seen"') == [
        (b"[", 1),
        (b"{", 2),
    ]


def test_a_replay_sends_the_very_bytes_to_their_queues_and_the_rows_go(pool, client):
    keep(bad(b"\x00\xff{"), bad(b"two"))
    keep(bad(b"three"), queue="audit")

    assert replay(client) == (3, 3)
    assert replay(client) == (0, 0)

    assert sorted(client.lrange("ailydian:queue:ingest", 0, -1)) == [b"\x00\xff{", b"two"]
    assert client.lrange("ailydian:queue:audit", 0, -1) == [b"three"]
    assert kept() == set()
    [(action, count)] = rows('SELECT "action", "metadata" ->> \'count\' FROM "AuditLog"')
    assert (action, count) == ("quarantine.replay", "3")


def test_five_presses_at_once_send_each_message_once(pool, client):
    keep(*[bad(f"bad {number}".encode()) for number in range(50)])

    with ThreadPoolExecutor(5) as presses:
        done = [press.result()[1] for press in [presses.submit(replay, client) for _ in range(5)]]

    assert sum(done) == 50
    assert client.llen("ailydian:queue:ingest") == 50


def test_what_cannot_be_sent_stays(pool):
    keep(bad(b"one"), bad(b"two"))
    with connect("redis://127.0.0.1:1/0") as nobody, pytest.raises(redis.RedisError):
        replay(nobody)

    assert kept() == {b"one", b"two"}
    assert rows('SELECT count(*) FROM "AuditLog"') == [(0,)]


def test_a_message_of_which_only_the_beginning_is_there_is_not_sent(pool, client):
    keep(bad(b"long and longer", kept=4, reason="too_large"), bad(b"whole"))

    assert replay(client) == (2, 1)

    assert client.lrange("ailydian:queue:ingest", 0, -1) == [b"whole"]
    assert kept() == {b"long"}


def test_filters_and_pages_discard_exactly_what_they_name(pool):
    keep(*[bad(f"bad {number}".encode()) for number in range(7)])
    keep(bad(b"other", reason="wrong_signature"), queue="audit")

    dry, given = (
        read_choice(ANY | more) for more in ({"dry_run": True}, {"error": "^not_", "rate": 400.0})
    )
    dry = quarantine_actions.act(quarantines.discard, "discard", dry)
    done = quarantine_actions.act(quarantines.discard, "discard", given)

    assert dry == (8, 0)
    assert done == (7, 7)
    assert kept() == {b"other"}


def test_an_edited_message_is_a_wakeup_that_we_signed(pool, client, signed):
    job_id = publish_probe(make_tenant())
    [message_id] = keep(bad(b'{"job": "torn'), queue="maintenance")

    edit(message_id, {"job": job_id, "attempt": 0})
    replay(client)

    [sent] = client.lrange("ailydian:queue:maintenance", 0, -1)
    assert signed.read("maintenance", sent) == (job_id, 0)
    [(what,)] = rows("""SELECT "metadata" FROM "AuditLog" WHERE "action" = 'quarantine.edit'""")
    assert what["before"]["head"] == 'b\'{"job": "torn\''
    assert what["after"]["job"] == job_id


def test_an_edit_keeps_its_diff_and_refuses_nonsense(pool, signed):
    job_id = publish_probe(make_tenant())
    first, second = keep(bad(b"one"), bad(b"two"), queue="maintenance")

    for fields in ({}, {"job": job_id}, {"job": job_id, "attempt": True}, {"job": 1, "attempt": 0}):
        with pytest.raises(PayloadRefused, match="job must be an id"):
            edit(first, fields)
    with pytest.raises(PayloadRefused, match="has no job with the id 'nobody'"):
        edit(first, {"job": "nobody", "attempt": 0})
    with pytest.raises(JobNotFound):
        edit("no-such-id", {"job": job_id, "attempt": 0})
    edit(first, {"job": job_id, "attempt": 0})
    with pytest.raises(EditRefused, match="already"):
        edit(second, {"job": job_id, "attempt": 0})

    [edits] = [row[0] for row in rows('SELECT "edits" FROM "Quarantine" WHERE "id" = %s', first)]
    assert edits[0]["changes"]["before"]["head"] == "b'one'"
    assert edits[0]["by"] == "cli:ada"
    assert b"two" in kept()


def test_a_flood_keeps_the_newest_and_counts_what_it_threw_away(pool):
    ids = keep(*[bad(f"bad {number}".encode()) for number in range(12)])

    with db.transaction(None, role=Role.RELAY) as conn:
        first = quarantines.trim(conn, kept=8, slack=4)
        [more] = keep(bad(b"one more"))[-1:]
        second = quarantines.trim(conn, kept=8, slack=4)
        third = quarantines.trim(conn, kept=8, slack=4)

    assert (first, second, third) == (0, 5, 0)
    left = [row[0] for row in rows('SELECT "id" FROM "Quarantine" ORDER BY "receivedAt", "id"')]
    assert left == [*ids[5:], more]
    assert rows('SELECT "action", "metadata" FROM "AuditLog"') == [
        ("quarantine.trim", {"count": 5, "queues": {"ingest": 5}})
    ]


def test_a_flood_through_the_door_of_the_quarantine_is_trimmed_by_itself(pool):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "Quarantine" ("queue", "reason", "message", "bytes", "sha256",
                                         "receivedAt")
               SELECT 'ingest', 'old', '', 0, n::text, now() - interval '1 hour'
               FROM generate_series(1, %s) AS n""",
            [quarantines.KEPT_MAX + quarantines.KEPT_SLACK],
        )
    flood = [bad(f"flood {number}".encode()) for number in range(64)]

    keep(*flood)

    with db.transaction(None, role=Role.RELAY) as conn:
        assert quarantines.count_quarantined(conn, QuarantineFilters()) <= quarantines.KEPT_MAX + 64
        assert quarantines.count_quarantined(conn, QuarantineFilters(error="not_json")) == 64


# ---- entries of the Redis door


def keep_entry(*, at="ailydian:publish", **changed):
    """Quarantine an entry of the door. Returns its id."""
    texts = {"job": "probe", "tenant": "a", "key": "k1", "payload": '{"n": 1}'} | changed
    fields = {name.encode(): text.encode() for name, text in texts.items()}
    one = quarantined("delivered_too_often", at, fields)
    with db.transaction(None, role=Role.RELAY) as conn:
        quarantines.insert_quarantined(conn, "maintenance", [one], source="door")
    return rows('SELECT "id" FROM "Quarantine" ORDER BY "receivedAt" DESC')[0][0]


def test_an_entry_of_the_door_is_shown_edited_replayed_and_accepted(run, pool, client):
    make_tenant("a")
    message_id = keep_entry()
    shown = document(run("quarantine", "show", message_id, "--json"))
    assert json.loads(base64.b64decode(shown["message"]))["payload"] == '{"n": 1}'

    run("quarantine", "edit", message_id, "--message", '{"payload": {"n": 2}, "key": "k2"}')
    done = document(run("quarantine", "replay", message_id, "--json"))
    ingress = RedisIngress(client, "ailydian")
    ingress.check()
    ingress.turn(block_s=0.001)

    assert done == {"matched": 1, "replayed": 1}
    assert rows('SELECT "key", "payload"->\'n\' FROM "Job"') == [("k2", 2)]
    assert json.loads(client.lpop("ailydian:reply:k2"))["accepted"]
    assert rows('SELECT 1 FROM "Quarantine"') == []
    assert rows(
        """SELECT "action" FROM "AuditLog" WHERE "resource" = 'Quarantine' ORDER BY 1"""
    ) == [
        ("quarantine.edit",),
        ("quarantine.replay",),
    ]


@pytest.mark.parametrize(
    "fields", ['{"payload": {"n": "x"}}', '{"job": "no_such"}', '{"other": "x"}', '{"key": ""}']
)
def test_an_edit_that_the_door_would_refuse_is_refused(run, pool, fields):
    message_id = keep_entry()

    code, said = run("quarantine", "edit", message_id, "--message", fields)

    assert (code, rows('SELECT "edits" FROM "Quarantine"')) == (2, [([],)]), said


def test_an_entry_that_cannot_be_sent_stays_and_is_told(run, pool, client):
    keep_entry(at="ailydian:publish:gone")
    keep_entry(stream="ailydian:publish", key="k2", at="ailydian:publish:gone")

    code, said = run("quarantine", "replay", "--all")

    assert code == 0
    assert "2 matched, 0 replayed." in said
    assert "2 could not be sent" in said
    assert len(rows('SELECT 1 FROM "Quarantine"')) == 2
    assert client.keys("ailydian:publish*") == []
