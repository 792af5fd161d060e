"""One bad entry at the Redis door, one bad key, one bad id: nobody else notices."""

import json
import threading
import time
from contextlib import contextmanager

import pytest
import redis

from producers.ledger import ingress_streams, redis_ingress
from producers.ledger.ingress_streams import ABANDONED_MS, DELIVERIES_MAX, GROUP
from producers.ledger.redis_ingress import RedisIngress
from producers.operations import incident_sweep
from shared.contracts import CONTRACTS, Contract
from shared.errors import ServerUnavailable
from tests.support.commands import document
from tests.support.factories import make_tenant, rows
from tests.support.patience import patience

STREAM = "ailydian:publish"
REPLY = "ailydian:reply:"
LAST_ID = "18446744073709551615-18446744073709551615"
DEEP = "[" * 254 + "]" * 254

MESSAGE = '{"content": "hi", "role": "USER", "parameters": %s}'
AUDIT = '{"action": "a", "resource": "r", "actor": "x", "entry_id": "e", "what": %s}'
START = '{"name": "w", "input": %s}'


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


@pytest.fixture
def ingress(client):
    made = RedisIngress(client, "ailydian")
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    return made


@pytest.fixture
def fragile():
    """A job whose code raises what nobody expects."""

    class FragileNote(Contract, queue="maintenance"):
        note: str

        def limit_key(self) -> str:
            raise ZeroDivisionError(self.note)

    yield FragileNote
    del CONTRACTS["fragile_note"]


def send(client, key, *, job="probe", tenant="a", payload='{"n": 1}', **more):
    """Send an entry. Returns its id."""
    fields = {"job": job, "tenant": tenant, "key": key, "payload": payload}
    return client.xadd(STREAM, fields, **more)


def reply(client, key):
    """The reply to a key, taken."""
    found = client.lpop(f"{REPLY}{key}")
    return found and json.loads(found)


def abandon(client, *entries, deliveries=None):
    """Let entries lie with a reader that is gone, after so many deliveries."""
    client.xclaim(
        STREAM, GROUP, "gone", 0, list(entries), idle=2 * ABANDONED_MS, retrycount=deliveries
    )


def deliveries(client):
    """How often each entry was delivered that is not acknowledged."""
    return [one["times_delivered"] for one in client.xpending_range(STREAM, GROUP, "-", "+", 100)]


@contextmanager
def running(redis_url):
    """A door that runs until the block ends; it must not have ended before."""
    stop = threading.Event()
    ingress = RedisIngress(redis.Redis.from_url(redis_url), "ailydian")
    thread = threading.Thread(target=ingress.run, args=(stop,))
    thread.start()
    yield
    alive = thread.is_alive()
    stop.set()
    thread.join(patience(10))
    assert alive


# ---- one bad entry


@pytest.mark.parametrize(
    ("job", "payload"),
    [("record_message", MESSAGE), ("append_audit", AUDIT), ("start_workflow", START)],
)
@pytest.mark.parametrize(
    "value",
    [
        '{"a": "cut \\ud83d"}',
        '{"\\udc00": 1}',
        f'{{"a": {DEEP}}}',
        '{"a": ' + '{"a":' * 5_000 + "1" + "}" * 5_001,
        '{"a": NaN}',
        '{"a": 1e5000}',
        '{"a": -1e400}',
        '{"a": ' + "9" * 5_000 + "}",
        '{"a": "b\\u0000"}',
    ],
    ids=range(9),
)  # fmt: skip
def test_a_free_form_field_that_cannot_be_stored_is_refused_and_its_neighbours_are_not(
    ingress, client, job, payload, value
):
    make_tenant("a")
    make_tenant("b")
    send(client, "before")
    send(client, "bad", job=job, tenant="b", payload=payload % value)
    send(client, "after", payload='{"n": 2}')
    began = time.monotonic()

    ingress.turn(block_s=0.001)

    assert time.monotonic() - began < patience(1)
    assert reply(client, "bad")["error"] == "payload_refused"
    assert [reply(client, key)["accepted"] for key in ("before", "after")] == [True, True]
    assert client.xlen(STREAM) == 0


