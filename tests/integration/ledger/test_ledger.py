"""Publish once, effect once: the ledger's rules, each on a real Postgres."""

import psycopg
import pytest

from shared import db
from shared.contracts import Contract, EmbedChunks, Probe, ProbeBatch, contract_named
from shared.db import Role
from shared.errors import (
    LeaseLost,
    PayloadRefused,
    PayloadTooLarge,
    QueueFull,
    TenantNotFound,
    UnknownJob,
)
from shared.ids import TenantId
from shared.ledger import lapsed_leases
from shared.ledger.outbox import current_job, effect, effects, publish, publish_many
from shared.queries.ledger import attempts, dispatches, outbox
from tests.support import factories
from tests.support.factories import claim, job, make_tenant, publish_jobs, publish_probe, rows
from workers.queries.operations import probes

pytestmark = pytest.mark.usefixtures("pool")


def fail_after(_):
    raise ZeroDivisionError


def take_back(job_ids, crashed, worker="worker-1"):
    with db.transaction(None, role=Role.RELAY) as conn:
        held = [one for one in dispatches.select_held(conn, worker) if one.job_id in job_ids]
        return lapsed_leases.take_back(
            conn, held, crashed=crashed, error_type="WorkerCrashed", error="signal SIGKILL"
        )


def ending(lease, verdict="failed"):
    return attempts.AttemptFailure(
        lease.job_id, lease.fence, verdict, "ValueError", "no \0 good", "trace", "f"
    )


def test_a_published_job_exists_only_if_its_transaction_commits():
    tenant = make_tenant()

    with pytest.raises(ZeroDivisionError), db.transaction(tenant) as conn:
        fail_after(publish(conn, Probe(n=1)))

    assert rows('SELECT 1 FROM "Job"') == rows('SELECT 1 FROM "JobOutbox"') == []


def test_the_same_fact_published_twice_is_one_job():
    tenant = make_tenant()

    first, second = (publish_jobs(tenant, [Probe(n=1)]) for _ in range(2))
    with db.transaction(tenant) as conn:
        again = publish_many(conn, [Probe(n=2), Probe(n=2), Probe(n=1)])

    assert first == second
    assert [one.duplicate for one in again] == [False, True, True]
    assert again[0].id == again[1].id
    assert again[2].id == first[0]
    assert len(rows('SELECT 1 FROM "JobOutbox"')) == 2


def test_the_same_key_of_two_tenants_is_two_jobs():
    one, other = make_tenant(), make_tenant()

    assert publish_jobs(one, [Probe(n=1)]) != publish_jobs(other, [Probe(n=1)])


def test_a_sql_publisher_needs_name_neither_queue_nor_attempts():
    tenant = make_tenant()

    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            'INSERT INTO "Job" ("tenantId", "job", "payload") VALUES (%s, %s, %s)',
            [tenant, "probe", '{"n": 7}'],
        )

    [(job_id,)] = rows('SELECT "id" FROM "Job"')
    assert job(job_id)["queue"] == "maintenance"
    [lease] = claim(job_id)
    assert Probe.from_payload(lease.payload, lease.schema_version) == Probe(n=7)


@pytest.mark.parametrize(
    ("tenant", "name", "sqlstate"), [("a", "no_such_job", "AL002"), ("nobody", "probe", "AL003")]
)
def test_a_sql_publisher_is_told_what_is_wrong(tenant, name, sqlstate):
    make_tenant("a")

    with pytest.raises(psycopg.Error) as refused, db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('INSERT INTO "Job" ("tenantId", "job") VALUES (%s, %s)', [tenant, name])

    assert refused.value.sqlstate == sqlstate


def test_publishing_for_a_tenant_that_does_not_exist_is_refused():
    with pytest.raises(TenantNotFound, match="nobody"):
        publish_probe(TenantId("nobody"))


def test_a_full_queue_refuses_new_jobs_and_lets_follow_ups_through():
    tenant = make_tenant()
    parent = publish_probe(tenant)
    with db.transaction(None, role=Role.RELAY) as conn:
        dispatches.measure_depth(conn, ["maintenance"], depth_max=1)

    with pytest.raises(QueueFull, match="maintenance"):
        publish_probe(tenant)
    token = current_job.set(parent)
    follow_up = publish_probe(tenant)
    current_job.reset(token)

    assert job(follow_up)["parentId"] == parent


def test_a_payload_above_the_limit_is_refused_before_it_is_sent():
    tenant = make_tenant()
    chunk_ids = ["x" * 2_000 for _ in range(64)]

    with pytest.raises(PayloadTooLarge, match="bytes"):
        publish_jobs(tenant, [EmbedChunks(document_id="d", chunk_ids=chunk_ids, model="m")])


def test_a_text_with_nul_is_refused_with_a_sentence():
    tenant = make_tenant()

    with pytest.raises(PayloadRefused, match="NUL"):
        publish_jobs(tenant, [Probe(note="a\0b")])


