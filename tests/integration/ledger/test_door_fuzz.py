"""Thousands of entries that are nearly right: each is answered, and no good one waits for them."""

import json
import random
import time

import redis

from producers.ledger.redis_ingress import BATCH_MAX, RedisIngress
from shared.contracts import CONTRACTS
from tests.support import hostile_json
from tests.support.factories import make_tenant, rows
from tests.support.patience import patience
from tests.support.thoroughness import examples

STREAM = "ailydian:publish"
REPLY = "ailydian:reply:"
ENTRIES = 2_000  # at night 200,000
SEED = 20260112

TEXTS = ["", "a", "\u011f", "\U0001f600", "\\", '"', "\x1b[31m", "a" * 300, "{}", "acme", "nobody"]


def entry(rng, number):
    """An entry: mostly of the right form, with one or two things wrong."""
    job = rng.choice([*CONTRACTS, "probe", "probe", "record_message", "no_such_job"])
    fields = {
        b"job": job.encode(),
        b"tenant": rng.choice([b"acme", b"acme", b"b", b"nobody"]),
        b"key": f"k{number}".encode(),
        b"payload": hostile_json.payload(rng, job).encode("utf-8", "surrogatepass"),
    }
    for _ in range(rng.choice([0, 0, 1, 2])):
        name = rng.choice([*fields, b"traceparent", b"other", b"\xff"])
        fields[name] = rng.choice([rng.randbytes(rng.randrange(40)), *(t.encode() for t in TEXTS)])
    for name in rng.sample(sorted(fields), rng.choice([0, 0, 0, 0, 1])):
        del fields[name]
    return fields or {b"": b""}


def test_no_entry_ends_the_door_or_holds_up_a_good_one(pool, redis_url):
    rng = random.Random(SEED)
    make_tenant("acme")
    make_tenant("b")
    slowest, sent = 0.0, 0
    with redis.Redis.from_url(redis_url) as client:
        ingress = RedisIngress(client, "ailydian")
        ingress.check()
        while sent < examples(ENTRIES):
            with client.pipeline(transaction=False) as pipe:
                for number in range(sent, sent + BATCH_MAX - 1):
                    pipe.xadd(STREAM, entry(rng, number))
                good = {"job": "probe", "tenant": "acme", "key": f"good{sent}", "payload": "{}"}
                pipe.xadd(STREAM, good)
                pipe.execute()
            sent += BATCH_MAX
            began = time.monotonic()
            while ingress.turn(block_s=0.001):
                continue
            slowest = max(slowest, time.monotonic() - began)
            assert json.loads(client.lpop(f"{REPLY}good{sent - BATCH_MAX}"))["accepted"]

        assert client.xlen(STREAM) == 0
        assert client.xpending(STREAM, "ledger")["pending"] == 0
    assert slowest < patience(2)
    assert rows('SELECT 1 FROM "Quarantine"') == []
    assert len(rows('SELECT 1 FROM "Job"')) > sent // BATCH_MAX
