"""Faults of Redis, and of what lies in it."""

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator

import psutil
import redis

from shared.ids import JobId
from shared.ledger.wakeups import Wire
from shared.servers import embedded_valkey
from tests.acceptance.faults.plant import KEY, QUEUES, TENANTS, Plant
from tests.support.patience import patience

PREFIX = "ailydian:"
PUBLISH_MS_MAX = 50.0


def kill_redis(plant: Plant, _: random.Random) -> None:
    """9: SIGKILL, and what it had written is gone."""
    _stop(plant)
    shutil.rmtree(plant.home / "valkey" / "appendonlydir")
    embedded_valkey.start(plant.home)


def wipe(plant: Plant, rng: random.Random) -> None:
    """10: FLUSHALL, keys deleted at random, keys made into something else."""
    with plant.redis() as client:
        client.flushall()
        plant.pause(0.2)
        for key in client.keys(f"{PREFIX}*"):
            if rng.random() < 0.5:
                client.delete(key)
        plant.give(20)
        plant.pause(0.2)
        for name in (*(f"queue:{queue}" for queue in QUEUES), "epoch"):
            client.delete(PREFIX + name)
            client.hset(PREFIX + name, "of", "another type")


def be_down(plant: Plant, _: random.Random) -> None:
    """11: Redis is away for a minute: publishing is accepted as always."""
    normal_ms = _publish_ms(plant)
    _stop(plant)
    end = time.monotonic() + plant.seconds(60)
    took_ms = []
    while time.monotonic() < end:
        took_ms.append(_publish_ms(plant))
    embedded_valkey.start(plant.home)
    extra_ms = sorted(took_ms)[len(took_ms) * 99 // 100] - normal_ms
    assert extra_ms < patience(PUBLISH_MS_MAX * 4), f"publishing took {extra_ms:.0f} ms longer"


def be_full(plant: Plant, rng: random.Random) -> None:
    """12: no memory left and no eviction; then eviction of anything."""
    with plant.redis() as client:
        for policy in rng.sample(["noeviction", "allkeys-lru"], 2):
            client.config_set("maxmemory-policy", policy)
            client.config_set("maxmemory", "1mb")
            plant.give(20)
            with contextlib.suppress(redis.RedisError):
                client.set(f"{PREFIX}ballast", b"x" * 300_000)
            plant.pause(plant.seconds(10))
            client.config_set("maxmemory", "0")
            client.delete(f"{PREFIX}ballast")
        client.config_set("maxmemory-policy", "noeviction")


def be_unwilling(plant: Plant, _: random.Random) -> None:
    """13: read-only, paused, busy with a script."""
    with plant.redis() as client:
        client.replicaof("127.0.0.1", "1")
        plant.give(10)
        plant.pause(plant.seconds(10))
        client.replicaof("no", "one")
        client.execute_command("CLIENT", "PAUSE", "1000", "ALL")
        plant.give(10)
        client.config_set("busy-reply-threshold", "100")
        spin = "local n = 0 while n < 40000000 do n = n + 1 end return n"
        client.eval(spin, 0)
        client.config_set("busy-reply-threshold", "5000")


def be_restored(plant: Plant, _: random.Random) -> None:
    """14: an old copy of its data comes back: old wake-ups are nothing to do."""
    log = plant.home / "valkey" / "appendonlydir"
    copy = plant.home / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    with held_workers(plant):
        plant.give(30)
        plant.pause(0.5)
        with plant.redis() as client:
            client.bgrewriteaof()
        plant.pause(1.2)  # its log is written once a second
        shutil.copytree(log, copy)
    plant.until(plant.is_calm)
    _stop(plant)
    shutil.rmtree(log)
    shutil.move(copy, log)
    embedded_valkey.start(plant.home)


def cut_clients(plant: Plant, _: random.Random) -> None:
    """15: all clients are killed, again and again."""
    with plant.redis() as client:
        for _round in range(6):
            client.client_kill_filter(_type="normal", skipme=True)
            plant.give(6)
            plant.pause(plant.seconds(2))


def fuzz(plant: Plant, rng: random.Random) -> None:
    """36: messages that are none, among good ones: quarantined, and no thread is lost."""
    wire = Wire("ailydian", KEY.encode())
    query = """SELECT coalesce(sum("seen"), 0) FROM "Quarantine" """
    [(before,)] = plant.rows(query)
    messages = fuzzed(wire, 60, rng)
    with plant.redis() as client:
        for start in range(0, len(messages), 20):
            client.rpush(f"{PREFIX}queue:audit", *messages[start : start + 20])
            plant.give(10)
    plant.until(lambda: plant.rows(query)[0][0] - before == len(messages), patience_s=20)


def fuzzed(wire: Wire, count: int, rng: random.Random) -> list[bytes]:
    """So many messages that are none, no two of them the same."""
    found: dict[bytes, None] = {}
    while len(found) < count:
        found[mutated(wire.wakeup("audit", JobId("x"), len(found)), rng)] = None
    return list(found)


def mutated(good: bytes, rng: random.Random) -> bytes:
    """One message that is none of ours, made from one that nearly is."""
    fields = json.loads(good)
    odd = rng.choice([None, -1, 1e308, "", "x" * 2_000, [], {}, "\ud800", True, "1; DROP TABLE"])
    at = rng.randrange(len(good))
    return rng.choice(
        (
            good[:at] + bytes([good[at] ^ rng.randrange(1, 255)]) + good[at + 1 :] + b" ",
            good[:at] + b"\0",
            rng.randbytes(rng.randrange(2_000)),
            json.dumps(fields | {rng.choice(list(fields)): odd, "n": rng.random()}).encode(),
            b"[" * rng.randrange(1, 900),
            good.replace(b'"v":1', b'"v":1,"v":1') + b" " * rng.randrange(9),
            json.dumps({**fields, "sig": "0" * 64, "job": f"{rng.random()}"}).encode(),
        )
    )


def deliver_thrice(plant: Plant, rng: random.Random) -> None:
    """37: every wake-up is delivered three times."""
    with held_workers(plant):
        plant.give(40, seconds=0.02)
        plant.pause(0.5)
        _rewrite(plant, lambda messages: rng.sample(messages * 3, len(messages) * 3))


def reorder(plant: Plant, rng: random.Random) -> None:
    """38: wake-ups are shuffled, and some come late, after their jobs have ended."""
    with held_workers(plant):
        plant.give(40)
        plant.pause(0.5)
        late: list[bytes] = []

        def shuffled(messages: list[bytes]) -> list[bytes]:
            late.extend(rng.sample(messages, len(messages) // 3))
            return rng.sample(messages, len(messages))

        _rewrite(plant, shuffled)
    plant.pause(plant.seconds(10))
    if late:
        with plant.redis() as client:
            client.rpush(f"{PREFIX}queue:audit", *late)


@contextlib.contextmanager
def held_workers(plant: Plant) -> Iterator[None]:
    """Let wake-ups lie in Redis while the block runs: the workers stand still."""
    workers = plant.workers()
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()


def _rewrite(plant: Plant, how: object) -> None:
    assert callable(how)
    key = f"{PREFIX}queue:audit"
    with plant.redis() as client:
        messages = list(client.lrange(key, 0, -1))
        if messages:
            with client.pipeline() as pipe:
                pipe.delete(key)
                pipe.rpush(key, *how(messages))
                pipe.execute()


def _publish_ms(plant: Plant) -> float:
    began = time.monotonic()
    plant.publish(TENANTS[0], plant.tasks(TENANTS[0], 1))
    return 1_000 * (time.monotonic() - began)


def _stop(plant: Plant) -> None:
    pid = int((plant.home / "valkey" / "pid").read_text())
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([process], patience(10))
