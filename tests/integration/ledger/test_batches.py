"""Batches: counted by events, each once, whoever folds and whatever breaks in between."""

import random
import threading
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.ledger import batches, event_counters
from producers.ledger.batches import BatchNotFound, BatchSealed
from producers.queries.ledger import batches as queries
from producers.queries.ledger import dead_letters, events, jobs
from shared import db
from shared.contracts import Contract, Probe
from shared.db import Role
from shared.errors import PayloadTooLarge, QueueFull, UnknownJob
from shared.ledger.outbox import producer
from shared.queries.ledger import attempts
from shared.queries.ledger.attempts import AttemptFailure
from tests.support import query_plans
from tests.support.factories import claim, job, make_tenant, publish_jobs, rows
from tests.support.patience import patience
from tests.support.thoroughness import examples

FILL_QUEUE = """
    INSERT INTO "QueueState" ("queue", "depth", "depthMax") VALUES ('maintenance', 9, 9)
    ON CONFLICT ("queue") DO UPDATE SET "depth" = 9, "depthMax" = 9
"""


class Unheard(Contract):
    """A kind of job that no migration has told the ledger of."""

    actor_name: ClassVar[str] = "unheard"
    queue_name: ClassVar[str] = "audit"


def probes(count, start=0):
    return [Probe(n=n, mode="receipt") for n in range(start, start + count)]


def publish(tenant, count=3, **options):
    with db.transaction(tenant) as conn:
        return batches.publish_batch(conn, probes(count), **({"name": "b"} | options))


def fold(**options):
    with db.transaction(None, role=Role.RELAY, durable=False) as conn:
        return event_counters.fold(conn, **options)


def progress(batch_id):
    with db.transaction(None, role=Role.RELAY) as conn:
        return queries.select_progress(conn, batch_id)


def counters(batch_id):
    row = progress(batch_id)
    return row.completed, row.dead, row.cancelled, row.waiting


def members(batch_id):
    return [r[0] for r in rows('SELECT "id" FROM "Job" WHERE "batchId" = %s ORDER BY 1', batch_id)]


def complete(*job_ids):
    leases = claim(*job_ids)
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, [(lease.job_id, lease.fence) for lease in leases])


def end_badly(job_id, *, dead):
    (lease,) = claim(job_id)
    ending = AttemptFailure(lease.job_id, lease.fence, "failed", "E", "broken", None)
    with db.transaction(None, role=Role.RELAY) as conn:
        if dead:
            attempts.bury(conn, ending, reason="permanent")
        else:
            attempts.retry(conn, ending, delay_s=0)


def followers(batch_id):
    return rows('SELECT "id" FROM "Job" WHERE "key" = %s', f"batch:{batch_id}")


def test_a_batch_finishes_when_its_last_job_has_ended_also_when_one_died(pool):
    tenant = make_tenant()
    batch = publish(tenant, then=Probe(note="then"))
    one, two, three = members(batch.id)

    complete(one)
    end_badly(two, dead=False)
    end_badly(two, dead=True)
    fold()
    assert counters(batch.id) == (1, 1, 0, 1)
    assert progress(batch.id).state == "SEALED"
    assert followers(batch.id) == []
    with db.transaction(None, role=Role.RELAY) as conn:
        jobs.cancel(conn, three)
    fold()

    assert counters(batch.id) == (1, 1, 1, 0)
    done = progress(batch.id)
    assert done.state == "FINISHED"
    follower = job(done.then_id)
    assert (follower["job"], follower["payload"]["note"]) == ("probe", "then")
    assert (follower["tenantId"], follower["key"]) == (tenant, f"batch:{batch.id}")
    assert (follower["producer"], follower["parentId"]) == (f"batch:{batch.id}", three)
    assert (follower["outbox"], follower["queue"]) == (1, "maintenance")


def test_replays_and_discards_move_the_counters_and_bring_no_second_follow_up(pool):
    batch = publish(make_tenant(), 2, then=Probe(note="then"))
    one, two = members(batch.id)
    end_badly(one, dead=True)
    end_badly(two, dead=True)
    fold()
    assert counters(batch.id) == (0, 2, 0, 0)

    with db.transaction(None, role=Role.RELAY) as conn:
        dead_letters.replay(conn, [one])
        dead_letters.discard(conn, [two])
    fold()
    assert counters(batch.id) == (0, 0, 1, 1)
    complete(one)
    fold()

    assert counters(batch.id) == (1, 0, 1, 0)
    assert len(followers(batch.id)) == 1


