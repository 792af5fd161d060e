"""What people do to runs: cancel, pause, signal, approve, skip, retry, begin again from a step."""

import psycopg
import pytest

from producers.queries.ledger import dead_letters
from producers.workflow import run_sweep, workflows
from shared import db
from shared.db import Role
from shared.errors import RunNotFound, RunRefused
from tests.support import factories
from tests.support.workflow_by_hand import chain, claim, node, run_of, start, states


def act(tenant, verb, run_id, *arguments, **options):
    with db.transaction(tenant) as conn:
        return getattr(workflows, verb)(conn, run_id, *arguments, **options)


def acts(tenant):
    with db.transaction(None, role=Role.OWNER) as conn:
        rows = conn.execute('SELECT "action" FROM "AuditLog" ORDER BY "createdAt", "id"')
        return [action for (action,) in rows]


def test_a_cancelled_run_stops_with_all_its_jobs(tenant):
    run_id, _ = start(tenant, chain(3))
    (walker,) = claim(tenant)

    act(tenant, "cancel", run_id)

    assert run_of(tenant, run_id)[0] == "cancelled"
    assert set(states(tenant, run_id).values()) == {"cancelled"}
    with pytest.raises(psycopg.DatabaseError, match="no longer owns"):
        walker.finish("late")
    assert acts(tenant) == ["workflow.cancel"]


def test_cancelling_reaches_the_run_within_the_run(tenant):
    outer, _ = start(tenant, chain(2), name="outer")
    (walker,) = claim(tenant)
    inner, _ = start(tenant, chain(1), name="inner", parent_step=f"{outer}/0", depth=1)
    walker.wait("run", inner)

    act(tenant, "cancel", outer)

    assert run_of(tenant, inner)[0] == "cancelled"
    assert claim(tenant) == []


def test_a_run_that_has_ended_is_not_cancelled(tenant):
    run_id, _ = start(tenant, chain(1))
    claim(tenant)[0].walk()

    with pytest.raises(RunRefused, match="is completed"):
        act(tenant, "cancel", run_id)
    assert acts(tenant) == []


def test_another_tenants_run_is_as_good_as_none(tenant):
    run_id, _ = start(tenant, chain(1))
    other = factories.make_tenant()

    with pytest.raises(RunNotFound) as refused:
        act(other, "cancel", run_id)
    with pytest.raises(RunNotFound) as unknown:
        act(other, "cancel", "nothing")
    assert str(refused.value).replace(run_id, "X") == str(unknown.value).replace("nothing", "X")


def test_a_paused_run_begins_nothing_until_it_is_resumed(tenant):
    run_id, _ = start(tenant, chain(3))
    (walker,) = claim(tenant)

    act(tenant, "pause", run_id)
    assert walker.finish().at is None
    assert claim(tenant) == []
    act(tenant, "resume", run_id)

    assert claim(tenant)[0].walk() == ["s1", "s2"]
    assert run_of(tenant, run_id)[0] == "completed"


def test_a_job_that_comes_while_its_run_is_paused_is_done_after_it(tenant):
    run_id, _ = start(tenant, chain(1))
    act(tenant, "pause", run_id)

    assert [one.at for one in claim(tenant)] == [None]
    act(tenant, "resume", run_id)

    assert claim(tenant)[0].walk() == ["s0"]


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_is_taken_whether_it_comes_before_or_after(tenant, early):
    run_id, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)
    if early:
        act(tenant, "signal", run_id, "go", {"n": 1})
    walker.wait("signal", "go")
    if not early:
        assert walker.at is None
        act(tenant, "signal", run_id, "go", {"n": 1})
        (walker,) = claim(tenant)

    walker.walk()

    with db.transaction(tenant) as conn:
        row = conn.execute('SELECT "output" FROM "WorkflowStep" WHERE "id" = %s', [f"{run_id}/0"])
        assert row.fetchone() == ({"payload": {"n": 1}},)
    assert run_of(tenant, run_id)[0] == "completed"


