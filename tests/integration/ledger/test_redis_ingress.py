"""Redis ingress: what comes in by XADD is accepted once, or refused with a reason, and is gone."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis
import yaml

from producers.ledger.ingress_floods import QUIET_MAX
from producers.ledger.redis_ingress import (
    BATCH_MAX,
    FIELD_BYTES_MAX,
    GROUP,
    REPLY_TTL_S,
    RedisIngress,
)
from shared import db
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.queries.ledger import dispatches
from tests.support.factories import job, make_tenant, rows
from tests.support.patience import patience

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yml"
STREAM = "ailydian:publish"
REPLY = "ailydian:reply:"
WAITING = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = '\"JobOutbox\"'::regclass"


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        connected.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        yield connected


@pytest.fixture
def ingress(client):
    return RedisIngress(client, "ailydian")


def request(key, tenant="a", **changed):
    """The fields of an entry; a change to None leaves the field out."""
    fields = {"job": "probe", "tenant": tenant, "key": key, "payload": '{"n": 1}'} | changed
    return {name: value for name, value in fields.items() if value is not None}


def reply(client, key):
    """The one reply to a key, or None."""
    [message] = client.lrange(REPLY.encode() + key, 0, -1) or [None]
    return message and json.loads(message)


@contextmanager
def held_up(database_url):
    """Let no job be accepted for a while: the transactions that try to wait."""
    with psycopg.connect(database_url) as conn:
        conn.execute('LOCK TABLE "JobOutbox"')
        yield conn


def is_empty(client):
    """Whether nothing is left to serve: no entry, and none that was read and not acknowledged."""
    return client.xlen(STREAM) == 0 and client.xpending(STREAM, GROUP)["pending"] == 0


def serve(ingress, client, fields):
    """Send one entry, serve it, and return the reply to its key."""
    client.xadd(STREAM, fields)
    assert ingress.turn(block_s=0.001) == 1
    key = fields.get("key", b"")
    return reply(client, key if isinstance(key, bytes) else key.encode())


# ---- what is accepted


def test_an_accepted_request_is_a_job_and_its_reply_names_it(ingress, client):
    make_tenant("a")

    answer = serve(ingress, client, request("k1"))

    assert answer == {"accepted": True, "id": answer["id"], "duplicate": False, "state": "PENDING"}
    row = job(answer["id"])
    assert (row["job"], row["tenantId"], row["key"]) == ("probe", "a", "k1")
    assert row["payload"]["n"] == 1
    assert is_empty(client)


def test_a_reply_can_be_waited_for_and_does_not_stay_for_ever(ingress, client):
    make_tenant("a")
    client.xadd(STREAM, request("k1"))

    ingress.turn(block_s=0.001)

    assert 0 < client.ttl(f"{REPLY}k1") <= REPLY_TTL_S
    assert json.loads(client.blpop(f"{REPLY}k1", 1)[1])["accepted"]


def test_the_same_key_again_is_a_duplicate_of_the_same_job(ingress, client):
    make_tenant("a")

    first = serve(ingress, client, request("k1"))
    client.delete(f"{REPLY}k1")
    second = serve(ingress, client, request("k1"))

    assert (second["accepted"], second["duplicate"]) == (True, True)
    assert second["id"] == first["id"]
    assert len(rows('SELECT 1 FROM "Job"')) == 1


def test_the_same_key_of_two_tenants_is_two_jobs(ingress, client):
    make_tenant("a")
    make_tenant("b")
    for tenant in ("a", "b"):
        client.xadd(STREAM, request("k1", tenant))

    ingress.turn(block_s=0.001)

    assert rows('SELECT "tenantId" FROM "Job" ORDER BY 1') == [("a",), ("b",)]


def test_a_crowd_is_served_in_batches(ingress, client):
    make_tenant("a")
    for n in range(BATCH_MAX + 50):
        client.xadd(STREAM, request(f"k{n}", payload=f'{{"n": {n}}}'))

    served = list(iter(lambda: ingress.turn(block_s=0.001), 0))

    assert sum(served) == BATCH_MAX + 50
    assert max(served) <= BATCH_MAX + QUIET_MAX
    assert len(rows('SELECT 1 FROM "Job"')) == BATCH_MAX + 50


def test_a_request_is_not_answered_before_its_job_is_committed(ingress, client, database_url):
    make_tenant("a")
    client.xadd(STREAM, request("k1"))
    with ThreadPoolExecutor(1) as threads:
        with held_up(database_url) as conn:
            turn = threads.submit(ingress.turn, block_s=0.001)
            while not conn.execute(WAITING).fetchall():
                assert not turn.done()
            early = client.llen(f"{REPLY}k1"), client.xlen(STREAM)
        turn.result(patience(10))

    assert early == (0, 1)
    assert reply(client, b"k1")["accepted"]


# ---- what is refused


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (request("k", job="no_such_job"), "unknown_job"),
        (request("k", tenant="nobody"), "tenant_not_found"),
        (request("k", tenant="a\0b"), "payload_refused"),
        (request("k", payload="{"), "payload_refused"),
        (request("k", payload="[1]"), "payload_refused"),
        (request("k", payload="[" * 100_000), "payload_refused"),
        (request("k", payload='{"n": ' + "9" * 5_000 + "}"), "payload_refused"),
        (request("k", payload='{"n": NaN}'), "payload_refused"),
        (request("k", payload='{"n": "many"}'), "payload_refused"),
        (request("k", payload='{"m": 1}'), "payload_refused"),
        (request("k", payload='{"note": "a\\u0000b"}'), "payload_refused"),
        (request("k", payload='{"note": "\\ud800"}'), "payload_refused"),
        (request("k", payload='{"\\ud800": 1}'), "payload_refused"),
        (
            request("k", job="embed_chunks", payload=json.dumps(
                {"document_id": "d", "chunk_ids": ["x" * 5_000] * 60, "model": "m"})),
            "payload_too_large",
        ),
        (request("k", payload='{"note": "' + "x" * 1_000_000 + '"}'), "payload_too_large"),
        (request("k", job="x" * 1_000_000), "unknown_job"),
        (request("k", payload='{"' + "x" * 300_000 + '": 1}'), "payload_refused"),
        (request("k", delay="5"), "payload_refused"),
        (request("k", tenant=None), "payload_refused"),
        (request("k", payload=None), "payload_refused"),
        (request("k", payload=b"\xff\xfe"), "payload_refused"),
        (request("k\0"), "payload_refused"),
        (request(b"k\xff"), "payload_refused"),
        (request("k" * (FIELD_BYTES_MAX + 1)), "payload_refused"),
        (request("k", tenant="t" * 20_000_000), "payload_refused"),
        (request("k", traceparent="t" * 20_000_000), "payload_refused"),
        (request("k", job=b"\xff" * 1_000_000), "unknown_job"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_with_a_code_and_leaves_the_stream(ingress, client, fields, code):
    make_tenant("a")

    answer = serve(ingress, client, fields)

    assert (answer["accepted"], answer["error"]) == (False, code)
    assert 0 < len(answer["message"]) < 3_000
    assert is_empty(client)
    assert rows('SELECT 1 FROM "Job"') == []


@pytest.mark.parametrize("key", [None, ""])
def test_a_request_without_a_key_cannot_be_answered_and_leaves_the_stream(ingress, client, key):
    make_tenant("a")
    client.xadd(STREAM, request(key))

    ingress.turn(block_s=0.001)

    assert is_empty(client)
    assert client.keys(f"{REPLY}*") == []


def test_a_full_queue_refuses_at_the_door_too(ingress, client):
    make_tenant("a")
    with db.transaction(None, role=Role.RELAY) as conn:
        dispatches.measure_depth(conn, ["maintenance"], depth_max=0)

    assert serve(ingress, client, request("k1"))["error"] == "queue_full"


def test_one_bad_request_does_not_spoil_the_batch(ingress, client):
    make_tenant("a")
    for n in range(6):
        client.xadd(STREAM, request(f"k{n}"))
    client.xadd(STREAM, request("unread", payload="{"))
    client.xadd(STREAM, request("large", payload=json.dumps({"note": "ü" * 10_000})))
    client.xadd(STREAM, request("bad\0key"))

    ingress.turn(block_s=0.001)

    answers = [reply(client, f"k{n}".encode())["accepted"] for n in range(6)]
    assert answers == [True] * 6
    assert not reply(client, b"unread")["accepted"]
    assert reply(client, b"large")["accepted"]
    assert not reply(client, b"bad\0key")["accepted"]
    assert len(rows('SELECT 1 FROM "Job"')) == 7
    assert is_empty(client)


# ---- what was interrupted


def test_what_a_dead_door_had_read_is_served_by_another(ingress, client):
    make_tenant("a")
    client.xadd(STREAM, request("k1"))
    [[_, [(entry, _)]]] = client.xreadgroup(GROUP, "dead-ingress", {STREAM: ">"})

    too_early = ingress.turn(block_s=0.001)
    client.xclaim(STREAM, GROUP, "dead-ingress", 0, [entry], idle=60_000)
    served = ingress.turn(block_s=0.001)

    assert (too_early, served) == (0, 1)
    assert reply(client, b"k1")["accepted"]
    assert is_empty(client)


def test_what_a_door_committed_before_it_died_is_a_duplicate(ingress, client):
    make_tenant("a")
    first = serve(ingress, client, request("k1"))
    client.delete(f"{REPLY}k1")
    client.xadd(STREAM, request("k1"))  # as it lay there, committed and not acknowledged
    [[_, [(entry, _)]]] = client.xreadgroup(GROUP, "dead-ingress", {STREAM: ">"})
    client.xclaim(STREAM, GROUP, "dead-ingress", 0, [entry], idle=60_000)

    ingress.turn(block_s=0.001)

    assert reply(client, b"k1") == first | {"duplicate": True}


def test_a_request_that_postgres_left_in_the_lurch_is_served_later(ingress, client, database_url):
    make_tenant("a")
    client.xadd(STREAM, request("k1"))
    with (
        psycopg.connect(database_url, autocommit=True) as other,
        ThreadPoolExecutor(1) as threads,
        held_up(database_url),
    ):
        turn = threads.submit(ingress.turn, block_s=0.001)
        while not other.execute(f"SELECT pg_terminate_backend(pid) FROM ({WAITING})").fetchall():
            assert not turn.done()
        failed = turn.exception(patience(10))
    left = client.xpending_range(STREAM, GROUP, "-", "+", 10)
    early = client.llen(f"{REPLY}k1")

    client.xclaim(STREAM, GROUP, "any", 0, [left[0]["message_id"]], idle=60_000)
    ingress.turn(block_s=0.001)

    assert isinstance(failed, ServerUnavailable)
    assert early == 0
    assert reply(client, b"k1")["accepted"]


def test_a_running_door_opens_its_stream_again_after_a_wipe(redis_url, client):
    make_tenant("a")
    ingress, stop = RedisIngress(redis.Redis.from_url(redis_url), "ailydian"), threading.Event()
    thread = threading.Thread(target=ingress.run, args=(stop,))
    client.flushdb()

    thread.start()
    client.xadd(STREAM, request("k1"))
    answer = client.blpop(f"{REPLY}k1", 20)
    client.flushdb()
    client.xadd(STREAM, request("k2"))
    again = client.blpop(f"{REPLY}k2", 20)
    stop.set()
    thread.join(patience(10))

    assert json.loads(answer[1])["accepted"]
    assert json.loads(again[1])["accepted"]


# ---- who may


def rules_of(user):
    """The rules that the compose file gives a user of Redis, but for its password."""
    command = yaml.safe_load(COMPOSE.read_text())["services"]["redis"]["command"]
    rules = command[command.index(user) + 1 :]
    end = rules.index("--user") if "--user" in rules else len(rules)
    return [rule for rule in rules[:end] if "$" not in rule]


@contextmanager
def user_of(redis_url, client, name):
    """A client of a user with the rules of the compose file."""
    # SELECT is for the test's own database; in production the ingress is in the first.
    rules = [*rules_of(name), ">secret", "+select"]
    client.execute_command("ACL", "SETUSER", f"{name}-2", "reset", *rules)
    with redis.Redis.from_url(redis_url, username=f"{name}-2", password="secret") as connected:
        yield connected
    client.acl_deluser(f"{name}-2")


@pytest.fixture
def service(redis_url, client):
    """A client of a user who may use the ingress and nothing else."""
    with user_of(redis_url, client, "publisher") as connected:
        yield connected


def test_the_page_gives_a_publisher_the_rules_of_the_compose_file():
    for rule in rules_of("publisher"):
        if rule != "resetchannels":
            assert rule in (ROOT / "producers/README.md").read_text()


def test_the_door_does_all_of_its_work_with_the_rules_of_the_compose_file(redis_url, client):
    make_tenant("a")
    with user_of(redis_url, client, "ailydian") as restricted:
        ingress = RedisIngress(restricted, "ailydian")
        client.xadd(f"{REPLY}k1", {"a": "b"})
        client.xadd(STREAM, request("k1"))
        client.xreadgroup(GROUP, "gone", {STREAM: ">"})
        client.xadd(STREAM, request("k2"), id="18446744073709551615-18446744073709551615")
        ingress.check()
        while ingress.turn(block_s=0.001):
            continue

    assert reply(client, b"k1")["accepted"]
    assert reply(client, b"k2")["accepted"]


def test_a_service_with_the_doors_rights_can_publish_and_read_its_reply(service, ingress, client):
    make_tenant("a")

    service.execute_command("XADD", STREAM, "*", *sum(request("k1").items(), ()))
    ingress.turn(block_s=0.001)

    assert json.loads(service.blpop(f"{REPLY}k1", 1)[1])["accepted"]


@pytest.mark.parametrize(
    "command",
    [
        ("RPUSH", "ailydian:queue:maintenance", "{}"),
        ("LPOP", "ailydian:queue:maintenance"),
        ("BLPOP", "ailydian:queue:maintenance", 1),
        ("XADD", "ailydian:other", "*", "a", "b"),
        ("XADD", f"{REPLY}k1", "*", "a", "b"),
        ("RPUSH", f"{REPLY}k1", "{}"),
        ("BLPOP", STREAM, 1),
        ("LPOP", STREAM),
        ("XREAD", "STREAMS", STREAM, "0"),
        ("XDEL", STREAM, "0-1"),
        ("DEL", "ailydian:epoch"),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
    ],
)
def test_a_service_with_the_doors_rights_can_do_nothing_else(service, command):
    with pytest.raises(redis.exceptions.NoPermissionError):
        service.execute_command(*command)
