"""The sweep of runs: whichever link is broken by hand, the run goes on, or someone hears of it."""

import pytest

from producers.workflow import run_sweep, workflows
from shared import db
from shared.db import Role
from shared.queries.workflow import workflow_steps
from tests.support import factories
from tests.support.workflow_by_hand import chain, claim, node, run_of, start, states


def damage(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values)


def age(*run_ids):
    damage(
        """UPDATE "WorkflowRun" SET "startedAt" = "startedAt" - interval '1 hour'
           WHERE "id" = ANY(%s)""",
        list(run_ids),
    )


def walk_all(tenant):
    while begun := claim(tenant):
        for one in begun:
            if one.at is not None:
                one.walk(lambda at: at.get("item") or "done")


def three_items(tenant, parallel=1):
    nodes = [node(0, "map", 1, mapped=True, spec='{"max_parallel": 1}'), node(1, "end", needs=1)]
    run_id, _ = start(tenant, nodes)
    age(run_id)
    (walker,) = claim(tenant)
    walker.expand(["a", "b", "c"], parallel=parallel)
    return run_id, walker


@pytest.mark.parametrize(
    "broken",
    [
        """UPDATE "WorkflowStep" SET "state" = 'pending' WHERE "itemIndex" = 0""",
        """UPDATE "WorkflowStep" SET "openItems" = 0 WHERE "items" IS NOT NULL""",
        """UPDATE "WorkflowStep" SET "nextItem" = 0 WHERE "items" IS NOT NULL""",
    ],
)
def test_items_that_nothing_carries_are_begun_again(tenant, broken):
    run_id, _ = three_items(tenant)
    damage('DELETE FROM "JobFlight"')
    damage('DELETE FROM "Job"')
    damage(broken)

    assert run_sweep.sweep() == 1
    walk_all(tenant)

    assert run_of(tenant, run_id) == ("completed", None, "done")
    found = factories.rows('SELECT "output" FROM "WorkflowStep" WHERE "id" = %s', f"{run_id}/0")
    assert found == [(["a", "b", "c"],)]


def test_a_mapped_step_whose_items_are_over_is_over(tenant):
    run_id, walker = three_items(tenant)
    damage("""UPDATE "WorkflowStep" SET "state" = 'completed' WHERE "itemIndex" >= 0""")
    damage('DELETE FROM "Job" WHERE "id" = %s', walker.job_id)

    run_sweep.sweep()
    walk_all(tenant)

    assert run_of(tenant, run_id)[0] == "completed"


def test_a_run_whose_last_step_is_over_ends_with_its_output(tenant):
    run_id, _ = start(tenant, chain(1))
    age(run_id)
    damage("""UPDATE "WorkflowStep" SET "state" = 'completed', "output" = '"kept"'""")
    damage('DELETE FROM "JobOutbox"')
    damage('DELETE FROM "Job"')

    assert run_sweep.sweep() == 1

    assert run_of(tenant, run_id) == ("completed", None, "kept")


def test_a_run_without_its_deadline_ends_when_it_is_over_time(tenant):
    run_id, _ = start(tenant, chain(1), timeout_s=60.0)
    age(run_id)
    damage('DELETE FROM "WorkflowWait"')

    assert run_sweep.sweep() == 1
    with db.transaction(None, role=Role.RELAY) as conn:
        workflow_steps.fire_waits(conn, limit=10)

    state, error, _ = run_of(tenant, run_id)
    assert (state, "timed out" in error) == ("failed", True)


def test_a_run_that_nobody_let_in_begins(tenant):
    first, _ = start(tenant, chain(1), slot_key="k")
    second, _ = start(tenant, chain(1), slot_key="k")
    age(first, second)
    damage('DELETE FROM "WorkflowSlot"')
    damage(
        """UPDATE "WorkflowRun" SET "state" = 'completed', "status" = 'COMPLETED'
              WHERE "id" = %s""",
        first,
    )

    assert run_sweep.sweep() == 1

    assert run_of(tenant, second)[0] == "running"