def test_a_signal_of_another_name_wakes_nobody(tenant):
    run_id, _ = start(tenant, chain(2))
    claim(tenant)[0].wait("signal", "go")

    act(tenant, "signal", run_id, "stop", None)

    assert states(tenant, run_id)["s0"] == "waiting"


@pytest.mark.parametrize(("approved", "state"), [(True, "completed"), (False, "failed")])
def test_an_approval_lets_the_step_pass_or_fails_it(tenant, approved, state):
    run_id, _ = start(tenant, chain(1))
    claim(tenant)[0].wait("approval", "s0")

    act(tenant, "approve", run_id, "s0", approved=approved, comment="so it is")

    assert run_of(tenant, run_id)[0] == state


def test_nobody_approves_of_what_does_not_wait(tenant):
    run_id, _ = start(tenant, chain(1))

    with pytest.raises(RunRefused, match="waits for an approval"):
        act(tenant, "approve", run_id, "s0", approved=True)


def test_a_skipped_step_lets_the_next_begin(tenant):
    run_id, _ = start(tenant, chain(2))
    claim(tenant)[0].wait("signal", "never")

    act(tenant, "skip", run_id, "s0")

    assert states(tenant, run_id) == {"s0": "skipped", "s1": "ready"}


def test_a_step_that_was_skipped_while_it_ran_finishes_nothing(tenant):
    run_id, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)

    act(tenant, "skip", run_id, "s0")

    with pytest.raises(psycopg.DatabaseError, match="no longer owns"):
        walker.finish("late")
    assert states(tenant, run_id) == {"s0": "skipped", "s1": "ready"}


def test_a_failed_run_goes_on_where_it_failed(tenant):
    nodes = [node(0, "a", 1, 2), node(1, "b", 3, needs=1), node(2, "c", 3, needs=1)]
    run_id, _ = start(tenant, [*nodes, node(3, "d", needs=2)])
    (walker,) = claim(tenant)
    walker.finish("kept")
    walker.fail()
    assert run_of(tenant, run_id)[0] == "failed"

    act(tenant, "retry", run_id)
    begun = claim(tenant)

    assert sorted(one.name for one in begun) == ["b", "c"]
    for one in begun:
        one.walk()
    assert run_of(tenant, run_id)[:2] == ("completed", None)


def test_the_items_that_failed_are_done_again_and_the_others_kept(tenant):
    run_id, _ = start(tenant, [node(0, "map", 1, mapped=True), node(1, "end", needs=1)])
    (walker,) = claim(tenant)
    walker.expand([10, 11, 12, 13], parallel=2)
    (other,) = claim(tenant)
    other.finish("kept")
    walker.fail()

    act(tenant, "retry", run_id)
    for one in claim(tenant):
        one.walk(lambda at: "again")

    with db.transaction(tenant) as conn:
        row = conn.execute('SELECT "output" FROM "WorkflowStep" WHERE "id" = %s', [f"{run_id}/0"])
        assert row.fetchone() == (["again", "kept", "again", "again"],)
    assert run_of(tenant, run_id)[0] == "completed"


def test_a_run_that_was_undone_is_not_retried_in_place(tenant):
    nodes = [
        node(0, "a", 1, on_error="compensate"),
        node(1, "b", needs=1, on_error="compensate"),
        node(2, "undo_a", compensates=0),
    ]
    run_id, _ = start(tenant, nodes)
    (walker,) = claim(tenant)
    walker.finish().fail()
    walker.walk()

    with pytest.raises(RunRefused, match="undone"):
        act(tenant, "retry", run_id)


