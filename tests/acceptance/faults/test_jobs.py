"""Jobs that misbehave, messages that are none: each is stopped alone, and its neighbours live."""

import random
import secrets

import pytest
import redis

from shared.contracts import Probe
from tests.acceptance.conftest import all_ended, states
from tests.support.factories import job, make_tenant, publish_jobs, rows
from tests.support.misbehaving_jobs import Pill
from tests.support.patience import patience


def publish_effects(tenant, count):
    return publish_jobs(tenant, [Probe(n=n, mode="statement") for n in range(count)])


def assert_each_effect_once(count):
    assert states() == {"COMPLETED": count}
    entries = rows('SELECT count(*), count(DISTINCT "jobId") FROM "ProbeEntry"')
    assert entries == [(count, count)]
    assert rows('SELECT 1 FROM "JobOutbox" UNION ALL SELECT 1 FROM "JobFlight"') == []


@pytest.mark.timeout(120)
def test_a_poisonous_job_dies_alone_and_good_ones_live(plant):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers()

    pills = publish_jobs(tenant, [Pill(how="crash")])
    good = publish_jobs(tenant, [Pill(how="write", n=n) for n in range(100)])
    plant.until(all_ended)

    assert states() == {"DEAD": 1, "COMPLETED": len(good)}
    assert job(pills[0])["crashes"] == 3
    assert rows('SELECT "reason", "error" FROM "DeadLetter"') == [
        ("poison", "The worker process died: signal SIGKILL.")
    ]
    assert rows('SELECT count(*) FROM "ProbeEntry"') == [(len(good),)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["loop", "hang"])
def test_a_job_that_ignores_its_time_limit_is_stopped(plant, how):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers(processes=1, lease_s=30)

    [stuck] = publish_jobs(tenant, [Pill(how=how)])
    plant.until(lambda: rows('SELECT 1 FROM "JobAttempt"'))
    good = publish_jobs(tenant, [Pill(how="write")])
    plant.until(lambda: job(good[0])["state"] == "COMPLETED")

    assert job(stuck)["state"] in {"PENDING", "RUNNING"}
    assert rows('SELECT "errorType" FROM "JobAttempt" LIMIT 1') == [("TimeLimitExceeded",)]


@pytest.mark.timeout(120)
def test_a_refused_job_is_a_dead_letter_at_once(plant):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers(processes=1)

    [refused] = publish_jobs(tenant, [Pill(how="refuse")])
    plant.until(all_ended)

    assert (job(refused)["state"], job(refused)["attempt"]) == ("DEAD", 1)
    [(reason, fingerprint)] = rows('SELECT "reason", "fingerprint" FROM "DeadLetter"')
    assert reason == "permanent"
    assert len(fingerprint) == 16


@pytest.mark.timeout(120)
def test_a_deployment_hands_back_what_is_not_begun(plant):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers(processes=1, threads=2)
    ids = publish_jobs(tenant, [Pill(how="loop", n=n) for n in range(8)])
    plant.until(lambda: states().get("RUNNING", 0) >= 2)

    took_s = plant.stop_workers()

    assert took_s < patience(10)
    begun = {row[0] for row in rows('SELECT "jobId" FROM "JobAttempt"')}
    handed_back = [job(one) for one in ids if one not in begun]
    assert len(handed_back) >= 4
    assert {(row["state"], row["attempt"]) for row in handed_back} == {("PENDING", 0)}


def hostile_messages(good: bytes) -> list[bytes]:
    rng = random.Random(7)
    mutated = [
        bytes(byte ^ (rng.random() < 0.05) * rng.randrange(1, 256) for byte in good)
        for _ in range(60)
    ]
    fixed = [
        b"", b"null", b"[]", b'"text"', b"{", b"\xff\xfe{}", b"[" * 900, b"9" * 1_000,
        b'{"v":1}', good.replace(b'"v":1', b'"v":1,"v":1'), good + b" " * 2_000,
        b'{"v":1,"job":{"$gt":""},"attempt":0,"sig":"x"}',
        b'{"v":1,"job":"x","attempt":NaN,"sig":"x"}',
        b'{"v":1,"job":"\\ud800","attempt":0,"sig":"\\ud800"}',
        b'{"queue_name":"ghost","actor_name":"probe","args":[],"kwargs":{},"options":{}}',
        b"\x80\x04\x95\x00", b"x" * 900_000, secrets.token_bytes(500),
    ]  # fmt: skip
    return fixed + [one for one in mutated if one != good]


@pytest.mark.timeout(120)
def test_hostile_messages_are_quarantined_and_strand_no_neighbour(plant):
    tenant = make_tenant()
    plant.start_relay()
    publish_effects(tenant, 100)
    with redis.Redis.from_url(plant.redis_url) as client:
        key = "ailydian:queue:maintenance"
        plant.until(lambda: client.llen(key) >= 64)
        genuine = client.lrange(key, 0, 0)[0]
        bad = hostile_messages(genuine)
        for position, message in enumerate(bad):
            (client.lpush if position % 2 else client.rpush)(key, message)

    plant.start_workers(processes=1)
    plant.until(all_ended)
    plant.until(lambda: len(rows('SELECT 1 FROM "Quarantine"')) == len(bad))

    assert_each_effect_once(100)
    worker = plant.workers()[0]
    assert worker.is_running()
    publish_jobs(tenant, [Probe(n=-1, mode="statement")])
    plant.until(all_ended)
    assert states() == {"COMPLETED": 101}


@pytest.mark.timeout(120)
def test_keys_made_into_something_else_are_mended_and_stop_no_queue(plant):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers(processes=1)

    with redis.Redis.from_url(plant.redis_url) as client:
        for key in ("queue:maintenance", "queue:scoring", "epoch"):
            client.delete(f"ailydian:{key}")
            client.set(f"ailydian:{key}", "broken")
    publish_effects(tenant, 100)
    plant.until(all_ended)

    assert_each_effect_once(100)