def test_a_run_that_waits_for_its_key_is_sound(tenant):
    first, _ = start(tenant, chain(1), slot_key="k")
    second, _ = start(tenant, chain(1), slot_key="k")
    age(first, second)

    assert run_sweep.sweep() == 0
    assert run_of(tenant, second)[0] == "queued"


def nested(tenant):
    outer, _ = start(tenant, chain(2), name="outer")
    (walker,) = claim(tenant)
    inner, _ = start(tenant, chain(1), name="inner", parent_step=f"{outer}/0", depth=1)
    walker.wait("run", inner)
    age(outer, inner)
    return outer, inner


def test_a_step_whose_run_ended_unheard_is_over(tenant):
    outer, inner = nested(tenant)
    damage(
        """UPDATE "WorkflowRun" SET "state" = 'completed', "status" = 'COMPLETED',
              "output" = '7' WHERE "id" = %s""",
        inner,
    )

    assert run_sweep.sweep() == 1

    assert states(tenant, outer) == {"s0": "completed", "s1": "ready"}


def test_a_run_that_no_step_waits_for_any_more_is_stopped(tenant):
    outer, inner = nested(tenant)
    damage('DELETE FROM "WorkflowWait"')
    damage(
        """UPDATE "WorkflowRun" SET "state" = 'cancelled', "status" = 'CANCELLED'
              WHERE "id" = %s""",
        outer,
    )

    assert run_sweep.sweep() == 1

    assert run_of(tenant, inner)[0] == "cancelled"


def test_undoing_goes_on_where_its_job_is_lost(tenant):
    nodes = [
        node(0, "a", 1, on_error="compensate"),
        node(1, "b", needs=1, on_error="compensate"),
        node(2, "undo_a", compensates=0),
    ]
    run_id, _ = start(tenant, nodes)
    age(run_id)
    (walker,) = claim(tenant)
    walker.finish().fail("no")
    assert walker.name == "undo_a"
    damage('DELETE FROM "Job" WHERE "id" = %s', walker.job_id)

    assert run_sweep.sweep() == 1
    walk_all(tenant)

    assert run_of(tenant, run_id)[:2] == ("failed", "no")


def test_a_paused_run_is_sound_and_stays_paused(tenant):
    run_id, _ = start(tenant, chain(3))
    age(run_id)
    (walker,) = claim(tenant)
    with db.transaction(tenant) as conn:
        workflows.pause(conn, run_id)
    walker.finish()

    assert run_sweep.sweep() == 0
    assert run_of(tenant, run_id)[0] == "paused"


def test_a_run_whose_step_is_being_finished_is_left_alone(tenant):
    run_id, _ = start(tenant, chain(2))
    age(run_id)
    damage('DELETE FROM "JobOutbox"')
    damage('DELETE FROM "Job"')

    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('SELECT FROM "WorkflowStep" WHERE "id" = %s FOR UPDATE', [f"{run_id}/0"])
        assert run_sweep.sweep() == 0

    assert run_sweep.sweep() == 1


def test_runs_that_have_ended_are_nobodys_business(tenant):
    ended, _ = start(tenant, chain(2))
    claim(tenant)[0].fail()
    age(ended)
    before = factories.rows('SELECT "id", "state", "jobId" FROM "WorkflowStep" ORDER BY "id"')

    assert run_sweep.sweep() == 0

    after = factories.rows('SELECT "id", "state", "jobId" FROM "WorkflowStep" ORDER BY "id"')
    assert before == after
    assert factories.rows('SELECT FROM "Incident"') == []


def test_what_is_missing_altogether_is_an_incident_until_the_run_ends(tenant):
    run_id, _ = start(tenant, chain(2))
    age(run_id)
    damage('DELETE FROM "WorkflowStep" WHERE "id" = %s', f"{run_id}/0")

    run_sweep.sweep()
    run_sweep.sweep()
    found = factories.rows('SELECT "title", "status"::text FROM "Incident"')
    with db.transaction(tenant) as conn:
        workflows.cancel(conn, run_id)
    run_sweep.sweep()

    assert found == [(f"A workflow run is stuck: {run_id}", "OPEN")]
    assert factories.rows('SELECT "status"::text FROM "Incident"') == [("RESOLVED",)]
