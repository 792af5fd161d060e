"""The workflow engine's functions: one round trip a step, and every effect once."""

import psycopg
import pytest

from shared import db
from shared.db import Role
from shared.queries.ledger import attempts
from shared.queries.workflow import workflow_steps
from shared.queries.workflow.workflow_steps import StepJob
from tests.support import factories
from tests.support.workflow_by_hand import Walker, chain, claim, node, run_of, start, states


def delegated(tenant, job="probe", **nodes):
    """A run whose first step has become a job of another kind. Returns run id and its worker."""
    run_id, _ = start(tenant, chain(2, **nodes))
    (walker,) = claim(tenant)
    workflow_steps.delegate(walker.hold, StepJob(job, "maintenance", "{}", 1, 3, "", 1))
    (worker,) = claim(tenant, job)
    return run_id, worker


def test_a_chain_is_walked_by_one_job_to_its_output(tenant):
    run_id, state = start(tenant, chain(5))

    (walker,) = claim(tenant)
    seen = walker.walk(lambda at: at["position"])

    assert state == "running"
    assert seen == ["s0", "s1", "s2", "s3", "s4"]
    assert run_of(tenant, run_id) == ("completed", None, 4)
    assert claim(tenant) == []


def test_a_fan_in_waits_for_its_last_need(tenant):
    nodes = [node(0, "a", 1, 2, 3)]
    nodes += [node(n, f"b{n}", 4, needs=1) for n in (1, 2, 3)] + [node(4, "c", needs=3)]
    run_id, _ = start(tenant, nodes)
    (first,) = claim(tenant)

    first.finish()
    others = claim(tenant)
    assert (first.name, [one.name for one in others]) == ("b1", ["b2", "b3"])
    assert first.finish().at is None
    assert others[0].finish().at is None
    assert others[1].finish().name == "c"
    others[1].finish("end")

    assert run_of(tenant, run_id) == ("completed", None, "end")


def test_an_attempt_that_was_taken_over_finishes_nothing(tenant):
    _, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)
    zombie = Walker(tenant, walker.job_id, walker.fence, dict(walker.at))
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.give_back(conn, [(walker.job_id, walker.fence)])
    (newer,) = claim(tenant)

    with pytest.raises(psycopg.DatabaseError, match="no longer owns"):
        zombie.finish("late")

    assert newer.finish("mine").name == "s1"


def test_a_call_that_is_repeated_finds_its_step_moved_on(tenant):
    run_id, _ = start(tenant, chain(3))
    (walker,) = claim(tenant)
    same = Walker(tenant, walker.job_id, walker.fence, dict(walker.at))

    walker.finish("once")
    same.finish("twice")

    assert same.at["stepId"] == walker.at["stepId"] == f"{run_id}/1"
    with db.transaction(tenant) as conn:
        row = conn.execute('SELECT "output" FROM "WorkflowStep" WHERE "id" = %s', [f"{run_id}/0"])
        assert row.fetchone() == ("once",)


def test_the_receipt_of_another_kinds_job_finishes_the_step(tenant):
    run_id, worker = delegated(tenant)

    with db.transaction(tenant) as conn:
        conn.execute("SELECT ailydian_claim_receipt(%s, %s)", [worker.job_id, worker.fence])
        conn.execute('UPDATE "Job" SET "outcome" = \'{"n": 1}\' WHERE "id" = %s', [worker.job_id])

    assert states(tenant, run_id) == {"s0": "completed", "s1": "ready"}
    with db.transaction(tenant) as conn:
        row = conn.execute('SELECT "output" FROM "WorkflowStep" WHERE "id" = %s', [f"{run_id}/0"])
        assert row.fetchone() == ({"n": 1},)
    (walker,) = claim(tenant)
    assert walker.walk() == ["s1"]


def bury(worker, error="it broke"):
    ending = attempts.AttemptFailure(
        worker.job_id, worker.fence, "refused", "X", error, None, "f00"
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        assert attempts.bury(conn, ending, reason="permanent")


def letters(tenant):
    with db.transaction(tenant) as conn:
        return conn.execute('SELECT count(*) FROM "DeadLetter"').fetchone()[0]


def test_a_dead_letter_fails_the_run(tenant):
    run_id, worker = delegated(tenant)

    bury(worker)

    assert run_of(tenant, run_id)[:2] == ("failed", "it broke")
    assert states(tenant, run_id) == {"s0": "failed", "s1": "cancelled"}
    assert letters(tenant) == 1


def test_a_failure_that_the_definition_answers_leaves_no_letter(tenant):
    run_id, worker = delegated(tenant, on_error="continue")

    bury(worker)

    assert states(tenant, run_id) == {"s0": "failed", "s1": "ready"}
    assert letters(tenant) == 0
    (walker,) = claim(tenant)
    walker.walk()
    assert run_of(tenant, run_id)[0] == "completed"


def test_items_run_a_few_at_once_and_are_collected_in_order(tenant):
    run_id, _ = start(tenant, [node(0, "map", 1, mapped=True), node(1, "end", needs=1)])
    (walker,) = claim(tenant)
    assert walker.at["expand"]

    walker.expand(list(range(20)), parallel=3)
    walkers = [walker, *claim(tenant)]
    most = 0
    while any(one.at for one in walkers):
        busy = [one for one in walkers if one.at and one.at["index"] >= 0]
        if not busy:
            break
        most = max(most, len(busy))
        for one in reversed(busy):
            one.finish(one.at["item"] * 10)
            if one.at and one.at["position"] == 1:
                one.finish("end")
    assert most == 3
    assert claim(tenant) == []
    with db.transaction(tenant) as conn:
        row = conn.execute('SELECT "output" FROM "WorkflowStep" WHERE "id" = %s', [f"{run_id}/0"])
        assert row.fetchone() == ([n * 10 for n in range(20)],)
    assert run_of(tenant, run_id) == ("completed", None, "end")


def test_an_empty_list_is_done_at_once(tenant):
    _, _ = start(tenant, [node(0, "map", 1, mapped=True), node(1, "end", needs=1)])
    (walker,) = claim(tenant)

    assert walker.expand([]).name == "end"


def test_one_failed_item_fails_its_step_and_run(tenant):
    run_id, _ = start(tenant, [node(0, "map", mapped=True)])
    (walker,) = claim(tenant)
    walker.expand([1, 2, 3])

    walker.fail("bad item")

    assert run_of(tenant, run_id)[:2] == ("failed", "bad item")
    assert states(tenant, run_id)["map"] == "failed"
    assert claim(tenant) == []


def fire(limit=100):
    with db.transaction(None, role=Role.RELAY) as conn:
        return workflow_steps.fire_waits(conn, limit=limit)


def make_due(tenant):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "WorkflowWait" SET "dueAt" = now() WHERE "dueAt" IS NOT NULL')


def test_a_timer_fires_when_it_is_due_and_not_before(tenant):
    run_id, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)
    walker.wait("timer", wait_s=3_600)

    assert fire() == 0
    make_due(tenant)
    assert fire() == 1

    assert states(tenant, run_id) == {"s0": "completed", "s1": "ready"}


