"""Schedules on Postgres: one job a slot, whoever runs them and whatever happens to them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from producers.ledger import schedules
from producers.ledger.schedule_slots import CronRefused
from producers.queries.ledger import schedules as queries
from producers.queries.ledger.schedules import NewSchedule
from shared import db
from shared.db import Role
from shared.errors import PayloadRefused
from shared.queries.ledger import dispatches
from tests.support.factories import make_tenant, rows
from tests.support.patience import cpu_patience, patience

pytestmark = pytest.mark.usefixtures("pool")

SCHEDULERS = 8


def put(tenant, name="report", **changed):
    wanted = {
        "cron": "* * * * *",
        "time_zone": "UTC",
        "jitter_s": 0,
        "missed": "once",
        "job": "probe",
        "payload": {"note": name},
        "enabled": True,
    }
    with db.transaction(tenant) as conn:
        return schedules.put(conn, NewSchedule(name=name, **wanted | changed))


def move(seconds, name=None):
    """Let so much time pass for schedules: their rows move, not the clock."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "Schedule" SET "slotAt" = "slotAt" - %(by)s, "nextAt" = "nextAt" - %(by)s,
                   "ranSlotAt" = "ranSlotAt" - %(by)s
               WHERE "tenantId" IS NOT NULL AND "name" = coalesce(%(name)s, "name")""",
            {"by": timedelta(seconds=seconds), "name": name},
        )


def jobs():
    return rows('SELECT "key", "tenantId", "job", "payload", "producer" FROM "Job"')


def schedule(name="report"):
    """A schedule's row: its slot, when it is due, what it ran, its error, whether it is enabled."""
    [row] = rows(
        """SELECT "slotAt", "nextAt", "ranSlotAt", "error", "enabled", "lastJobId" FROM "Schedule"
           WHERE "name" = %s""",
        name,
    )
    return row


def test_a_due_slot_becomes_one_job_that_says_where_it_comes_from():
    tenant = make_tenant()
    row = put(tenant, payload={"note": "hourly"})
    move(60)
    slot = schedule()[0]

    assert [schedules.run_due(), schedules.run_due()] == [1, 0]

    [(key, owner, job, payload, producer)] = jobs()
    assert key == f"schedule:{row.id}:{slot.isoformat()}"
    assert (owner, job, producer) == (tenant, "probe", "schedule:report")
    assert payload["note"] == "hourly"
    assert schedule()[2] == slot
    assert schedule()[5] == rows('SELECT "id" FROM "Job"')[0][0]


def test_nothing_runs_before_its_slot_or_while_disabled():
    tenant = make_tenant()
    put(tenant)
    put(tenant, "off", enabled=False)
    move(3_600, "off")

    assert schedules.run_due() == 0

    assert jobs() == []


def test_eight_schedulers_run_each_of_thousands_of_slots_once():
    tenants = [make_tenant() for _ in range(4)]
    expected = set()
    for number in range(32):
        name = f"s{number}"
        row = put(tenants[number % 4], name, missed="all", jitter_s=number)
        move(99 * 60, name)
        plan_from = schedule(name)[0]
        expected |= {
            f"schedule:{row.id}:{(plan_from + timedelta(minutes=n)).isoformat()}" for n in range(98)
        }
    start = threading.Barrier(SCHEDULERS)

    def work():
        start.wait()
        return sum(schedules.run_due() for _ in range(3))

    db.open_pool(_url(), size=SCHEDULERS)
    with ThreadPoolExecutor(SCHEDULERS) as pool:
        total = sum(pool.map(lambda _: work(), range(SCHEDULERS)))

    keys = [key for key, *_ in jobs()]
    assert len(keys) == len(set(keys)) >= 32 * 98
    assert expected <= set(keys)
    assert 32 <= total < 64  # a schedule more than once only where a minute has passed meanwhile


def test_a_crash_before_the_commit_runs_the_slot_later_and_once():
    tenant = make_tenant()
    row = put(tenant)
    move(60)

    with pytest.raises(ZeroDivisionError), db.transaction(tenant) as conn:
        fail_after(schedules._step(conn, queries.claim(conn, [row.id])[0]))
    assert jobs() == []
    schedules.run_due()

    assert len(jobs()) == 1


def test_who_finds_a_slot_in_other_hands_leaves_it_alone():
    tenant = make_tenant()
    row = put(tenant)
    move(60)

    with db.transaction(tenant) as conn:
        assert len(queries.claim(conn, [row.id])) == 1
        with db.transaction(tenant) as other:
            taken = queries.claim(other, [row.id])

    assert taken == []


def test_a_schedule_disabled_after_it_was_seen_is_not_claimed():
    tenant = make_tenant()
    row = put(tenant)
    move(60)

    put(tenant, enabled=False)

    with db.transaction(tenant) as conn:
        assert queries.claim(conn, [row.id]) == []


def test_missed_slots_run_as_the_policy_says():
    tenant = make_tenant()
    for policy in ("once", "skip", "all"):
        put(tenant, policy, missed=policy)
    move(10 * 60 + 61)

    schedules.run_due()

    producers = [producer for *_, producer in jobs()]
    assert producers.count("schedule:once") == 1
    assert producers.count("schedule:skip") == 0
    assert producers.count("schedule:all") in (11, 12)
    assert "skipped" in schedule("skip")[3]
    assert schedules.run_due() == 0


