"""Incidents: opened once a cause, graver while nobody looks, gone when their cause is."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from producers.operations import incident_sweep
from producers.queries.operations import incidents
from producers.queries.operations.incidents import NewIncident
from producers.workflow import run_sweep
from shared import db
from shared.db import Role
from tests.support.factories import make_tenant, rows
from tests.support.patience import patience
from tests.support.workflow_by_hand import chain, start

pytestmark = pytest.mark.usefixtures("pool")


def change(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values or None)


def as_relay(act, *arguments, **options):
    with db.transaction(None, role=Role.RELAY) as conn:
        return act(conn, *arguments, **options)


def raised(cause="lag:ingest", severity="MEDIUM", measured=61.0, tenant=None):
    new = NewIncident(tenant, cause, "It is late", "It has waited.", severity, measured)
    return as_relay(incidents.raise_incident, new)


def seen():
    return rows(
        'SELECT "cause", "severity"::text, "status"::text, "escalations" FROM "Incident" '
        'ORDER BY "detectedAt", "id"'
    )


def told():
    found = rows('SELECT "event" FROM "IncidentNotice" ORDER BY "createdAt", "id"')
    return [event for (event,) in found]


def age(minutes):
    change(
        """UPDATE "Incident" i SET "detectedAt" = i."detectedAt" - a.m,
               "lastSeenAt" = i."lastSeenAt" - a.m, "escalatedAt" = i."escalatedAt" - a.m,
               "resolvedAt" = i."resolvedAt" - a.m
           FROM (SELECT %s * interval '1 minute' AS m) a""",
        minutes,
    )


def close(reason="known"):
    ((incident_id,),) = rows("""SELECT "id" FROM "Incident" WHERE "status" <> 'CLOSED'""")
    return as_relay(incidents.close, incident_id, "cli:root", reason)


def test_a_cause_opens_one_incident_however_often_it_is_seen():
    assert [raised(), raised(), raised()] == ["opened", None, None]

    assert seen() == [("lag:ingest", "MEDIUM", "OPEN", 0)]
    assert told() == ["opened"]


def test_two_schedulers_that_see_it_at_once_open_one():
    gate = threading.Barrier(4, timeout=patience(10))

    def see(_):
        gate.wait()
        return raised()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(see, range(4)))

    assert sorted(found, key=str) == [None, None, None, "opened"]
    assert len(seen()) == 1


def test_equal_causes_of_two_tenants_and_of_the_system_are_three_incidents():
    tenants = [make_tenant(), make_tenant(), None]

    found = [raised("moderation:surge", tenant=tenant) for tenant in tenants]

    assert found == ["opened"] * 3


def test_what_nobody_takes_gets_graver_after_a_quarter_of_an_hour_and_then_hourly():
    raised()
    age(14)
    early = raised()
    age(2)
    first = raised()
    age(59)
    still = raised()
    age(2)
    second = raised()
    age(600)
    most = raised()

    assert [early, first, still, second, most] == [None, "escalated", None, "escalated", None]
    assert seen() == [("lag:ingest", "CRITICAL", "OPEN", 2)]
    assert told() == ["opened", "escalated", "escalated"]


def test_what_somebody_works_on_gets_graver_only_by_its_figure():
    raised(measured=61.0)
    ((incident_id,),) = rows('SELECT "id" FROM "Incident"')
    as_relay(incidents.take, incident_id, "cli:root")
    age(120)

    by_time, by_figure, again = raised(), raised(measured=122.0), raised(measured=130.0)

    assert (by_time, by_figure, again) == (None, "escalated", None)
    assert seen() == [("lag:ingest", "HIGH", "INVESTIGATING", 1)]


def test_a_graver_finding_makes_the_incident_as_grave():
    raised()

    assert raised(severity="CRITICAL") == "escalated"
    assert raised(severity="MEDIUM") is None
    assert seen() == [("lag:ingest", "CRITICAL", "OPEN", 1)]


def test_what_was_not_seen_for_five_minutes_resolves_itself_and_may_come_again():
    raised()
    age(4)
    early = as_relay(incidents.settle, ["lag"], quiet_s=incident_sweep.QUIET_S)
    age(2)
    foreign = as_relay(incidents.settle, ["dead"], quiet_s=incident_sweep.QUIET_S)
    late = as_relay(incidents.settle, ["lag"], quiet_s=incident_sweep.QUIET_S)

    assert (early, foreign, late) == (0, 0, 1)
    assert raised() == "opened"
    assert [status for _, _, status, _ in seen()] == ["RESOLVED", "OPEN"]
    assert told() == ["opened", "resolved", "opened"]


def test_what_a_person_closed_stays_closed_for_an_hour_unless_it_gets_worse():
    raised(measured=61.0)
    close()

    same, doubled = raised(measured=121.0), raised(measured=122.0)

    assert (same, doubled) == (None, "opened")


def test_a_graver_finding_opens_what_was_closed():
    raised(severity="MEDIUM")
    close()

    assert raised(severity="HIGH") == "opened"


def test_what_was_closed_an_hour_ago_opens_again():
    raised()
    close()
    age(61)

    assert raised() == "opened"


def test_what_is_over_can_neither_be_taken_nor_closed():
    raised()
    ((incident_id,),) = rows('SELECT "id" FROM "Incident"')

    assert close() == (None, "OPEN")
    assert as_relay(incidents.close, incident_id, "cli:root", "again") is None
    assert as_relay(incidents.take, incident_id, "cli:root") is None


def test_a_notice_tells_who_what_and_how_bad():
    tenant = make_tenant("acme")
    raised("budget:b1", "HIGH", 1.0, tenant)

    ((body, noticed),) = rows('SELECT "body", "tenantId" FROM "IncidentNotice"')
    assert noticed == tenant
    assert body["event"] == "incident.opened"
    incident = body["incident"]
    assert incident["tenant"] == "acme"
    assert (incident["cause"], incident["severity"], incident["status"]) == (
        *("budget:b1", "HIGH"),
        "OPEN",
    )
    assert incident["detectedAt"].endswith("Z")
    assert incident["resolvedAt"] is None


def test_an_incident_that_the_platform_writes_is_told_too():
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("SET LOCAL ROLE ailydian_platform")
        conn.execute(
            """INSERT INTO "Incident" ("title", "description", "severity", "status")
               VALUES ('t', 'd', 'LOW', 'OPEN')"""
        )
        conn.execute("""UPDATE "Incident" SET "status" = 'RESOLVED'""")

    assert told() == ["opened", "resolved"]


def test_a_stuck_run_has_a_cause_is_told_and_outlives_the_sweep_of_the_others():
    tenant = make_tenant()
    run_id, _ = start(tenant, chain(2))
    change("""UPDATE "WorkflowRun" SET "startedAt" = "startedAt" - interval '1 hour'""")
    change('DELETE FROM "WorkflowStep" WHERE "id" = %s', f"{run_id}/0")
    run_sweep.sweep()
    age(60)

    incident_sweep.sweep()

    assert seen() == [(f"stuck-run:{run_id}", "HIGH", "OPEN", 0)]
    assert told() == ["opened"]
