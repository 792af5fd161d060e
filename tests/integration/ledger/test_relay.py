"""The relay: what it sends, how much, to whom first, and what it does when something is gone."""

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from producers.ledger.relay import WINDOW_MIN
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.ledger.wakeups import Wire
from shared.queries.ledger import attempts
from tests.support.factories import (
    KEY,
    claim,
    job,
    make_relay,
    make_tenant,
    publish_jobs,
    publish_probe,
    rows,
    wake,
)
from tests.support.patience import patience

QUEUE = "ailydian:queue:maintenance"
WIRE = Wire("ailydian", KEY)
_numbers = itertools.count()


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


@pytest.fixture
def relay(redis_url, client):
    """A relay that has looked once already, so that its Redis is not new to it."""
    relay = make_relay(redis_url)
    relay.step()
    return relay


def publish_probes(tenant, count, **options):
    first = next(_numbers)
    jobs = [Probe(n=n, note=f"of {first}") for n in range(count)]
    return publish_jobs(tenant, jobs, **options)


def owner(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        return conn.execute(statement, values or None).rowcount


def sent(client):
    """The ids of the jobs whose wake-ups lie in Redis, in their order."""
    return [WIRE.read("maintenance", message)[0] for message in client.lrange(QUEUE, 0, -1)]


def flying():
    return {row[0] for row in rows('SELECT "jobId" FROM "JobFlight"')}


# ---- what is sent


def test_a_due_job_is_sent_once(relay, client):
    job_id = publish_probe(make_tenant())

    for _ in range(3):
        relay.step()

    assert sent(client) == [job_id]
    assert (job(job_id)["outbox"], job(job_id)["flight"]) == (0, 1)


def test_a_tenant_with_three_jobs_does_not_wait_for_one_with_a_thousand(relay, client):
    large, small = make_tenant(), make_tenant()
    publish_probes(large, 1_000)
    few = publish_probes(small, 3)

    relay.step()

    assert set(few) <= set(sent(client))


def test_the_room_that_a_small_tenant_leaves_is_asked_for_again_at_once(relay, client):
    large, small = make_tenant(), make_tenant()
    publish_probes(large, 1_000)
    publish_probes(small, 3)

    assert relay.step()


def test_tenants_that_only_wait_for_later_take_no_room_from_those_who_are_due(relay, client):
    due = publish_probes(make_tenant(), 40)
    for _ in range(10):
        publish_probes(make_tenant(), 1, delay_s=3_600)

    relay.step()

    assert sent(client) == due


def test_a_tenants_jobs_go_in_the_order_they_were_published(relay, client):
    ids = publish_probes(make_tenant(), 30)

    relay.step()

    assert sent(client) == ids


def test_no_more_than_a_window_lies_in_redis(relay, client):
    publish_probes(make_tenant(), 500)

    for _ in range(10):
        assert relay.step()

    assert client.llen(QUEUE) == len(flying()) == WINDOW_MIN


def test_many_tenants_share_one_window(relay, client):
    ids = [publish_probes(make_tenant(), 1)[0] for _ in range(WINDOW_MIN + 20)]

    relay.step()

    assert sent(client) == ids[:WINDOW_MIN]  # those that have waited longest


def test_a_full_queue_does_not_keep_another_one_waiting(relay, client):
    publish_probes(make_tenant(), 500)
    relay.step()

    owner("""UPDATE "JobOutbox" SET "queue" = 'scoring' WHERE mod("seq", 2) = 0""")
    relay.step()

    assert client.llen(QUEUE) == client.llen("ailydian:queue:scoring") == WINDOW_MIN


def test_a_paused_queue_sends_nothing_until_it_goes_on(redis_url, client):
    owner("""INSERT INTO "JobHold" ("queue", "heldBy") VALUES ('maintenance', 'a test')""")
    ids = publish_probes(make_tenant(), 5)

    make_relay(redis_url).step()
    while_paused = client.llen(QUEUE)
    owner('DELETE FROM "JobHold"')
    make_relay(redis_url).step()

    assert while_paused == 0
    assert sent(client) == ids


def test_a_delayed_job_is_not_sent_before_it_is_due(relay, client):
    tenant = make_tenant()
    [now] = publish_probes(tenant, 1)
    [later] = publish_probes(tenant, 1, delay_s=3_600)

    relay.step()
    before = sent(client)
    client.delete(QUEUE)
    owner("""UPDATE "JobOutbox" SET "dueAt" = now()""")
    relay.step()

    assert (before, sent(client)) == ([now], [later])


def test_what_another_relay_is_taking_is_not_waited_for(relay, client, database_url):
    first, *others = publish_probes(make_tenant(), 10)

    with psycopg.connect(database_url) as conn, ThreadPoolExecutor(1) as threads:
        conn.execute('SELECT FROM "JobOutbox" WHERE "jobId" = %s FOR UPDATE', [first])
        try:
            threads.submit(relay.step).result(patience(10))
        finally:
            conn.rollback()

    assert sent(client) == others


def test_relays_side_by_side_send_each_job_once(redis_url, client, relay):
    tenants = [make_tenant() for _ in range(4)]
    ids = [one for tenant in tenants for one in publish_probes(tenant, 250)]
    found = []
    lock = threading.Lock()

    def relay_until_empty():
        own = make_relay(redis_url)
        while rows('SELECT 1 FROM "JobOutbox" LIMIT 1'):
            own.step()
            with lock:
                while message := client.lpop(QUEUE):
                    found.append(WIRE.read("maintenance", message)[0])

    threads = [threading.Thread(target=relay_until_empty) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(60))
    found += sent(client)

    assert Counter(found) == Counter(ids)


# ---- what was lost


def test_a_wiped_redis_is_filled_again_at_the_next_look(relay, client):
    ids = publish_probes(make_tenant(), 20)
    relay.step()

    client.flushdb()
    relay.step()

    assert sorted(sent(client)) == sorted(ids)


def test_a_refill_of_thousands_sends_each_once_and_ends(relay, client):
    ids = publish_probes(make_tenant(), 2_500)
    with db.transaction(None, role=Role.RELAY) as conn:
        wake(conn, 3_000)

    client.flushdb()
    relay.step()

    assert Counter(sent(client)) == Counter(ids)


def test_running_jobs_are_not_sent_again_after_a_wipe(relay, client):
    running, waiting = publish_probes(make_tenant(), 2)
    claim(running)

    client.flushdb()
    relay.step()

    assert sent(client) == [waiting]


def test_lost_wakeups_are_sent_again_after_a_while(relay, client):
    ids = publish_probes(make_tenant(), 5)
    relay.step()
    client.delete(QUEUE)

    relay.sweep()
    at_once = client.llen(QUEUE)
    owner("""UPDATE "JobFlight" SET "sentAt" = now() - interval '6 seconds'""")
    relay.sweep()

    assert at_once == 0
    assert sorted(sent(client)) == sorted(ids)


def test_wakeups_that_nobody_takes_do_not_pile_up(relay, client):
    ids = publish_probes(make_tenant(), 5)
    relay.step()

    for _ in range(3):
        owner("""UPDATE "JobFlight" SET "sentAt" = now() - interval '2 minutes'""")
        relay.sweep()

    assert sorted(sent(client)) == sorted(ids)


def test_one_wakeup_lost_from_a_queue_that_is_never_empty_is_sent_again(relay, client):
    ids = publish_probes(make_tenant(), 5)
    relay.step()
    client.lpop(QUEUE)

    owner("""UPDATE "JobFlight" SET "sentAt" = now() - interval '2 minutes'""")
    relay.sweep()

    assert set(sent(client)) == set(ids)


def test_a_lapsed_lease_is_another_attempt(relay, client):
    job_id = publish_probe(make_tenant())
    claim(job_id, lease_s=0)

    relay.sweep()

    row = job(job_id)
    assert (row["state"], row["attempt"], row["crashes"]) == ("PENDING", 1, 1)
    assert (row["outbox"], row["flight"]) == (1, 0)
    assert rows('SELECT "verdict", "errorType" FROM "JobAttempt"') == [("crashed", "LeaseLapsed")]


def test_the_third_lapsed_lease_is_poison(relay):
    job_id = publish_probe(make_tenant())

    for _ in range(3):
        owner("""UPDATE "JobOutbox" SET "dueAt" = now()""")
        claim(job_id, lease_s=0)
        relay.sweep()

    assert job(job_id)["state"] == "DEAD"
    assert rows('SELECT "reason" FROM "DeadLetter"') == [("poison",)]


def test_a_lease_that_holds_is_left_alone(relay):
    job_id = publish_probe(make_tenant())
    claim(job_id, lease_s=30)

    relay.sweep()

    assert job(job_id)["state"] == "RUNNING"


def test_flights_of_jobs_that_have_ended_are_removed(relay):
    [lease] = claim(publish_probe(make_tenant()))
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, [(lease.job_id, lease.fence)])
    owner(
        """INSERT INTO "JobFlight" ("jobId", "tenantId", "queue", "attempt")
           VALUES (%s, %s, 'maintenance', 0)""",
        lease.job_id,
        lease.tenant_id,
    )

    relay.sweep()

    assert flying() == set()