def test_what_raises_something_unexpected_comes_again_and_then_goes_to_the_quarantine(
    ingress, client, fragile
):
    make_tenant("a")
    entry = send(client, "bad", job="fragile_note", payload='{"note": "x"}')
    for n in range(30):
        send(client, f"good{n}", payload=f'{{"n": {n}}}')

    ingress.turn(block_s=0.001)

    assert all(reply(client, f"good{n}")["accepted"] for n in range(30))
    for delivery in range(1, DELIVERIES_MAX):
        assert deliveries(client) == [delivery]
        assert reply(client, "bad") is None
        abandon(client, entry, deliveries=delivery)
        ingress.turn(block_s=0.001)
    abandon(client, entry, deliveries=DELIVERIES_MAX)
    ingress.turn(block_s=0.001)

    assert reply(client, "bad")["error"] == "quarantined"
    [(*kind, message)] = rows('SELECT "queue", "source", "reason", "message" FROM "Quarantine"')
    assert kind == ["maintenance", "door", "delivered_too_often"]
    assert json.loads(message)["job"] == "fragile_note"
    assert json.loads(message)["stream"] == STREAM
    assert deliveries(client) == []
    assert client.xlen(STREAM) == 0


def test_an_entry_that_ends_its_reader_takes_no_neighbour_to_the_quarantine(ingress, client):
    make_tenant("a")
    for n in range(4):
        send(client, f"k{n}")
    [[_, entries]] = client.xreadgroup(GROUP, "gone", {STREAM: ">"})
    killer, *others = [entry for entry, _ in entries]
    abandon(client, *others, deliveries=1)
    abandon(client, killer, deliveries=DELIVERIES_MAX)

    served = [ingress.turn(block_s=0.001) for _ in range(5)]

    assert served == [1, 1, 1, 1, 0]
    assert reply(client, "k0")["error"] == "quarantined"
    assert [reply(client, f"k{n}")["accepted"] for n in (1, 2, 3)] == [True] * 3


def test_an_outage_of_postgres_counts_no_delivery(ingress, client, monkeypatch):
    make_tenant("a")
    for n in range(3):
        send(client, f"k{n}")

    with monkeypatch.context() as patch:
        patch.setattr(redis_ingress, "_tenant", _away)
        for _ in range(2 * DELIVERIES_MAX):
            with pytest.raises(ServerUnavailable):
                ingress.turn(block_s=0.001)
            assert deliveries(client) == [0, 0, 0]

    assert ingress.turn(block_s=0.001) == 3
    assert reply(client, "k0")["accepted"]


def _away(rights, slug):
    raise ServerUnavailable("Postgres is not responding.")


# ---- one bad reply key


def test_a_reply_key_of_another_type_costs_the_other_replies_nothing(ingress, client):
    make_tenant("a")
    client.xadd(f"{REPLY}evil", {"a": "b"})
    client.set(f"{REPLY}worse", "x")
    for key in ("k1", "evil", "k2", "worse", "k3"):
        send(client, key)

    assert ingress.turn(block_s=0.001) == 5

    for key in ("k1", "evil", "k2", "worse", "k3"):
        assert 0 < client.ttl(f"{REPLY}{key}") <= redis_ingress.REPLY_TTL_S
        assert reply(client, key)["accepted"]
    assert client.xlen(STREAM) == 0


def test_many_bad_reply_keys_do_not_slow_a_running_door_down(redis_url, client):
    make_tenant("a")
    for n in range(20):
        client.xadd(f"{REPLY}evil{n}", {"a": "b"})
    with running(redis_url):
        send(client, "warm")
        client.blpop(f"{REPLY}warm", patience(20))
        began = time.monotonic()
        for n in range(20):
            send(client, f"evil{n}", payload=f'{{"n": {n}}}')
            send(client, f"good{n}", payload=f'{{"n": {n}}}')
            assert client.blpop(f"{REPLY}good{n}", patience(20))

        assert time.monotonic() - began < patience(5)  # a second each would be twenty


def test_a_reply_key_that_names_an_error_does_not_delete_the_stream(ingress, client):
    make_tenant("a")
    client.xadd(f"{REPLY}WRONGTYPE of pipeline", {"a": "b"})
    send(client, "WRONGTYPE of pipeline")
    send(client, "k1")

    ingress.turn(block_s=0.001)
    ingress_streams.mend_type(client, ingress_streams.stream_of("ailydian", "default"))

    assert client.exists(STREAM)
    assert reply(client, "k1")["accepted"]


# ---- one bad id


@pytest.mark.parametrize("last_id", [LAST_ID, "18446744073709551615-0", "9999999999999-1"])
def test_a_stream_that_is_used_up_is_replaced_and_what_waits_in_it_is_kept(
    ingress, client, last_id
):
    make_tenant("a")
    send(client, "in hand")
    client.xreadgroup(GROUP, "another", {STREAM: ">"})
    for n in range(redis_ingress.BATCH_MAX + 5):
        send(client, f"k{n}", payload=f'{{"n": {n}}}')
    send(client, "last", id=last_id)

    ingress.check()
    send(client, "new")
    while ingress.turn(block_s=0.001):
        continue

    for key in ("in hand", "k0", f"k{redis_ingress.BATCH_MAX + 4}", "last", "new"):
        assert reply(client, key)["accepted"], key
    assert client.keys("ailydian:moved:*") == []


