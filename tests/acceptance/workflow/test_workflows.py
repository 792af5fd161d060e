"""Workflows through a whole plant: relay, worker processes, killed workers."""

import pytest

from shared import db
from shared.db import Role
from shared.workflow import runs
from shared.workflow.reading import read
from tests.support import factories, workflow_by_hand

MIXED = """
name: mixed
inputs: {type: object, properties: {names: {type: array}}, required: [names]}
steps:
  hello: {uses: transform, with: {value: {greet: "hi ${{ inputs.names[0] }}"}}}
  each:
    uses: transform
    needs: hello
    for_each: ${{ inputs.names }}
    max_parallel: 4
    with: {value: "${{ index }}:${{ item }}"}
  nap: {sleep: 50ms, needs: hello}
  never: {uses: transform, needs: hello, if: size(inputs.names) > 100, with: {value: 1}}
  after: {uses: transform, needs: never, with: {value: 2}}
  probe: {uses: probe, needs: [hello], with: {n: 3}}
  join:
    uses: transform
    needs: [each, nap, after, probe]
    with: {value: "${{ steps.each.output }}"}
outputs: {all: "${{ steps.join.output }}", greet: "${{ steps.hello.output.greet }}"}
"""


@pytest.fixture
def tenant(plant):
    plant.start_relay()
    plant.start_workers(
        queues=["workflow", "maintenance"],
        plugins="tests.support.misbehaving_jobs,tests.support.workflow_functions",
    )
    return factories.make_tenant()


def begin(tenant, text, given=None):
    with db.transaction(tenant) as conn:
        definition = read(text)
        runs.put(conn, definition)
        return runs.start(conn, definition.name, given or {}).id


def end(plant, tenant, run_id):
    """Wait for a run's end; state, error, output."""
    plant.until(
        lambda: workflow_by_hand.run_of(tenant, run_id)[0] in ("completed", "failed", "cancelled")
    )
    return workflow_by_hand.run_of(tenant, run_id)


def one_step(function, **more):
    lines = "".join(f", {name}: {value}" for name, value in more.items())
    return f"""
name: one
steps:
  it: {{uses: python, with: {{function: {function}, args: {{n: 7}}}}{lines}}}
"""


def entries():
    return [n for (n,) in factories.rows('SELECT "n" FROM "ProbeEntry"')]


def test_a_run_of_many_kinds_ends_with_its_outputs(plant, tenant):
    run_id = begin(tenant, MIXED, {"names": [f"n{n}" for n in range(10)]})

    state, error, output = end(plant, tenant, run_id)

    assert (state, error) == ("completed", None)
    assert output == {"all": [f"{n}:n{n}" for n in range(10)], "greet": "hi n0"}
    states = workflow_by_hand.states(tenant, run_id)
    assert (states["never"], states["after"], states["join"]) == ("skipped", "skipped", "completed")


def test_a_worker_killed_inside_a_step_leaves_one_effect(plant, tenant):
    run_id = begin(tenant, one_step("die_once", retry="{attempts: 3, backoff: 100ms}"))

    assert end(plant, tenant, run_id)[0] == "completed"
    assert entries() == [7]


def test_a_step_is_tried_as_often_as_it_says(plant, tenant):
    text = """
name: patient
steps:
  it:
    uses: python
    with: {function: fail_until, args: {attempt: 3}}
    retry: {attempts: 3, backoff: 10ms}
"""
    run_id = begin(tenant, text)

    assert end(plant, tenant, run_id) == ("completed", None, 3)


def test_a_step_that_fails_for_good_fails_its_run_and_waits_as_a_letter(plant, tenant):
    text = """
name: impatient
steps:
  it:
    uses: python
    with: {function: fail_until, args: {attempt: 9}}
    retry: {attempts: 2, backoff: 10ms}
"""
    run_id = begin(tenant, text)

    assert end(plant, tenant, run_id)[:2] == ("failed", "attempt 2 fails")
    letters = factories.rows('SELECT "attempts" FROM "DeadLetter"')
    assert [attempts for (attempts,) in letters] == [2]


def test_a_step_ends_at_its_time_limit(plant, tenant):
    text = """
name: slow
steps:
  it: {uses: python, with: {function: work_long}, timeout: 1s, retry: {attempts: 1}}
"""
    run_id = begin(tenant, text)

    state, error, _ = end(plant, tenant, run_id)
    assert (state, error) == ("failed", "stopped after 1 seconds")


def test_cancelling_reaches_a_step_that_runs(plant, tenant):
    text = """
name: cancelled
steps:
  it: {uses: python, with: {function: work_long}, timeout: 5m}
"""
    run_id = begin(tenant, text)
    plant.until(lambda: workflow_by_hand.states(tenant, run_id)["it"] == "running")

    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("SELECT ailydian_end_run(%s, 'cancelled', 'by hand', NULL, NULL)", [run_id])

    busy = """SELECT sum(("figures" ->> 'busy')::int) AS busy FROM "WorkerProcess"
              WHERE "role" = 'worker'"""
    plant.until(lambda: factories.rows(busy) == [(0,)])
    assert workflow_by_hand.states(tenant, run_id)["it"] == "cancelled"


def test_an_effect_without_an_output_is_no_effect(plant, tenant):
    text = """
name: forgetful
steps:
  it: {uses: python, with: {function: forget}, retry: {attempts: 1}}
"""
    run_id = begin(tenant, text)

    state, error, _ = end(plant, tenant, run_id)
    assert (state, "did not call done" in error) == ("failed", True)


def test_a_run_within_a_run_hands_its_output_up(plant, tenant):
    begin(tenant, "{name: inner, steps: {a: {uses: transform, with: {value: {deep: 1}}}}}")
    text = """
name: outer
steps:
  call: {uses: workflow, with: {name: inner}}
  use: {uses: transform, needs: call, with: {value: "${{ steps.call.output.deep }}"}}
"""
    run_id = begin(tenant, text)

    assert end(plant, tenant, run_id) == ("completed", None, 1)
