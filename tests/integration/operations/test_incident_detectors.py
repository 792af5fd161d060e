"""What the detectors see in the tables, and how cheaply: each by the rows that make an incident."""

import threading

import pytest

from producers.ledger import scheduler
from producers.operations import incident_sweep
from producers.queries.operations import incidents
from shared import db
from shared.db import Role
from shared.queries.ledger import attempts
from tests.support.factories import claim, make_tenant, publish_jobs, publish_probe, rows
from tests.support.misbehaving_jobs import Nap

pytestmark = pytest.mark.usefixtures("pool")


def change(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values or None)


def seen():
    return rows('SELECT "cause", "severity"::text, "status"::text FROM "Incident" ORDER BY "id"')


def quiet():
    """Nothing was seen for six minutes."""
    change("""UPDATE "Incident" SET "lastSeenAt" = now() - interval '6 minutes'""")


def letters(count, fingerprint="ab12", died="1 minute"):
    tenant = make_tenant()
    for _ in range(count):
        job_id = publish_probe(tenant)
        change(
            """INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason",
                                         "error", "fingerprint", "diedAt")
               VALUES (%s, %s, 'probe', 'maintenance', 1, 'permanent', 'no', %s,
                       now() - %s::interval)""",
            *(tenant, job_id, fingerprint, died),
        )


def test_the_sweep_opens_what_dies_by_its_fingerprint_and_leaves_what_is_rare():
    letters(5)
    letters(4, "cd34")

    assert incident_sweep.sweep() == 1
    assert incident_sweep.sweep() == 0
    assert seen() == [("dead:probe:ab12", "MEDIUM", "OPEN")]


def test_a_busy_queue_may_lose_a_few_more_and_ten_are_enough_anywhere():
    tenant = make_tenant()
    change(
        """INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
           SELECT %s, 'j' || n, 'probe', 'maintenance', 'COMPLETED' FROM generate_series(1, 4000) n
        """,
        tenant,
    )
    letters(9)
    assert incident_sweep.sweep() == 0

    letters(1)
    assert incident_sweep.sweep() == 1