def test_a_stream_that_is_used_up_is_told_by_status_and_by_an_incident(run, ingress, client):
    send(client, "last", id=LAST_ID)
    before = document(run("status", "--json"))

    ingress.check()
    after = document(run("status", "--json"))
    page = run("status")[1]

    [door] = [one for one in before["checks"] if one["name"] == "door"]
    assert (door["ok"], LAST_ID in door["detail"]) == (False, True)
    [door] = [one for one in after["checks"] if one["name"] == "door"]
    assert door["ok"]
    assert after["openIncidents"][0]["title"] == "The stream ailydian:publish was used up"
    assert "was used up" in page
    [incident] = document(run("incidents", "list", "--json"))
    assert (incident["cause"], incident["severity"]) == (f"door:{STREAM}", "HIGH")
    assert LAST_ID in incident["description"]


def test_the_incident_of_a_used_up_stream_resolves_when_it_does_not_happen_again(ingress, client):
    send(client, "last", id=LAST_ID)
    ingress.check()
    rows("""UPDATE "Incident" SET "lastSeenAt" = now() - interval '1 hour' RETURNING 1""")

    incident_sweep.sweep()

    assert rows('SELECT "status"::text FROM "Incident"') == [("RESOLVED",)]


def test_a_repair_that_was_interrupted_is_completed(ingress, client):
    make_tenant("a")
    send(client, "k1")
    client.rename(STREAM, "ailydian:moved:publish")

    ingress.check()
    ingress.turn(block_s=0.001)

    assert reply(client, "k1")["accepted"]
    assert client.keys("ailydian:moved:*") == []


@pytest.mark.parametrize("used_up", [True, False])
def test_a_repair_key_of_another_type_costs_no_other_stream(run, ingress, client, used_up):
    make_tenant("a")
    assert run("publishers", "put", "shop", "--tenant", "a", "--job", "probe")[0] == 0
    client.set("ailydian:moved:publish", "mine")
    if used_up:
        send(client, "first", id=LAST_ID)
    client.xadd(f"{STREAM}:shop", {"key": "x"}, id=LAST_ID)

    ingress.check()

    assert client.xinfo_stream(f"{STREAM}:shop")["last-generated-id"] != LAST_ID.encode()
    ingress._check_at = 0.0
    ingress.check()
    send(client, "k1")
    while ingress.turn(block_s=0.001):
        continue
    assert reply(client, "k1")["accepted"]
    assert client.keys("ailydian:moved:*") == []


def test_an_entry_of_thousands_of_fields_does_not_stop_a_repair(ingress, client):
    make_tenant("a")
    client.xadd(STREAM, {"key": "wide"} | {f"f{n}": "x" for n in range(20_000)})
    send(client, "last", id=LAST_ID)

    ingress.check()
    ingress.turn(block_s=0.001)

    assert reply(client, "wide")["error"] == "payload_refused"
    assert reply(client, "last")["accepted"]


def test_a_running_door_accepts_again_within_seconds(redis_url, client):
    make_tenant("a")
    with running(redis_url):
        send(client, "warm")
        assert client.blpop(f"{REPLY}warm", patience(20))
        send(client, "last", id=LAST_ID)
        began = time.monotonic()
        while True:
            try:
                send(client, "k1")
                break
            except redis.ResponseError:
                assert time.monotonic() - began < patience(10)

        assert json.loads(client.blpop(f"{REPLY}k1", patience(20))[1])["accepted"]


@pytest.mark.parametrize("overwrite", [("SET", STREAM, "x"), ("LPUSH", STREAM, "x")])
def test_a_stream_that_was_overwritten_with_another_type_is_made_again(
    redis_url, client, overwrite
):
    make_tenant("a")
    with running(redis_url):
        send(client, "warm")
        assert client.blpop(f"{REPLY}warm", patience(20))
        client.delete(STREAM)
        client.execute_command(*overwrite)
        began = time.monotonic()
        while client.type(STREAM) != b"stream":
            assert time.monotonic() - began < patience(10)
        send(client, "k1")

        assert json.loads(client.blpop(f"{REPLY}k1", patience(20))[1])["accepted"]