def test_publishing_outside_a_transaction_is_a_programmers_error(database_url):
    with (
        psycopg.connect(database_url, autocommit=True) as conn,
        pytest.raises(AssertionError, match="transaction"),
    ):
        publish(conn, Probe(n=1))


def test_a_delayed_job_waits_in_the_outbox_until_it_is_due():
    tenant = make_tenant()
    [job_id] = publish_jobs(tenant, [Probe(n=1)], delay_s=60)

    assert claim(job_id) == []
    assert (job(job_id)["waitingFor"], job(job_id)["outbox"]) == ("delay", 1)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "JobOutbox" SET "dueAt" = now()')

    assert len(claim(job_id)) == 1


def test_a_claim_counts_the_attempt_and_raises_the_fence():
    tenant = make_tenant()
    job_id = publish_probe(tenant)

    [lease] = claim(job_id)

    assert (lease.attempt, lease.fence) == (1, 1)
    row = job(job_id)
    assert (row["state"], row["outbox"], row["flight"]) == ("RUNNING", 0, 1)
    assert claim(job_id) == []


def test_a_second_delivery_of_the_same_wakeup_finds_nothing():
    tenant = make_tenant()
    job_id = publish_probe(tenant)
    claim(job_id)

    with db.transaction(None, role=Role.RELAY) as conn:
        again = outbox.claim(conn, [(job_id, 0), (job_id, 1)], worker="w", lease_s=30)

    assert again == []


def test_the_receipt_and_the_effect_commit_together():
    tenant = make_tenant()
    job_id = publish_probe(tenant)
    [lease] = claim(job_id)

    with pytest.raises(ZeroDivisionError), effect(lease) as conn:
        fail_after(probes.insert_entry(conn, job_id, 1))
    assert (job(job_id)["state"], rows('SELECT 1 FROM "ProbeEntry"')) == ("RUNNING", [])
    with effect(lease) as conn:
        probes.insert_entry(conn, job_id, 1)

    row = job(job_id)
    assert (row["state"], row["outbox"], row["flight"]) == ("COMPLETED", 0, 0)
    assert row["finishedAt"] >= row["startedAt"]
    assert lease.receipted
    assert len(rows('SELECT 1 FROM "ProbeEntry"')) == 1


def test_a_zombies_late_commit_is_fenced_off():
    tenant = make_tenant()
    job_id = publish_probe(tenant)
    [old] = claim(job_id)
    take_back({job_id}, crashed={job_id})
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "JobOutbox" SET "dueAt" = now()')
    [new] = claim(job_id)

    with pytest.raises(LeaseLost), effect(old) as conn:
        probes.insert_entry(conn, job_id, 1)
    with effect(new) as conn:
        probes.insert_entry(conn, job_id, 2)
    with pytest.raises(LeaseLost), effect(new) as conn:
        probes.insert_entry(conn, job_id, 3)

    assert not old.receipted
    assert rows('SELECT "n" FROM "ProbeEntry"') == [(2,)]


def test_one_lost_lease_of_a_batch_writes_nothing_for_any():
    tenant = make_tenant()
    ids = publish_jobs(tenant, [ProbeBatch(n=n) for n in range(3)])
    held = claim(*ids)
    with effect(held[1]):
        pass

    with pytest.raises(LeaseLost), effects(held) as conn:
        probes.insert_entries(conn, [(lease.job_id, 1) for lease in held])

    assert rows('SELECT 1 FROM "ProbeEntry"') == []
    assert [job(one)["state"] for one in ids] == ["RUNNING", "COMPLETED", "RUNNING"]


def test_group_completion_leaves_out_what_is_no_longer_ours():
    tenant = make_tenant()
    ids = [publish_probe(tenant) for _ in range(3)]
    held = claim(*ids)

    with db.transaction(None, role=Role.RELAY) as conn:
        pairs = [(lease.job_id, lease.fence) for lease in held[:2]]
        completed = attempts.complete(conn, [*pairs, (ids[2], 99)])

    assert completed == 2
    assert [job(one)["state"] for one in ids] == ["COMPLETED", "COMPLETED", "RUNNING"]
    assert [job(one)["flight"] for one in ids] == [0, 0, 1]


def test_a_failed_attempt_waits_for_its_next_one_and_leaves_its_error():
    tenant = make_tenant()
    job_id = publish_probe(tenant)
    [lease] = claim(job_id)

    with db.transaction(None, role=Role.RELAY) as conn:
        assert attempts.retry(conn, ending(lease), delay_s=60)
        assert not attempts.retry(conn, ending(lease), delay_s=60)

    row = job(job_id)
    assert (row["state"], row["waitingFor"], row["outbox"]) == ("PENDING", "retry", 1)
    assert row["error"] == "no \\0 good"
    assert rows('SELECT "attempt", "verdict", "traceback" FROM "JobAttempt"') == [
        (1, "failed", "trace")
    ]