def test_events_of_steps_are_not_counted_as_ended_jobs(tenant):
    change(
        """INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
           SELECT 't', 'j', 'probe', 'maintenance', w FROM unnest(
               ARRAY['COMPLETED', 'DEAD', 'STEP_CANCELLED', 'STEP_CANCELLED']) AS w"""
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        assert incidents.select_ended(conn, limit=2) == {"maintenance": 2}


def crash(job_id, worker, error="The worker process died: exit code 139."):
    """A worker process dies of a job."""
    [lease] = claim(job_id, worker=worker)
    failed = attempts.AttemptFailure(
        lease.job_id, lease.fence, "crashed", "WorkerCrashed", error, None, exit_code=139
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.retry(conn, failed, delay_s=0.0)


def test_a_crash_loop_is_named_by_the_incident_that_opens_first_and_told_by_the_late_queue():
    tenant = make_tenant()
    pills = [publish_probe(tenant) for _ in range(5)]
    beside = publish_jobs(tenant, [Nap()])[0]
    for number, pill in enumerate(pills[:4]):
        crash(pill, f"worker-{number}")
    crash(beside, "worker-3")
    assert incident_sweep.sweep() == 0

    crash(pills[4], "worker-4")
    change("""UPDATE "Job" SET "dueAt" = now() - interval '61 s'""")
    change("""UPDATE "JobOutbox" SET "dueAt" = now() - interval '61 s'""")
    incident_sweep.sweep()

    assert seen() == [
        ("crashes:probe", "MEDIUM", "OPEN"),
        ("lag:maintenance", "MEDIUM", "OPEN"),
    ]
    [(loop,), (late,)] = rows('SELECT "description" FROM "Incident" ORDER BY "id"')
    assert "5 worker processes died in ten minutes while they ran probe (5 jobs)" in loop
    assert "exit code 139" in loop
    assert "5 of its worker processes died in ten minutes while they ran probe" in late
    assert "are there workers" not in late

    change("""UPDATE "JobAttempt" SET "endedAt" = now() - interval '11 minutes'""")
    quiet()
    incident_sweep.sweep()
    assert seen()[0] == ("crashes:probe", "MEDIUM", "RESOLVED")


def test_what_dies_as_often_as_in_the_hour_before_is_no_spike():
    letters(10)
    letters(20, died="30 minutes")

    assert incident_sweep.sweep() == 0


def test_letters_that_were_discarded_resolve_the_incident():
    letters(10)
    incident_sweep.sweep()
    change('DELETE FROM "DeadLetter"')
    quiet()

    assert incident_sweep.sweep() == 1
    assert seen() == [("dead:probe:ab12", "MEDIUM", "RESOLVED")]


@pytest.mark.parametrize("sent", [False, True])
def test_a_queue_whose_job_waits_is_late_whether_or_not_it_was_sent(sent):
    job_id = publish_probe(make_tenant())
    if sent:
        claim(job_id)
        change("""UPDATE "Job" SET "state" = 'PENDING', "leaseUntil" = NULL""")
    change("""UPDATE "Job" SET "dueAt" = now() - interval '61 s'""")
    change("""UPDATE "JobOutbox" SET "dueAt" = now() - interval '61 s'""")

    incident_sweep.sweep()

    assert seen() == [("lag:maintenance", "MEDIUM", "OPEN")]


@pytest.mark.parametrize("sent", [False, True])
def test_a_queue_that_people_hold_is_not_late(sent):
    tenant = make_tenant()
    job_id = publish_probe(tenant)
    if sent:
        claim(job_id)
        change("""UPDATE "Job" SET "state" = 'PENDING', "leaseUntil" = NULL""")
    change("""UPDATE "Job" SET "dueAt" = now() - interval '1 hour'""")
    change("""UPDATE "JobOutbox" SET "dueAt" = now() - interval '1 hour'""")
    change("""INSERT INTO "JobHold" ("tenantId", "heldBy") VALUES (%s, 'me')""", tenant)

    assert incident_sweep.sweep() == 0


def test_a_provider_whose_breaker_is_open_is_an_incident_until_it_closes():
    change("""INSERT INTO "AIProvider" ("id", "name", "slug") VALUES ('p', 'P', 'acme-ai')""")
    change(
        """INSERT INTO "ProviderHealth" ("providerId", "state", "failures", "openedAt", "openUntil")
           VALUES ('p', 'open', 5, now(), now() + interval '30 s')"""
    )
    incident_sweep.sweep()
    opened = seen()
    change("""UPDATE "ProviderHealth" SET "state" = 'closed', "openUntil" = NULL""")
    quiet()
    incident_sweep.sweep()

    assert opened == [("provider:acme-ai", "HIGH", "OPEN")]
    assert seen() == [("provider:acme-ai", "HIGH", "RESOLVED")]


def rate(tenant, estimated, actual, count, when="1 minute"):
    change(
        """WITH u AS (
               INSERT INTO "User" ("id", "email", "passwordHash", "tenantId", "updatedAt")
               SELECT i, i || '@x.org', '', %(t)s, now() FROM (SELECT ailydian_new_id() AS i) i
               RETURNING "id"
           ), c AS (
               INSERT INTO "Conversation" ("userId") SELECT "id" FROM u RETURNING "id"
           ) SELECT FROM c""".replace("%(t)s", f"'{tenant}'")
    )
    change(
        """INSERT INTO "Message" ("conversationId", "role", "content")
           SELECT (SELECT max("id") FROM "Conversation"), 'ASSISTANT', 'a'
           FROM generate_series(1, %s)""",
        count,
    )
    change(
        """INSERT INTO "QualityScore" ("messageId", "estimatedScore", "actualScore", "createdAt")
           SELECT m."id", %s, %s, (now() - %s::interval) AT TIME ZONE 'UTC' FROM "Message" m
           WHERE NOT EXISTS (SELECT FROM "QualityScore" q WHERE q."messageId" = m."id")""",
        *(estimated, actual, when),
    )


def calibrate(tenant):
    change(
        """INSERT INTO "QualityCalibration" ("tenantId", "version", "method", "curve", "pairs",
                                             "errorRaw", "error", "createdAt")
           VALUES (%s, 1, 'platt', '{}', 100, 0.2, 0.05, now() - interval '1 hour')""",
        tenant,
    )


def test_estimates_that_people_contradict_are_a_drift_of_the_calibration():
    tenant = make_tenant()
    calibrate(tenant)
    rate(tenant, 0.9, 0.6, 60)

    incident_sweep.sweep()

    assert seen() == [("calibration:1", "MEDIUM", "OPEN")]
    assert rows('SELECT round("figure"::numeric, 3)::text, "tenantId" FROM "Incident"') == [
        ("0.300", tenant)
    ]


def test_estimates_of_before_the_calibration_say_nothing_about_it():
    tenant = make_tenant()
    calibrate(tenant)
    rate(tenant, 0.9, 0.6, 60, when="2 hours")
    rate(tenant, 0.9, 0.8, 60)

    assert incident_sweep.sweep() == 0


def judge(tenant, count, *, flagged, when="1 minute"):
    change(
        """INSERT INTO "ModerationResult" ("tenantId", "contentId", "contentType", "flagged",
                                           "scores", "createdAt")
           SELECT %s, n::text, 'message', %s, '{}', (now() - %s::interval) AT TIME ZONE 'UTC'
           FROM generate_series(1, %s) n""",
        *(tenant, flagged, when, count),
    )


def test_a_surge_of_flagged_content_is_its_tenants_incident():
    attacked, usual = make_tenant(), make_tenant()
    for tenant in (attacked, usual):
        judge(tenant, 30, flagged=True)
        judge(tenant, 70, flagged=False)
        judge(tenant, 150, flagged=False, when="5 hours")
    judge(usual, 50, flagged=True, when="5 hours")

    incident_sweep.sweep()

    assert rows('SELECT "tenantId", "cause" FROM "Incident"') == [(attacked, "moderation:surge")]


def test_a_budget_that_is_used_up_is_an_incident_until_it_is_reset():
    tenant = make_tenant()
    change(
        """INSERT INTO "Budget" ("id", "tenantId", "name", "limitUsd", "spentUsd", "period",
                                 "resetAt")
           VALUES ('b1', %(t)s, 'Chat', 10, 10, 'DAILY', now() + interval '1 day'),
                  ('b2', %(t)s, 'Left', 10, 9.99, 'DAILY', now() + interval '1 day'),
                  ('b3', %(t)s, 'Past', 10, 11, 'DAILY', now() - interval '1 day'),
                  ('b4', %(t)s, 'None', 0, 0, 'DAILY', now() + interval '1 day')
        """.replace("%(t)s", f"'{tenant}'")
    )
    incident_sweep.sweep()
    opened = seen()
    change("""UPDATE "Budget" SET "spentUsd" = 0""")
    quiet()
    incident_sweep.sweep()

    assert opened == [("budget:b1", "HIGH", "OPEN")]
    assert seen() == [("budget:b1", "HIGH", "RESOLVED")]


def test_the_scheduler_looks_for_incidents_and_tells_them():
    assert {"incidents", "notices"} <= scheduler.SWEEPS.keys()
    for name in ("incidents", "notices"):
        scheduler.put_sweep(name)
        change("""UPDATE "Schedule" SET "nextAt" = now(), "slotAt" = now()""")
        assert scheduler.sweep_if_due(name, threading.Event())

    assert rows('SELECT DISTINCT "error" FROM "Schedule"') == [(None,)]


def test_a_plan_never_reads_the_ledger_whole():
    statements = [
        incidents.SELECT_DEAD_SPIKES,
        incidents.SELECT_QUARANTINE_SPIKES,
        incidents.SELECT_UNTAKEN,
        incidents.SELECT_CRASH_LOOPS,
        incidents.SELECT_ENDED,
    ]
    with db.transaction(None, role=Role.RELAY) as conn:
        plans = [
            "\n".join(line for (line,) in conn.execute(f"EXPLAIN {one}", {"limit": 5_000}))
            for one in statements
        ]

    assert 'Seq Scan on "DeadLetter"' not in plans[0]  # which index, test_reads asks of full tables
    assert "Quarantine_receivedAt_idx" in plans[1]
    assert "Job_pkey" in plans[2]
    assert "JobAttempt_crashed_idx" in plans[3]
    assert "Job_pkey" in plans[3]
    assert "JobEvent_pkey" in plans[4]