def test_waiting_too_long_for_a_signal_fails_the_step(tenant):
    run_id, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)
    walker.wait("signal", "go", wait_s=3_600)
    make_due(tenant)

    fire()

    state, error, _ = run_of(tenant, run_id)
    assert (state, "timed out" in error) == ("failed", True)


def test_a_run_ends_at_its_deadline(tenant):
    run_id, _ = start(tenant, chain(3), timeout_s=60.0)
    (walker,) = claim(tenant)
    make_due(tenant)

    fire()

    assert run_of(tenant, run_id)[0] == "failed"
    with pytest.raises(psycopg.DatabaseError, match="no longer owns"):
        walker.finish("too late")


def test_what_was_done_is_undone_in_reverse(tenant):
    nodes = [
        node(0, "a", 1, on_error="compensate"),
        node(1, "b", 2, needs=1, on_error="compensate"),
        node(2, "c", needs=1, on_error="compensate"),
        node(3, "undo_a", compensates=0),
        node(4, "undo_b", compensates=1),
    ]
    run_id, _ = start(tenant, nodes)
    (walker,) = claim(tenant)
    walker.finish().finish()

    walker.fail("no")
    undone = walker.walk()

    assert undone == ["undo_b", "undo_a"]
    assert run_of(tenant, run_id)[:2] == ("failed", "no")


def test_a_run_waits_for_the_one_with_its_key(tenant):
    first, _ = start(tenant, chain(1), slot_key="k")
    second, state = start(tenant, chain(1), slot_key="k")
    assert state == "queued"
    (walker,) = claim(tenant)

    walker.walk()
    (next_walker,) = claim(tenant)
    next_walker.walk()

    assert run_of(tenant, first)[0] == run_of(tenant, second)[0] == "completed"


def test_a_newer_run_takes_the_place_of_the_one_with_its_key(tenant):
    first, _ = start(tenant, chain(1), slot_key="k")
    _, state = start(tenant, chain(1), slot_key="k", on_conflict="cancel_previous")

    assert (run_of(tenant, first)[0], state) == ("cancelled", "running")


def test_a_run_may_be_rejected_for_its_key(tenant):
    start(tenant, chain(1), slot_key="k")

    with pytest.raises(psycopg.DatabaseError, match="another run holds"):
        start(tenant, chain(1), slot_key="k", on_conflict="reject")


def test_the_same_key_starts_one_run(tenant):
    first, _ = start(tenant, chain(1), key="order-7")
    second, _ = start(tenant, chain(1), key="order-7")

    assert first == second


def test_a_large_output_is_read_by_the_next_step_all_the_same(tenant):
    nodes = [node(0, "big", 1), node(1, "reader", needs=1, reads=(0,))]
    run_id, _ = start(tenant, nodes)
    (walker,) = claim(tenant)
    large = [f"{n:064d}{n * 7919:020d}" for n in range(20_000)]

    walker.finish(large)

    assert walker.at["steps"]["big"]["output"] == large
    with db.transaction(tenant) as conn:
        row = conn.execute('SELECT "output" FROM "WorkflowStep" WHERE "id" = %s', [f"{run_id}/0"])
        assert list(row.fetchone()[0]) == ["$bytes"]


def test_a_run_within_a_run_finishes_the_step_that_waits(tenant):
    outer, _ = start(tenant, chain(2), name="outer")
    (walker,) = claim(tenant)
    child, _ = start(tenant, chain(1), name="inner", parent_step=f"{outer}/0", depth=1)
    walker.wait("run", child)
    (inner,) = claim(tenant)

    inner.finish({"deep": True})

    assert states(tenant, outer) == {"s0": "completed", "s1": "ready"}


def test_an_outsider_of_the_tenant_cannot_touch_a_step(tenant):
    run_id, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)
    walker.tenant_id = factories.make_tenant("other")

    with pytest.raises(psycopg.DatabaseError, match="no longer owns"):
        walker.finish("stolen")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction(tenant) as conn:
        conn.execute(
            "SELECT ailydian_settle_step(%s, 'completed', NULL, NULL, NULL, NULL)", [f"{run_id}/0"]
        )