def test_the_depth_that_publishers_are_measured_by_is_counted(redis_url, client):
    relay = make_relay(redis_url, queue_depth_max=77)
    publish_probes(make_tenant(), 4, delay_s=60)

    relay.sweep()

    depth = """SELECT "depth", "depthMax" FROM "QueueState" WHERE "queue" = 'maintenance'"""
    assert rows(depth) == [(4, 77)]


# ---- what is away


def test_while_redis_is_away_lapsed_leases_still_come_back(tmp_path, pool, database_url):
    job_id = publish_probe(make_tenant())
    claim(job_id, lease_s=0)
    relay = make_relay(f"unix://{tmp_path}/no-server")
    stop = threading.Event()

    thread = threading.Thread(target=relay.run, args=(database_url, stop))
    thread.start()
    while job(job_id)["state"] == "RUNNING" and thread.is_alive():
        stop.wait(0.02)
    alive = thread.is_alive()
    stop.set()
    thread.join(patience(10))

    assert alive
    assert job(job_id)["state"] == "PENDING"


def test_a_job_published_while_redis_was_away_is_sent_when_it_is_back(tmp_path, redis_url, client):
    socket = urlsplit(redis_url).path
    relay = make_relay(redis_url.replace(socket, f"{tmp_path}/socket"))
    job_id = publish_probe(make_tenant())
    with pytest.raises(redis.ConnectionError):
        relay.step()

    (tmp_path / "socket").symlink_to(socket)
    relay.step()  # it finds a Redis it does not know
    relay.step()

    assert sent(client) == [job_id]