def test_a_dead_job_replayed_in_time_is_waited_for(pool):
    batch = publish(make_tenant(), 2)
    one, two = members(batch.id)
    end_badly(one, dead=True)
    with db.transaction(None, role=Role.RELAY) as conn:
        dead_letters.replay(conn, [one])
    complete(two)
    fold()
    assert progress(batch.id).finished_at is None

    complete(one)
    fold()

    assert counters(batch.id) == (2, 0, 0, 0)
    assert progress(batch.id).state == "FINISHED"


def test_an_empty_batch_is_finished_at_once(pool):
    batch = publish(make_tenant(), 0, then=Probe(note="then"))

    assert progress(batch.id).state == "FINISHED"
    assert len(followers(batch.id)) == 1


def test_jobs_that_were_accepted_before_are_not_waited_for(pool):
    tenant = make_tenant()
    publish_jobs(tenant, probes(2))

    batch = publish(tenant, 3)

    assert (batch.total, batch.duplicates) == (1, 2)
    assert len(members(batch.id)) == 1
    complete(*members(batch.id))
    fold()
    assert progress(batch.id).state == "FINISHED"


def test_the_same_id_again_is_the_same_batch(pool):
    tenant = make_tenant()
    publish(tenant, 2, batch_id="mine")

    again = publish(tenant, 5, batch_id="mine")

    assert again.existed
    assert progress("mine").total == 2
    assert len(rows('SELECT FROM "Job"')) == 2


def test_a_batch_of_many_transactions_finishes_when_sealed_after_its_jobs_have_ended(pool):
    tenant = make_tenant()
    with db.transaction(tenant) as conn:
        batch_id = batches.open_batch(conn, name="open", then=Probe(note="then"))
        batches.add(conn, batch_id, probes(2))
    with db.transaction(tenant) as conn:
        batches.add(conn, batch_id, probes(3))  # two of them again
    complete(*members(batch_id))
    fold()
    assert (progress(batch_id).state, progress(batch_id).total) == ("OPEN", 3)

    with db.transaction(tenant) as conn:
        assert batches.seal(conn, batch_id)
    with db.transaction(tenant) as conn:
        assert not batches.seal(conn, batch_id)

    assert progress(batch_id).state == "FINISHED"
    assert len(followers(batch_id)) == 1


def test_a_sealed_batch_takes_no_more_and_nothing_is_published(pool):
    tenant, other = make_tenant(), make_tenant()
    batch = publish(tenant, 1)

    for who in (tenant, other):
        with db.transaction(who) as conn, pytest.raises(BatchSealed):
            batches.add(conn, batch.id, probes(2, start=10))
    with db.transaction(other) as conn, pytest.raises(BatchNotFound):
        batches.seal(conn, batch.id)

    assert len(rows('SELECT FROM "Job"')) == 1
    assert progress(batch.id).total == 1


def test_what_cannot_follow_is_refused_when_the_batch_is_opened(pool):
    tenant = make_tenant()

    with db.transaction(tenant) as conn, pytest.raises(UnknownJob):
        batches.open_batch(conn, name="b", then=Unheard())
    huge = Probe.model_construct(note="x" * 70_000)
    with db.transaction(tenant) as conn, pytest.raises(PayloadTooLarge):
        batches.open_batch(conn, name="b", then=huge)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(FILL_QUEUE)
    with pytest.raises(QueueFull):
        publish(tenant, 0, then=Probe(note="then"))

    assert rows('SELECT FROM "JobBatch"') == []


def test_a_full_queue_lets_the_follow_up_of_done_work_through(pool):
    batch = publish(make_tenant(), 1, then=Probe(note="then"))
    complete(*members(batch.id))
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(FILL_QUEUE)

    fold()

    assert len(followers(batch.id)) == 1


