"""A large batch at the Redis door: who came first is answered before all of it is served."""

import pytest
import redis

from producers.ledger.ingress_entries import SLICE_BYTES_MAX, slices
from producers.ledger.ingress_floods import QUIET_MAX
from producers.ledger.ingress_streams import BATCH_MAX
from producers.ledger.redis_ingress import RedisIngress
from shared.observability import tracing
from shared.queries.ledger import outbox
from tests.support.factories import make_tenant, rows

STREAM = "ailydian:publish"
REPLY = "ailydian:reply:"


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


def trace(number):
    return f"00-{number + 1:032x}-{1:016x}-01".encode()


def entries(count, size=0):
    return [(f"{n}".encode(), {b"payload": b"x" * size}) for n in range(count)]


def test_a_slice_holds_a_megabyte_and_no_entry_is_lost():
    sent = entries(200, 60_000)

    parts = list(slices(sent))

    assert [one for part in parts for one in part] == sent
    assert max(len(part) for part in parts) == SLICE_BYTES_MAX // 60_007
    assert list(slices(entries(3, 5_000_000))) == [[one] for one in entries(3, 5_000_000)]
    assert [len(part) for part in slices(entries(200, 100))] == [200]
    assert list(slices([])) == []


def test_a_slice_is_answered_before_the_next_one_is_served(client, monkeypatch):
    make_tenant("a")
    ingress = RedisIngress(client, "ailydian")
    ingress.check()
    for n in range(BATCH_MAX):
        payload = f'{{"n": {n}}}' + " " * 60_000
        client.xadd(STREAM, {"job": "probe", "tenant": "a", "key": f"k{n}", "payload": payload})
    send, seen = ingress._send, []

    def counted(stream, answers):
        seen.append((len(rows('SELECT 1 FROM "Job"')), len(client.keys(f"{REPLY}*"))))
        if len(seen) == 4:
            raise redis.ConnectionError("away")
        send(stream, answers)

    monkeypatch.setattr(ingress, "_send", counted)
    with pytest.raises(redis.ConnectionError):
        ingress.turn(block_s=0.001)

    per = SLICE_BYTES_MAX // 60_030
    first = [(per, 0), (QUIET_MAX, per)]
    assert seen == [*first, (QUIET_MAX + per, QUIET_MAX), (QUIET_MAX + 2 * per, QUIET_MAX + per)]
    assert client.xlen(STREAM) == BATCH_MAX - QUIET_MAX - per


def test_entries_of_different_traces_are_one_statement_and_each_keeps_its_own(client, monkeypatch):
    make_tenant("a")
    ingress = RedisIngress(client, "ailydian")
    ingress.check()
    for n in range(BATCH_MAX):
        fields = {"job": "probe", "tenant": "a", "key": f"{n}", "payload": f'{{"n": {n}}}'}
        client.xadd(STREAM, fields | ({"traceparent": trace(n)} if n % 3 else {}))
    insert, statements = outbox.insert_jobs, []

    def counted(conn, new, common):
        statements.append(len(new))
        return insert(conn, new, common)

    monkeypatch.setattr(outbox, "insert_jobs", counted)
    turns = 0
    while ingress.turn(block_s=0.001):
        turns += 1

    assert sum(statements) == BATCH_MAX
    assert len(statements) <= turns + 1  # a turn of a flood is at most two batches
    stored = dict(rows('SELECT "key", "traceparent" FROM "Job"'))
    assert all(stored[f"{n}"] == trace(n).decode() for n in range(BATCH_MAX) if n % 3)
    others = {tracing.read(stored[f"{n}"]).trace_id for n in range(0, BATCH_MAX, 3)}
    assert others.isdisjoint(f"{n + 1:032x}" for n in range(BATCH_MAX))