def test_another_cron_or_time_zone_goes_on_after_now_and_what_was_due_is_left_out():
    tenant = make_tenant()
    put(tenant, cron="0 12 * * *", time_zone="UTC")
    utc = schedule()[0]
    move(3 * 86_400)

    put(tenant, cron="0 12 * * *", time_zone="Europe/Istanbul")
    istanbul = schedule()[0]
    moved = schedules.run_due()
    put(tenant, cron="*/2 * * * *", time_zone="Europe/Istanbul")

    assert moved == 0
    assert (utc - istanbul) % timedelta(days=1) == timedelta(hours=3)
    assert schedule()[0].minute % 2 == 0
    assert jobs() == []


def test_a_schedule_enabled_again_goes_on_after_now():
    tenant = make_tenant()
    put(tenant)
    put(tenant, enabled=False)
    move(3_600)

    put(tenant)

    assert schedules.run_due() == 0


def test_putting_the_same_again_keeps_what_is_due():
    tenant = make_tenant()
    before = put(tenant)
    move(60)
    due = schedule()[0]

    after = put(tenant, payload={"note": "changed"})
    schedules.run_due()

    assert (before.id, due) == (after.id, after.slot_at)
    assert [payload["note"] for *_, payload, _ in jobs()] == ["changed"]


def test_a_deleted_schedule_and_those_of_a_deleted_tenant_run_no_more():
    tenant, other = make_tenant(), make_tenant()
    put(tenant)
    put(other, "others")
    move(60)

    with db.transaction(tenant) as conn:
        assert queries.delete(conn, "report")
        assert queries.delete(conn, "others") is None
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('DELETE FROM "Tenant" WHERE "id" = %s', [other])
    schedules.run_due()

    assert jobs() == []
    assert rows('SELECT 1 FROM "Schedule"') == []


def test_schedules_that_outlived_their_tenant_are_stopped():
    tenant = make_tenant()
    for name in ("a", "b"):
        put(tenant, name)
    move(60)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Schedule" SET "tenantId" = 'nobody'""")

    assert schedules.run_due() == 0

    assert [schedule(name)[4] for name in ("a", "b")] == [False, False]


def test_a_full_queue_puts_a_slot_off_and_keeps_it():
    tenant = make_tenant()
    put(tenant, job="ingest_document", payload={"content_sha256": "0" * 64})
    put(tenant, "other")
    move(60)
    slot = schedule()[0]
    with db.transaction(None, role=Role.RELAY) as conn:
        dispatches.measure_depth(conn, ["ingest"], depth_max=0)

    assert schedules.run_due() == 1
    assert (schedule()[0], "ingest" in schedule()[3]) == (slot, True)
    with db.transaction(None, role=Role.RELAY) as conn:
        dispatches.measure_depth(conn, ["ingest"], depth_max=10)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "Schedule" SET "nextAt" = now() WHERE "name" = %s', ["report"])
    schedules.run_due()

    assert slot.isoformat() in {key[-25:] for key, *_ in jobs()}
    assert schedule()[3] is None


def test_a_payload_that_no_longer_fits_costs_its_slot_and_says_so():
    tenant = make_tenant()
    put(tenant)
    put(tenant, "good")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Schedule" SET "payload" = '{"gone": 1}' WHERE "name" = 'report'""")
    move(60)

    assert schedules.run_due() == 1

    assert [producer for *_, producer in jobs()] == ["schedule:good"]
    assert "gone" in schedule()[3]
    assert schedule()[0] > schedule("good")[2]


def test_a_schedule_that_cannot_be_kept_is_stopped_and_stops_no_other():
    tenant = make_tenant()
    for name in ("a", "bad", "z"):
        put(tenant, name)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Schedule" SET "timeZone" = 'Mars/Utopia' WHERE "name" = 'bad'""")
    move(60)

    assert schedules.run_due() == 2

    assert (schedule("bad")[4], "Mars/Utopia" in schedule("bad")[3]) == (False, True)


def test_what_cannot_be_kept_is_refused_when_it_is_put():
    tenant = make_tenant()

    with pytest.raises(PayloadRefused, match="probe"):
        put(tenant, payload={"nonsense": 1})
    with pytest.raises(CronRefused):
        put(tenant, cron="no cron")

    assert rows('SELECT 1 FROM "Schedule"') == []


def test_two_who_put_the_same_name_at_once_make_one_schedule():
    tenant = make_tenant()
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        return put(tenant, payload={"note": f"{number}"}).id

    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(work, range(4)))

    assert len(ids) == len(rows('SELECT 1 FROM "Schedule"')) == 1


def test_a_thousand_slots_of_one_second_are_published_within_two():
    tenants = [make_tenant() for _ in range(50)]
    for number in range(1_000):
        tenant = tenants[number % 50]
        with db.transaction(tenant) as conn:
            conn.execute(
                """INSERT INTO "Schedule" ("name", "cron", "job", "payload", "slotAt", "nextAt")
                   VALUES (%s, '* * * * *', 'probe', '{}', now(), now())""",
                [f"s{number}"],
            )

    began = time.process_time()
    assert schedules.run_due() == 1_000
    took_s = time.process_time() - began

    [(late_s,)] = rows("""SELECT max(extract(epoch FROM "ranAt" - "slotAt")) FROM "Schedule" """)
    assert len(jobs()) == 1_000
    assert took_s < cpu_patience(2.0)
    assert late_s < patience(10.0)  # by the wall clock, on a machine that others use too


def fail_after(_):
    raise ZeroDivisionError


def _url():
    with db.transaction(None, role=Role.RELAY) as conn:
        return conn.info.dsn