def test_somebody_who_holds_a_batch_for_long_delays_its_count_and_stops_no_relay(pool):
    tenant = make_tenant()
    batch_id = None
    with db.transaction(tenant) as conn:
        batch_id = batches.open_batch(conn, name="open")
        batches.add(conn, batch_id, probes(1))
    complete(*members(batch_id))

    with db.transaction(tenant) as conn:
        queries.add(conn, batch_id, 1)
        held = fold()
    after = fold()

    assert (held.events, after.events) == (0, 1)
    assert progress(batch_id).completed == 1


def test_statistics_add_up_over_folds(pool):
    tenant = make_tenant()
    for start in (0, 10):
        ids = publish_jobs(tenant, probes(4, start))
        complete(*ids[:2])
        end_badly(ids[2], dead=True)
        end_badly(ids[3], dead=False)
        fold()

    (stat,) = rows(
        """SELECT "queue", "completed", "dead", "cancelled", "retried", "tookBuckets",
                  "waitedBuckets", "donePerS" FROM "JobStat" WHERE "job" = 'probe'"""
    )
    queue, completed, dead, cancelled, retried, took, waited, rate = stat
    assert (queue, completed, dead, cancelled, retried) == ("maintenance", 4, 2, 0, 2)
    assert len(took) == len(waited) == len(events.BOUNDS_S) + 1
    assert (sum(took), sum(waited)) == (8, 4)
    assert rate == pytest.approx(4 / events.RATE_S, rel=0.2)


def test_a_bucket_holds_what_its_bound_says(pool):
    with db.transaction(None, role=Role.RELAY) as conn:
        for took in (0.001, 0.02, 4000.0):
            conn.execute(
                """INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "tookS")
                   VALUES ('t', 'j', 'probe', 'maintenance', 'COMPLETED', %s)""",
                [took],
            )

    fold()

    ((took, waited),) = rows('SELECT "tookBuckets", "waitedBuckets" FROM "JobStat"')
    assert [place for place, count in enumerate(took) if count] == [0, 2, len(events.BOUNDS_S)]
    assert sum(waited) == 0


def test_the_publisher_is_named_by_who_publishes(pool):
    token = producer.set("cli:someone")
    try:
        batch = publish(make_tenant(), 1)
    finally:
        producer.reset(token)

    assert job(members(batch.id)[0])["producer"] == "cli:someone"


class Crash(Exception):
    """Stands for whatever may end a folder before it commits."""


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 7))
def test_each_event_counts_once_whoever_folds_and_whatever_breaks(pool, seed, limit):
    rng = random.Random(seed)
    before = rows('SELECT coalesce(sum("completed" + "dead" + "cancelled"), 0) FROM "JobStat"')
    tenant = make_tenant()
    batch = publish(tenant, 12, then=Probe(note="then"))
    ended = threading.Event()

    def folder(seed):
        chance = random.Random(seed)
        while True:
            last = ended.is_set()
            try:
                with db.transaction(None, role=Role.RELAY, durable=False) as conn:
                    folded = event_counters.fold(conn, limit=limit)
                    if chance.random() < 0.3:
                        raise Crash
            except Crash:
                continue
            if last and not folded.events and progress(batch.id).finished_at:
                return

    folders = [threading.Thread(target=folder, args=(rng.random(),)) for _ in range(3)]
    for one in folders:
        one.start()
    dead = [one for one in members(batch.id) if rng.random() < 0.3]
    for one in members(batch.id):
        end_badly(one, dead=True) if one in dead else complete(one)
    ended.set()
    for one in folders:
        one.join(patience(30))

    assert not any(one.is_alive() for one in folders)
    assert counters(batch.id) == (12 - len(dead), len(dead), 0, 0)
    assert len(followers(batch.id)) == 1
    after = rows('SELECT sum("completed" + "dead" + "cancelled") FROM "JobStat"')
    assert after[0][0] - before[0][0] == 12
    outbox_rows = rows('SELECT FROM "Job" WHERE "batchId" = %s AND "state" = %s', batch.id, "DEAD")
    assert len(outbox_rows) == len(dead)


def test_a_look_without_news_reads_a_few_blocks(pool):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
               SELECT 't', 'j', 'probe', 'maintenance', 'COMPLETED'
               FROM generate_series(1, 6000)"""
        )
    assert [fold().events for _ in range(3)] == [5_000, 1_000, 0]

    for look in (events.PLACE, events.HAS_NEWS):
        read = query_plans.explain(look, {})
        assert read.blocks < 40, look
