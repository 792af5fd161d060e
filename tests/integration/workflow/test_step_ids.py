"""Runs stored by older versions may have "/" in their ids: a step is found by its columns."""

import pytest

from producers.queries.workflow import run_actions
from producers.queries.workflow.run_actions import RunSignal
from producers.workflow import run_view
from shared import db
from shared.db import Role
from tests.support.workflow_by_hand import chain, claim, node, run_of, start

OLD_IDS = ["monthly/2026", "a/b/3", "//", "12/7/5"]


def stored_earlier(run_id, named):
    """Give a run that was just started an id as older versions took them. Returns the id."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "WorkflowRun" SET "id" = %s WHERE "id" = %s', [named, run_id])
        for table, column in (("WorkflowStep", "id"), ("Job", "stepId")):
            statement = f"""UPDATE "{table}" SET "{column}" = %s || substr("{column}", %s)
                            WHERE "{column}" LIKE %s"""
            conn.execute(statement.encode(), [named, len(run_id) + 1, f"{run_id}/%"])
    return named


@pytest.mark.parametrize("named", OLD_IDS)
def test_a_run_whose_id_has_a_slash_is_walked_to_its_end(tenant, named):
    run_id, _ = start(tenant, chain(3))
    stored_earlier(run_id, named)

    (walker,) = claim(tenant)

    assert walker.walk(lambda at: at["position"]) == ["s0", "s1", "s2"]
    assert run_of(tenant, named) == ("completed", None, 2)


@pytest.mark.parametrize("named", OLD_IDS)
def test_an_item_of_it_is_approved_by_its_index(tenant, named):
    run_id, _ = start(tenant, [node(0, "each", mapped=True, uses="approval")])
    stored_earlier(run_id, named)
    (first,) = claim(tenant)
    first.expand(["a", "b", "c"])
    for walker in [first, *claim(tenant)]:
        walker.wait("approval", "each")

    with db.transaction(tenant) as conn:
        run_actions.signal(
            conn, named, RunSignal("approval", "each", '{"approved": true}', "me", 1)
        )

    with db.transaction(tenant) as conn:
        waiting = conn.execute(
            """SELECT s."itemIndex" FROM "WorkflowWait" x JOIN "WorkflowStep" s USING ("id")
               WHERE x."what" = 'approval' ORDER BY 1"""
        ).fetchall()
    assert waiting == [(0,), (2,)]


def test_a_child_of_it_is_shown_with_the_whole_id_of_its_run(tenant):
    parent, _ = start(tenant, chain(1), name="outer")
    stored_earlier(parent, "monthly/2026")
    child, _ = start(tenant, chain(1), name="inner")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            'UPDATE "WorkflowRun" SET "parentStepId" = %s WHERE "id" = %s',
            ["monthly/2026/0", child],
        )

    assert run_view.read(tenant, child, "slug", limit=10).parent == "monthly/2026"
