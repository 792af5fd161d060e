"""A large batch at the Redis door: who came first is answered before all of it is served."""

import pytest
import redis

from producers.ledger.ingress_entries import SLICE_BYTES_MAX, TRACE_BYTES, slices
from producers.ledger.ingress_streams import BATCH_MAX, GROUP
from producers.ledger.redis_ingress import RedisIngress
from tests.support.factories import make_tenant, rows

STREAM = "ailydian:publish"
REPLY = "ailydian:reply:"


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


def trace(number):
    return f"00-{number + 1:032x}-{1:016x}-01".encode()


def entries(count, size=0, *, traced=False):
    more = [{b"traceparent": trace(n)} if traced else {} for n in range(count)]
    return [(f"{n}".encode(), {b"payload": b"x" * size} | more[n]) for n in range(count)]


def test_a_slice_holds_a_megabyte_and_no_entry_is_lost():
    sent = entries(200, 60_000)

    parts = list(slices(sent))

    assert [one for part in parts for one in part] == sent
    assert max(len(part) for part in parts) == SLICE_BYTES_MAX // 60_007
    assert list(slices(entries(3, 5_000_000))) == [[one] for one in entries(3, 5_000_000)]
    assert [len(part) for part in slices(entries(200, 100))] == [200]
    assert list(slices([])) == []


def test_other_traces_end_a_slice_sooner():
    sizes = [len(part) for part in slices(entries(200, 100, traced=True))]

    assert max(sizes) <= SLICE_BYTES_MAX // TRACE_BYTES
    assert sum(sizes) == 200


def test_a_slice_is_answered_before_the_next_one_is_served(client, monkeypatch):
    make_tenant("a")
    ingress = RedisIngress(client, "ailydian")
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    for n in range(BATCH_MAX):
        fields = {"job": "probe", "tenant": "a", "key": f"k{n}", "payload": f'{{"n": {n}}}'}
        client.xadd(STREAM, fields | {"traceparent": trace(n)})
    send, seen = ingress._send, []

    def counted(stream, answers):
        seen.append((len(rows('SELECT 1 FROM "Job"')), len(client.keys(f"{REPLY}*"))))
        if len(seen) == 3:
            raise redis.ConnectionError("away")
        send(stream, answers)

    monkeypatch.setattr(ingress, "_send", counted)
    with pytest.raises(redis.ConnectionError):
        ingress.turn(block_s=0.001)

    per = seen[0][0]
    assert per <= SLICE_BYTES_MAX // TRACE_BYTES
    assert seen == [(per, 0), (2 * per, per), (3 * per, 2 * per)]
    assert client.xlen(STREAM) == BATCH_MAX - 2 * per
