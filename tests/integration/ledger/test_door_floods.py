"""A flood at the Redis door: a publisher with few entries does not wait for one with many."""

import json
import threading
import time
from contextlib import contextmanager
from itertools import count, islice, pairwise

import pytest
import redis

from producers.ledger import redis_ingress
from producers.ledger.ingress_floods import BATCH_S, QUIET_MAX, Floods
from producers.ledger.ingress_streams import ABANDONED_MS, BATCH_MAX, GROUP, stream_of
from producers.ledger.redis_ingress import RedisIngress
from shared.errors import ServerUnavailable
from tests.support.factories import make_tenant, rows
from tests.support.patience import patience

LOUD, LOUDER, QUIET = (f"ailydian:publish:{name}" for name in ("loud", "louder", "quiet"))
REPLY = "ailydian:replies:quiet:"
REQUESTS = 20


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


@pytest.fixture
def publishers(run, pool):
    """Three publishers, and a tenant whose share of the queue is full."""
    make_tenant("a")
    full = make_tenant("full")
    rows(
        """INSERT INTO "TenantDepth" ("tenantId", "queue", "depth")
           VALUES (%s, 'maintenance', 1) RETURNING 1""",
        full,
    )
    for name in ("loud", "louder", "quiet"):
        every = [word for slug in ("a", "full") for word in ("--tenant", slug)]
        assert run("publishers", "put", name, *every, "--job", "probe")[0] == 0


def entry(kind, number):
    """An entry of a flood: small, large, or refused with the whole batch and then by itself."""
    return {
        "job": "probe",
        "tenant": "full" if kind == "refused" else "a",
        "key": f"{kind}{number}",
        "payload": f'{{"n": {number}}}' + (" " * 60_000 if kind == "large" else ""),
        "traceparent": f"00-{number + 1:032x}-{1:016x}-01",
    }


def keep_sending(client, kind, stop):
    """Send faster than the door serves, until stopped."""
    numbers = count()
    while not stop.is_set():
        hungry = [stream for stream in (LOUD, LOUDER) if client.xlen(stream) < 2 * BATCH_MAX]
        if not hungry:
            stop.wait(0.01)
        for stream in hungry:
            with client.pipeline(transaction=False) as pipe:
                for number in islice(numbers, BATCH_MAX):
                    pipe.xadd(stream, entry(kind, number))
                pipe.execute()


@contextmanager
def flooded(redis_url, kind):
    """A door that runs, and two publishers that flood it."""
    stop = threading.Event()
    clients = [redis.Redis.from_url(redis_url) for _ in range(2)]
    ingress = RedisIngress(clients[0], "ailydian")
    ingress.check()
    threads = [
        threading.Thread(target=keep_sending, args=(clients[1], kind, stop)),
        threading.Thread(target=ingress.run, args=(stop,)),
    ]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join(patience(20))
    for one in clients:
        one.close()


@pytest.mark.parametrize("kind", ["small", "large", "refused"])
def test_a_quiet_publisher_is_answered_within_a_second_while_others_flood(
    publishers, redis_url, client, kind
):
    waited = []
    with flooded(redis_url, kind):
        for number in range(REQUESTS):
            began = time.monotonic()
            client.xadd(QUIET, entry("quiet", number))
            [_, reply] = client.blpop(f"{REPLY}quiet{number}", patience(30))
            waited.append(time.monotonic() - began)
            assert json.loads(reply)["accepted"]
        behind = [client.xlen(stream) for stream in (LOUD, LOUDER)]

    assert all(behind), "the flood was served: nothing was measured"
    assert sorted(waited)[int(REQUESTS * 0.99)] < patience(1)


def test_an_entry_that_comes_during_a_batch_of_a_flood_is_served_next(
    publishers, client, monkeypatch
):
    ingress = RedisIngress(client, "ailydian")
    ingress.check()
    for stream in (LOUD, LOUDER):
        for number in range(4 * QUIET_MAX):
            client.xadd(stream, entry("small", number))
    ingress.turn(block_s=0.001)
    serve, served = ingress._serve, []

    def watched(stream, entries):
        serve(stream, entries)
        served.append(stream.key)
        if stream.key != QUIET:
            client.xadd(QUIET, entry("quiet", len(served)))

    monkeypatch.setattr(ingress, "_serve", watched)
    while ingress.turn(block_s=0.001):
        continue

    assert served.count(QUIET) == len(served) / 2 >= 2
    assert all(QUIET in pair for pair in pairwise(served))


def test_floods_are_read_in_turn_and_a_slow_one_in_smaller_batches():
    one, two = (stream_of("ailydian", name) for name in ("one", "two"))
    floods = Floods()
    for stream in (one, two):
        floods.begin(stream)
    seen = []
    for took_s in (0.0, 2 * BATCH_S) * 4:
        flood = floods.next([one, two])
        seen.append((flood.stream.publisher, flood.count))
        floods.served(flood, flood.count, took_s)

    counts = {name: [count for found, count in seen if found == name] for name in ("one", "two")}
    assert [name for name, _ in seen] == ["one", "two"] * 4
    assert counts == {"one": [40, 80, 160, BATCH_MAX], "two": [40, 20, 10, 5]}


def test_a_flood_ends_with_a_batch_that_is_not_full_and_with_its_publisher():
    one, two = (stream_of("ailydian", name) for name in ("one", "two"))
    floods = Floods()
    for stream in (one, two):
        floods.begin(stream)
    floods.served(floods.next([one, two]), 2 * QUIET_MAX - 1, 0.0)

    assert floods.quiet([one, two]) == [one]
    assert floods.next([one]) is None
    assert not floods


def test_an_outage_counts_no_delivery_of_entries_of_other_streams(publishers, client, monkeypatch):
    ingress = RedisIngress(client, "ailydian")
    ingress.check()
    for stream in (LOUD, QUIET):
        client.xadd(stream, entry("small", 1))

    with monkeypatch.context() as patch:
        patch.setattr(redis_ingress, "_tenant", _away)
        with pytest.raises(ServerUnavailable):
            ingress.turn(block_s=0.001)

    for stream in (LOUD, QUIET):
        [left] = client.xpending_range(stream, GROUP, "-", "+", 10)
        assert left["times_delivered"] == 0
    assert [ingress.turn(block_s=0.001) for _ in range(3)] == [1, 1, 0]


def _away(rights, slug):
    raise ServerUnavailable("Postgres is not responding.")


def test_what_readers_have_left_is_served_of_each_stream_in_its_turn(publishers, client):
    ingress = RedisIngress(client, "ailydian")
    ingress.check()
    for stream in (LOUD, QUIET):
        for number in range(3):
            client.xadd(stream, entry("small", number))
        [[_, left]] = client.xreadgroup(GROUP, "gone", {stream: ">"})
        ids = [one for one, _ in left]
        client.xclaim(stream, GROUP, "gone", 0, ids, idle=2 * ABANDONED_MS, retrycount=1)

    ingress.turn(block_s=0.001)
    ingress.turn(block_s=0.001)

    assert [client.xlen(stream) for stream in (LOUD, QUIET)] == [2, 2]
