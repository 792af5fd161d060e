"""What the statements that show a run read of a large one: what they ask for, and little more."""

import psycopg

from producers.queries.workflow import workflow_runs
from shared import db
from tests.support import source_code, workflow_by_hand
from tests.support.factories import make_tenant


def test_a_large_run_is_read_by_the_places_of_its_steps(pool, database_url):
    tenant = make_tenant("acme")
    run_id, _ = workflow_by_hand.start(tenant, workflow_by_hand.chain(3_000))
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")

    with db.transaction(tenant) as conn:
        found = workflow_runs.select_run(conn, run_id)
        statement = source_code.numbered(workflow_runs.SELECT_STEPS)
        conn.execute(f"PREPARE steps AS {statement}")
        ids = "{" + ",".join(f"{run_id}/{n}" for n in range(10)) + "}"
        plan = conn.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE steps ('{ids}', '{found.version_id}')"
        ).fetchone()[0]

    assert rows_read(plan[0]["Plan"]) < 100


def rows_read(node):
    """The rows that a plan's scans of tables looked at."""
    seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    own = seen * node["Actual Loops"] if "Relation Name" in node else 0
    return own + sum(map(rows_read, node.get("Plans", [])))