def test_a_new_run_from_a_step_takes_over_what_came_before(tenant):
    run_id, _ = start(tenant, chain(4))
    claim(tenant)[0].walk(lambda at: at["position"])

    new_id = act(tenant, "retry", run_id, from_step="s2")
    (walker,) = claim(tenant)

    assert (new_id != run_id, walker.name) == (True, "s2")
    assert walker.walk() == ["s2", "s3"]
    assert states(tenant, run_id) == dict.fromkeys(["s0", "s1", "s2", "s3"], "completed")
    with db.transaction(tenant) as conn:
        row = conn.execute('SELECT "forkOf" FROM "WorkflowRun" WHERE "id" = %s', [new_id])
        assert row.fetchone() == (run_id,)


def test_a_replayed_letter_revives_its_run(tenant):
    run_id, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(
            """UPDATE "Job" SET "state" = 'DEAD', "leaseUntil" = NULL, "finishedAt" = now(),
                      "error" = 'it broke' WHERE "id" = %s""",
            [walker.job_id],
        )
        conn.execute('DELETE FROM "JobFlight"')
        conn.execute(
            """INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason",
                                         "error", "fingerprint")
               VALUES (%s, %s, 'run_step', 'workflow', 3, 'exhausted', 'it broke', 'f')""",
            [tenant, walker.job_id],
        )
    assert run_of(tenant, run_id)[0] == "failed"

    with db.transaction(None, role=Role.RELAY) as conn:
        assert len(dead_letters.replay(conn, [walker.job_id])) == 1

    assert run_of(tenant, run_id)[0] == "running"
    (again,) = claim(tenant)
    assert (again.job_id, again.walk()) == (walker.job_id, ["s0", "s1"])
    assert run_of(tenant, run_id)[0] == "completed"


def age(run_id):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "WorkflowRun" SET "startedAt" = "startedAt" - interval '1 hour'
               WHERE "id" = %s""",
            [run_id],
        )


def damage(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values)


def test_the_sweep_leaves_sound_runs_alone(tenant):
    for nodes in (chain(2), [node(0, "map", mapped=True)]):
        run_id, _ = start(tenant, nodes)
        age(run_id)
    first, second = claim(tenant)
    first.wait("signal", "go")
    second.expand([1, 2, 3], parallel=1)

    assert run_sweep.sweep() == 0


def test_the_sweep_gives_a_step_whose_job_is_gone_another(tenant):
    run_id, _ = start(tenant, chain(2))
    age(run_id)
    damage('DELETE FROM "JobOutbox"')
    damage('DELETE FROM "Job"')

    assert run_sweep.sweep() == 1

    assert claim(tenant)[0].walk() == ["s0", "s1"]


def test_the_sweep_wakes_a_step_that_waits_for_nothing(tenant):
    run_id, _ = start(tenant, chain(1))
    age(run_id)
    claim(tenant)[0].wait("signal", "go")
    damage('DELETE FROM "WorkflowWait"')

    assert run_sweep.sweep() == 1

    assert claim(tenant)[0].name == "s0"


def test_the_sweep_counts_a_run_again_that_has_stopped(tenant):
    run_id, _ = start(tenant, chain(2))
    age(run_id)
    (walker,) = claim(tenant)
    damage('UPDATE "WorkflowStep" SET "openNeeds" = 2 WHERE "id" = %s', f"{run_id}/1")
    walker.finish()

    assert run_sweep.sweep() == 1

    assert claim(tenant)[0].walk() == ["s1"]
    assert run_of(tenant, run_id)[0] == "completed"


def test_what_cannot_be_mended_is_an_incident_once(tenant):
    run_id, _ = start(tenant, chain(2))
    age(run_id)
    claim(tenant)
    damage('UPDATE "WorkflowStep" SET "state" = \'cancelled\' WHERE "runId" = %s', run_id)

    run_sweep.sweep()
    run_sweep.sweep()
    incidents = factories.rows('SELECT "title", "status" FROM "Incident"')
    act(tenant, "cancel", run_id)
    run_sweep.sweep()

    assert incidents == [(f"A workflow run is stuck: {run_id}", "OPEN")]
    assert factories.rows('SELECT "status" FROM "Incident"') == [("RESOLVED",)]