def test_a_buried_job_is_a_dead_letter_with_its_reason():
    tenant = make_tenant()
    job_id = publish_probe(tenant)
    [lease] = claim(job_id)

    with db.transaction(None, role=Role.RELAY) as conn:
        assert attempts.bury(conn, ending(lease), reason="permanent")
        assert not attempts.bury(conn, ending(lease), reason="permanent")

    assert job(job_id)["state"] == "DEAD"
    assert rows('SELECT "jobId", "reason", "attempts" FROM "DeadLetter"') == [
        (job_id, "permanent", 1)
    ]


def test_jobs_given_back_lose_neither_attempt_nor_place():
    tenant = make_tenant()
    ids = [publish_probe(tenant) for _ in range(2)]
    due = job(ids[0])["dueAt"]
    held = claim(*ids)

    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.give_back(conn, [(lease.job_id, lease.fence) for lease in held])

    row = job(ids[0])
    assert (row["state"], row["attempt"], row["fence"]) == ("PENDING", 0, 1)
    assert rows('SELECT "dueAt" FROM "JobOutbox" WHERE "jobId" = %s', ids[0]) == [(due,)]
    assert [lease.attempt for lease in claim(*ids)] == [1, 1]


def test_only_what_was_being_done_counts_a_crash_and_the_third_is_poison():
    tenant = make_tenant()
    pill, neighbour = publish_probe(tenant), publish_probe(tenant)

    for _ in range(3):
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute('UPDATE "JobOutbox" SET "dueAt" = now()')
        claim(pill, neighbour)
        take_back({pill, neighbour}, crashed={pill})

    assert (job(pill)["state"], job(pill)["crashes"]) == ("DEAD", 3)
    assert rows('SELECT "reason" FROM "DeadLetter"') == [("poison",)]
    assert (job(neighbour)["state"], job(neighbour)["crashes"]) == ("PENDING", 0)
    assert job(neighbour)["attempt"] == 0


def test_a_renewed_lease_does_not_lapse():
    tenant = make_tenant()
    kept, lapsed = publish_probe(tenant), publish_probe(tenant)
    held = claim(kept, lapsed, lease_s=0)

    with db.transaction(None, role=Role.RELAY) as conn:
        outbox.renew(conn, [(held[0].job_id, held[0].fence)], lease_s=30)
    with db.transaction(None, role=Role.RELAY) as conn:
        found = dispatches.select_lapsed(conn, limit=10)

    assert [one.job_id for one in found] == [lapsed]


def test_a_tenant_sees_and_touches_only_its_own_jobs():
    one, other = make_tenant(), make_tenant()
    job_id = publish_probe(one)
    claim(job_id)

    with db.transaction(other) as conn:
        seen = conn.execute('SELECT 1 FROM "Job"').fetchall()
        touched = conn.execute('UPDATE "Job" SET "outcome" = %s', ["{}"]).rowcount

    assert (seen, touched) == ([], 0)


def test_a_tenant_cannot_publish_for_another():
    one, other = make_tenant(), make_tenant()

    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction(one) as conn:
        conn.execute('INSERT INTO "Job" ("tenantId", "job") VALUES (%s, %s)', [other, "probe"])


def test_transitions_of_a_job_stay_heap_only():
    tenant = make_tenant()
    ids = [publish_probe(tenant) for _ in range(50)]
    held = claim(*ids)

    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, [(lease.job_id, lease.fence) for lease in held])
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("SELECT pg_stat_force_next_flush()")
    updates, hot = rows(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'Job'"
    )[0]

    assert updates == 100
    assert hot >= 90  # a page that a burst of inserts has filled has no room for the first few


class Old(Contract):
    """A contract whose fields have changed twice."""

    actor_name = "old"
    queue_name = "maintenance"
    schema_version = 3
    upcasts = {1: lambda p: {"name": p["title"]}, 2: lambda p: p | {"size": 0}}  # noqa: RUF012
    name: str
    size: int


def test_an_old_payload_is_lifted_step_by_step():
    assert Old.from_payload({"title": "a"}, 1) == Old(name="a", size=0)
    assert Old.from_payload({"name": "a"}, 2) == Old(name="a", size=0)


def test_a_payload_no_upcast_reaches_is_refused_by_name():
    with pytest.raises(PayloadRefused, match="old: no upcast from version 0"):
        Old.from_payload({}, 0)
    with pytest.raises(PayloadRefused, match="size"):
        Old.from_payload({"name": "a", "size": "big"}, 3)


def test_an_unknown_job_is_refused_with_the_names_that_exist():
    with pytest.raises(UnknownJob, match="ingest_document"):
        contract_named("injest")


def test_factories_leave_each_job_in_exactly_one_place():
    tenant = make_tenant()
    waiting, sent = publish_probe(tenant), publish_probe(tenant)
    claim(sent)
    later = publish_jobs(tenant, [Probe(n=3)], delay_s=9)[0]

    places = [(row["outbox"], row["flight"]) for row in map(job, (waiting, sent, later))]

    assert places == [(0, 1), (0, 1), (1, 0)]
    assert factories.rows('SELECT 1 FROM "JobFlight"')
