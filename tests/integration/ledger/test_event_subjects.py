"""Ended runs, steps and batches, and incidents, are events of their own."""

import psycopg
import pytest

from producers.ledger import batches, event_counters, live_events
from producers.queries.ledger import events
from producers.queries.ledger.events import BEGINNING, EventFilters
from producers.queries.operations import incidents
from producers.queries.operations.incidents import NewIncident
from producers.queries.workflow import run_actions
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.queries.ledger import attempts
from tests.support import factories
from tests.support.factories import make_tenant, rows
from tests.support.workflow_by_hand import chain, claim, node, start


@pytest.fixture
def tenant(pool):
    return make_tenant()


def told(tenant_id=None, **wanted):
    """Count, then read what there is from the beginning."""
    with db.transaction(None, role=Role.RELAY) as conn:
        event_counters.fold(conn)
        events.place(conn)
    role = Role.RELAY if tenant_id is None else Role.APP
    with db.transaction(tenant_id, role=role) as conn:
        return events.select_events(conn, BEGINNING, EventFilters(**wanted), limit=100).events


def what(found):
    return [(one.what, one.job) for one in found]


def test_each_ended_step_is_an_event_of_its_run_before_the_run_ends(tenant):
    run_id, _ = start(tenant, chain(3))
    (walker,) = claim(tenant)
    walker.walk(lambda at: at["position"])

    found = told(tenant, any_id=run_id)

    assert what(found) == [
        ("STEP_COMPLETED", "s0"),
        ("STEP_COMPLETED", "s1"),
        ("STEP_COMPLETED", "s2"),
        ("RUN_COMPLETED", "run_step"),
    ]
    assert [one.job_id for one in found] == [f"{run_id}/{n}" for n in range(3)] + [run_id]
    assert [one.subject for one in found] == ["step"] * 3 + ["run"]
    assert what(told(tenant, any_id=f"{run_id}/1")) == [("STEP_COMPLETED", "s1")]


def test_a_failed_step_stops_the_others_and_each_is_told(tenant):
    nodes = [node(0, "a", 1, 2), node(1, "b", needs=1), node(2, "c", needs=1)]
    run_id, _ = start(tenant, nodes)
    (walker,) = claim(tenant)
    walker.finish()
    walker.finish(verdict="failed", error="no")

    found = told(tenant, subjects=frozenset({"step", "run"}))

    assert sorted(what(found)) == [
        ("RUN_FAILED", "run_step"),
        ("STEP_CANCELLED", "c"),
        ("STEP_COMPLETED", "a"),
        ("STEP_FAILED", "b"),
    ]
    assert {one.job_id.partition("/")[0] for one in found} == {run_id}


def test_a_skipped_step_is_told_as_skipped(tenant):
    run_id, _ = start(tenant, chain(2))
    with db.transaction(tenant) as conn:
        run_actions.skip(conn, run_id, "s0")

    assert what(told(tenant))[:1] == [("STEP_SKIPPED", "s0")]


def test_a_step_whose_transaction_fails_is_told_by_nobody(tenant):
    start(tenant, chain(2))
    (walker,) = claim(tenant)
    zombie = type(walker)(tenant, walker.job_id, walker.fence, dict(walker.at))
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.give_back(conn, [(walker.job_id, walker.fence)])
    claim(tenant)

    with pytest.raises(psycopg.DatabaseError, match="no longer owns"):
        zombie.finish("late")
    assert told(tenant, subjects=frozenset({"step"})) == []


def test_a_batch_is_told_when_it_finishes_counted_or_sealed_empty(tenant):
    with db.transaction(tenant) as conn:
        full = batches.publish_batch(conn, [Probe(n=n) for n in range(2)], name="full").id
        empty = batches.open_batch(conn, name="empty")
        batches.seal(conn, empty)
    ids = [one for (one,) in rows('SELECT "id" FROM "Job" WHERE "batchId" = %s', full)]
    leases = factories.claim(*ids)
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, [(one.job_id, one.fence) for one in leases])

    told()  # the end of the batch is noted by who counts
    found = told(tenant, subjects=frozenset({"batch"}))

    assert [(one.what, one.job, one.job_id) for one in found] == [
        ("BATCH_FINISHED", "empty", empty),
        ("BATCH_FINISHED", "full", full),
    ]
    assert len(told(tenant, any_id=full)) == 3


def test_incidents_are_told_to_their_tenant_and_those_of_none_to_nobody_else(tenant):
    other = make_tenant("other")
    with db.transaction(None, role=Role.RELAY) as conn:
        for whose, cause in ((tenant, "lag:ingest"), (None, "server:postgres")):
            new = NewIncident(whose, cause, "It is late", "It has waited.", "MEDIUM", 61.0)
            incidents.raise_incident(conn, new)
    ((mine,),) = rows("""SELECT "id" FROM "Incident" WHERE "tenantId" IS NOT NULL""")
    with db.transaction(None, role=Role.RELAY) as conn:
        incidents.close(conn, mine, "cli:root", "known")

    found = told()

    assert what(told(tenant)) == [
        ("INCIDENT_OPENED", "lag:ingest"),
        ("INCIDENT_RESOLVED", "lag:ingest"),
    ]
    assert told(other) == []
    assert [live_events.document(one)["tenantId"] for one in found] == [tenant, None, tenant]


def test_only_jobs_are_counted(tenant):
    run_id, _ = start(tenant, chain(3))
    (walker,) = claim(tenant)
    walker.walk(lambda at: at["position"])
    told(any_id=run_id)

    assert rows('SELECT "job", "completed" FROM "JobStat"') == [("run_step", 1)]
