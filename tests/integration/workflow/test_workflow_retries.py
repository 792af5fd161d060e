"""Acts where they meet: retries of runs with letters, items and runs of their own; two at once."""

import threading

import psycopg
import pytest

from producers.queries.ledger import dead_letters
from producers.workflow import workflows
from shared import db
from shared.db import Role
from shared.errors import RunRefused, SignalRefused
from shared.queries.accounts import accounts
from shared.queries.ledger import attempts
from shared.queries.workflow import workflow_steps
from shared.queries.workflow.workflow_steps import StepJob
from tests.support import factories
from tests.support.workflow_by_hand import chain, claim, node, run_of, start, states


def act(tenant, verb, run_id, *arguments, **options):
    with db.transaction(tenant) as conn:
        return getattr(workflows, verb)(conn, run_id, *arguments, **options)


def die(tenant):
    """Let the step that is due become a job of another kind, and that one die. Its id."""
    (walker,) = claim(tenant)
    workflow_steps.delegate(walker.hold, StepJob("probe", "maintenance", "{}", 1, 3, "", 1))
    (worker,) = claim(tenant, "probe")
    ending = attempts.AttemptFailure(
        worker.job_id, worker.fence, "refused", "X", "broke", None, "f00"
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        assert attempts.bury(conn, ending, reason="permanent")
    return worker.job_id


def replay(job_id):
    with db.transaction(None, role=Role.RELAY) as conn:
        return len(dead_letters.replay(conn, [job_id]))


def nested(tenant):
    outer, _ = start(tenant, chain(2), name="outer")
    (walker,) = claim(tenant)
    inner, _ = start(tenant, chain(2), name="inner", parent_step=f"{outer}/0", depth=1)
    walker.wait("run", inner)
    return outer, inner


def test_a_retried_run_has_discarded_its_letter(tenant):
    run_id, _ = start(tenant, chain(2))
    job_id = die(tenant)

    act(tenant, "retry", run_id)

    assert factories.rows('SELECT FROM "DeadLetter"') == []
    assert factories.job(job_id)["state"] == "CANCELLED"
    told = factories.rows("""SELECT "what" FROM "JobEvent" WHERE "jobId" = %s""", job_id)
    assert ("DISCARDED",) in told
    assert claim(tenant)[0].walk() == ["s0", "s1"]


@pytest.mark.parametrize("from_step", [None, "s1"])
def test_a_run_that_goes_on_has_a_deadline_again(tenant, from_step):
    run_id, _ = start(tenant, chain(2), timeout_s=60.0)
    claim(tenant)[0].finish().fail()

    going_on = act(tenant, "retry", run_id, from_step=from_step)

    waits = factories.rows('SELECT "what", "dueAt" > now() FROM "WorkflowWait"')
    assert (waits, going_on == run_id) == ([("deadline", True)], from_step is None)


def test_the_items_of_a_retried_step_still_run_a_few_at_once(tenant):
    run_id, _ = start(tenant, [node(0, "map", mapped=True, spec='{"max_parallel": 2}')])
    (walker,) = claim(tenant)
    walker.expand(list(range(20)), parallel=2)
    claim(tenant)
    walker.finish().fail()

    act(tenant, "retry", run_id)

    first = claim(tenant)
    assert len(first) == 2
    assert sum(len(one.walk(lambda at: at["item"])) for one in first) == 19
    assert run_of(tenant, run_id)[0] == "completed"


def test_a_retried_run_within_a_run_takes_the_outer_one_along(tenant):
    outer, inner = nested(tenant)
    claim(tenant)[0].fail()
    assert run_of(tenant, outer)[0] == "failed"

    act(tenant, "retry", inner)
    assert states(tenant, outer) == {"s0": "waiting", "s1": "pending"}
    claim(tenant)[0].walk()
    claim(tenant)[0].walk()

    assert run_of(tenant, inner)[0] == run_of(tenant, outer)[0] == "completed"


def test_a_run_that_its_step_has_replaced_is_not_retried(tenant):
    outer, inner = nested(tenant)
    claim(tenant)[0].fail()
    act(tenant, "retry", outer)

    with pytest.raises(RunRefused, match="gone on without it"):
        act(tenant, "retry", inner)
    assert states(tenant, outer)["s0"] == "ready"


def test_a_run_is_not_retried_while_another_holds_its_key(tenant):
    first, _ = start(tenant, chain(1), slot_key="k")
    claim(tenant)[0].fail()
    second, _ = start(tenant, chain(1), slot_key="k")

    with pytest.raises(RunRefused, match="concurrency key"):
        act(tenant, "retry", first)
    claim(tenant)[0].walk()
    act(tenant, "retry", first)

    assert (run_of(tenant, first)[0], run_of(tenant, second)[0]) == ("running", "completed")


def test_a_letter_whose_run_cannot_go_on_is_cancelled_and_says_why(tenant):
    run_id, _ = start(tenant, chain(1), slot_key="k")
    job_id = die(tenant)
    start(tenant, chain(1), slot_key="k")

    assert replay(job_id) == 1

    job = factories.job(job_id)
    assert (job["state"], job["outbox"]) == ("CANCELLED", 0)
    assert "concurrency key" in job["error"]
    assert run_of(tenant, run_id)[0] == "failed"


def test_a_replayed_letter_of_an_inner_run_takes_the_outer_one_along(tenant):
    outer, _ = start(tenant, chain(1), name="outer")
    (walker,) = claim(tenant)
    inner, _ = start(tenant, chain(1), name="inner", parent_step=f"{outer}/0", depth=1)
    walker.wait("run", inner)
    job_id = die(tenant)
    assert run_of(tenant, outer)[0] == "failed"

    assert replay(job_id) == 1

    assert (run_of(tenant, outer)[0], run_of(tenant, inner)[0]) == ("running", "running")


def test_a_cancelled_step_leaves_its_key_to_the_next(tenant):
    spec = '{"concurrency": "k"}'
    first, _ = start(tenant, chain(1, spec=spec))
    second, _ = start(tenant, chain(1, spec=spec))
    held, waiting = claim(tenant)
    assert workflow_steps.queue(held.hold, "step/k")
    assert not workflow_steps.queue(waiting.hold, "step/k")

    act(tenant, "cancel", held.at["runId"])

    assert {held.at["runId"], waiting.at["runId"]} == {first, second}
    (next_one,) = claim(tenant)
    assert next_one.at["runId"] == waiting.at["runId"]


def test_a_skipped_step_stops_the_run_that_it_waits_for(tenant):
    outer, inner = nested(tenant)

    act(tenant, "skip", outer, "s0")

    assert run_of(tenant, inner)[0] == "cancelled"
    assert states(tenant, outer) == {"s0": "skipped", "s1": "ready"}


def test_items_of_a_skipped_step_take_no_more_signals(tenant):
    nodes = [node(0, "map", 1, mapped=True), node(1, "end", needs=1)]
    run_id, _ = start(tenant, nodes)
    (walker,) = claim(tenant)
    walker.expand([1])
    walker.wait("signal", "go")

    act(tenant, "skip", run_id, "map")
    claim(tenant)[0].wait("signal", "go")
    act(tenant, "signal", run_id, "go", 1)

    assert run_of(tenant, run_id)[0] == "completed"


def test_nobody_approves_by_a_signal(tenant):
    run_id, _ = start(tenant, chain(1, uses="approval"))

    with pytest.raises(SignalRefused, match="approval"):
        act(tenant, "signal", run_id, "s0", {"approved": True})


def test_an_act_that_is_done_is_refused_the_second_time(tenant):
    run_id, _ = start(tenant, chain(3))
    for verb, arguments in (("pause", ()), ("resume", ()), ("skip", ("s0",)), ("cancel", ())):
        act(tenant, verb, run_id, *arguments)
        with pytest.raises(RunRefused):
            act(tenant, verb, run_id, *arguments)
    act(tenant, "retry", run_id)
    with pytest.raises(RunRefused):
        act(tenant, "retry", run_id)


def test_a_thousand_signals_wait_and_no_more(tenant):
    run_id, _ = start(tenant, chain(1))
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "WorkflowSignal" ("tenantId", "runId", "name")
               SELECT %s, %s, 'n' FROM generate_series(1, 1000)""",
            [tenant, run_id],
        )

    with pytest.raises(SignalRefused, match="1,000"):
        act(tenant, "signal", run_id, "go", 1)


def behind(conn, work):
    """Begin work in a thread and return once it waits for a lock that `conn` holds."""
    thread = threading.Thread(target=work)
    thread.start()
    while not conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    ).fetchone()[0]:
        assert thread.is_alive(), "it waited for nothing"
    return thread


def test_a_resume_sees_what_a_walker_has_just_parked(tenant, database_url):
    run_id, _ = start(tenant, chain(2))
    (walker,) = claim(tenant)
    act(tenant, "pause", run_id)

    with psycopg.connect(database_url) as conn:  # resumed, and not yet committed
        conn.execute("SELECT set_config('app.tenant_id', %s, true)", [tenant])
        conn.execute("SELECT ailydian_resume_run(%s)", [run_id])
        thread = behind(conn, walker.finish)
        conn.commit()
        thread.join()

    assert walker.name == "s1"


def test_a_signal_and_a_walker_that_ends_the_run_wait_for_each_other_in_one_order(
    tenant, database_url
):
    nodes = [node(0, "a", 2), node(1, "b", 2), node(2, "end", needs=2)]
    run_id, _ = start(tenant, nodes)
    waiting, walker = claim(tenant)
    waiting.wait("signal", "go")

    with psycopg.connect(database_url) as conn:  # finishes b: it has the row of `end` locked
        conn.execute("SELECT set_config('app.tenant_id', %s, true)", [tenant])
        conn.execute('SELECT FROM "WorkflowStep" WHERE "id" = %s FOR UPDATE', [f"{run_id}/2"])
        thread = behind(conn, lambda: act(tenant, "signal", run_id, "go", 1))
        conn.execute("SET LOCAL lock_timeout = '500ms'")
        conn.execute('UPDATE "WorkflowRun" SET "error" = NULL WHERE "id" = %s', [run_id])
        conn.commit()
        thread.join()

    assert states(tenant, run_id)["a"] == "completed"
    assert walker.finish().name == "end"


def test_a_tenant_takes_its_runs_along(tenant):
    spec = '{"concurrency": "k"}'
    run_id, _ = start(tenant, chain(3, spec=spec), slot_key="k", timeout_s=60.0)
    (walker,) = claim(tenant)
    workflow_steps.queue(walker.hold, "step/k")
    walker.finish(["large"] * 40_000)
    act(tenant, "signal", run_id, "later", 1)

    with db.transaction(None, role=Role.OWNER) as conn:
        assert accounts.delete_tenant(conn, tenant)

    left = factories.rows(
        """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relkind = 'r' AND c.relname LIKE 'Workflow%' AND a.attname = 'tenantId'"""
    )
    assert {name for (name,) in left} >= {"WorkflowRun", "WorkflowSlot", "WorkflowOutput"}
    for (name,) in left:
        assert factories.rows(f'SELECT FROM "{name}" WHERE "tenantId" = \'{tenant}\'') == [], name
