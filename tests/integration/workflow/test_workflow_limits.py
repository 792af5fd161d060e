"""Numbers that the engine's functions hold themselves are those of `shared.workflow.limits`."""

import pytest

from producers.workflow import workflows
from shared import db
from shared.db import Role
from shared.errors import SignalRefused
from shared.workflow.limits import PARALLEL_DEFAULT, SIGNALS_KEPT_MAX
from tests.support.workflow_by_hand import chain, claim, node, start


def test_a_retried_step_runs_as_many_items_at_once_as_a_new_one(tenant):
    run_id, _ = start(tenant, [node(0, "map", mapped=True)])
    (walker,) = claim(tenant)
    walker.expand(list(range(3 * PARALLEL_DEFAULT)), parallel=PARALLEL_DEFAULT)
    begun = claim(tenant)
    assert 1 + len(begun) == PARALLEL_DEFAULT
    walker.finish().fail()

    with db.transaction(tenant) as conn:
        workflows.retry(conn, run_id)

    assert len(claim(tenant)) == PARALLEL_DEFAULT


def test_a_run_keeps_so_many_signals_that_no_step_has_taken(tenant):
    run_id, _ = start(tenant, chain(1))
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            'INSERT INTO "WorkflowSignal" ("tenantId", "runId", "name", "payload", "sentBy") '
            "SELECT %s, %s, 'go', '{}', 'test' FROM generate_series(2, %s)",
            [tenant, run_id, SIGNALS_KEPT_MAX],
        )

    with db.transaction(tenant) as conn:
        workflows.signal(conn, run_id, "go", {})
    with (
        pytest.raises(SignalRefused, match=f"{SIGNALS_KEPT_MAX:,} pending signals"),
        db.transaction(tenant) as conn,
    ):
        workflows.signal(conn, run_id, "go", {})
