"""Fair shares, priorities, holds and limits, as the relay keeps them on real tables."""

import time

import pytest
import redis

from producers.ledger import relay as relaying
from producers.queries.ledger import job_limits, pauses
from producers.queries.ledger.job_limits import Limit
from producers.queries.ledger.pauses import Pause
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.ledger.outbox import Lease
from shared.ledger.wakeups import Wire
from shared.queries.ledger import attempts, outbox
from tests.support import misbehaving_jobs
from tests.support.factories import KEY, job, make_relay, make_tenant, publish_jobs, rows

QUEUE = "ailydian:queue:maintenance"
WIRE = Wire("ailydian", KEY)


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        connected.set("ailydian:epoch", "a Redis that relays know")
        yield connected


def probes(tenant, count, *, note="", **options):
    return publish_jobs(tenant, [Probe(n=n, note=note) for n in range(count)], **options)


def sent(client):
    return [WIRE.read("maintenance", message)[0] for message in client.lrange(QUEUE, 0, -1)]


def take_all(client):
    """As workers that are always free: what lies in Redis is claimed. Returns (id, fence)."""
    wakeups = [WIRE.read("maintenance", message) for message in client.lrange(QUEUE, 0, -1)]
    client.delete(QUEUE)
    with db.transaction(None, role=Role.RELAY) as conn:
        leases = [Lease(*row) for row in outbox.claim(conn, wakeups, worker="w", lease_s=30)]
    return [(lease.job_id, lease.fence) for lease in leases]


def set_limit(**fields):
    plain = {"tenant_id": None, "tier": None, "job": None, "per_key": False}
    plain |= {"concurrency_max": None, "rate_per_s": None, "burst": 1.0, "unit": "jobs"}
    with db.transaction(None, role=Role.RELAY) as conn:
        return job_limits.put(conn, Limit(id="", **(plain | fields)))


def test_urgent_jobs_go_first_and_old_ones_are_not_starved(redis_url, client):
    tenant = make_tenant()
    plain = probes(tenant, 10, note="plain")
    urgent = probes(tenant, 10, note="urgent", priority=5)
    old = probes(tenant, 10, note="old", priority=-1)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "JobOutbox" SET "dueAt" = "dueAt" - interval '4 minutes'
               WHERE "priority" = -1"""
        )

    make_relay(redis_url).step()

    assert sent(client) == [*old, *urgent, *plain]


def test_one_lane_after_the_other_is_seen_however_many_there_are(redis_url, client, monkeypatch):
    monkeypatch.setattr(relaying, "LANES_MAX", 7)
    ids = [probes(make_tenant(), 1)[0] for _ in range(30)]

    relay = make_relay(redis_url)
    looks = 0
    while relay.step():
        looks += 1
        assert looks < 30

    assert sorted(sent(client)) == sorted(ids)


def test_a_flood_of_one_tenant_leaves_the_others_their_share(redis_url, client):
    flood, small = make_tenant(), make_tenant()
    probes(flood, 5_000)
    relay = make_relay(redis_url)
    relay.step()

    few = probes(small, 5)
    for _ in range(3):
        take_all(client)
        relay.step()

    done = {row[0] for row in rows("""SELECT "id" FROM "Job" WHERE "state" = 'RUNNING'""")}
    assert set(few) <= done | set(sent(client))


def test_what_is_paused_is_taken_back_from_redis_and_not_begun(redis_url, client):
    tenant = make_tenant()
    [held] = probes(tenant, 1)
    [other] = probes(make_tenant(), 1)
    relay = make_relay(redis_url)
    relay.step()

    with db.transaction(None, role=Role.RELAY) as conn:
        pauses.put(conn, Pause(None, tenant, None), held_by="a test")
        wakeups = [(held, 0), (other, 0)]
        claimed = outbox.claim(conn, wakeups, worker="w", lease_s=30)
    again = make_relay(redis_url)
    again.step()
    again.sweep()

    assert [row[0] for row in claimed] == [other]
    assert (job(held)["outbox"], job(held)["flight"]) == (1, 0)


def test_resumed_jobs_go_on_in_their_old_place(redis_url, client):
    tenant = make_tenant()
    hold = Pause(None, None, "probe")
    first = probes(tenant, 3, note="first")
    make_relay(redis_url).step()
    with db.transaction(None, role=Role.RELAY) as conn:
        assert pauses.put(conn, hold, held_by="a test")
        assert not pauses.put(conn, hold, held_by="a test")
        assert pauses.withdraw(conn) == 3
    client.delete(QUEUE)
    later = probes(tenant, 3, note="later")

    with db.transaction(None, role=Role.RELAY) as conn:
        assert pauses.delete(conn, hold)
    make_relay(redis_url).step()

    assert sent(client) == [*first, *later]


def test_no_more_run_at_once_than_a_tenant_may(redis_url, client):
    tenant = make_tenant()
    probes(tenant, 50)
    set_limit(tenant_id=tenant, concurrency_max=4)
    relay = make_relay(redis_url)

    relay.step()
    first = take_all(client)
    relay.step()
    none = sent(client)
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, first[:3])
    relay.step()

    assert len(first) == 4
    assert none == []
    assert len(sent(client)) == 3


def test_each_key_has_its_own_turn(redis_url, client):
    tenant = make_tenant()
    jobs = [misbehaving_jobs.Keyed(customer=f"customer {n % 3}", n=n) for n in range(12)]
    ids = publish_jobs(tenant, jobs)
    set_limit(job="keyed", per_key=True, concurrency_max=1)

    make_relay(redis_url).step()

    assert sorted(sent(client)) == sorted(ids[:3])


@pytest.mark.parametrize(("unit", "cost"), [("jobs", 1), ("cost", 40)])
def test_a_rate_is_held_to_two_percent_by_two_relays(redis_url, client, unit, cost):
    rate = 400.0
    tenant = make_tenant()
    publish_jobs(tenant, [misbehaving_jobs.Keyed(n=n, weight=cost) for n in range(2_000)])
    set_limit(job="keyed", rate_per_s=rate * cost, unit=unit)
    relays = [make_relay(redis_url), make_relay(redis_url)]

    began = seen = time.monotonic()
    started, idle_s = 0, 0.0
    while (took := time.monotonic() - began) < 3.0:
        for relay in relays:
            relay.step()
            started += len(take_all(client))
        # A bucket holds a tenth of a second: what a busy machine lets pass beyond that is lost.
        idle_s += max(0.0, time.monotonic() - seen - 0.1)
        seen = time.monotonic()

    burst = rate * 0.1
    assert rate * (took - idle_s) * 0.98 <= started <= rate * took * 1.02 + burst + 1
