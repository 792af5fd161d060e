"""What is kept of folds, and how long beside an open transaction: as long as their events are."""

import psycopg
import pytest

from producers.ledger import retention
from producers.queries.ledger import events
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.queries.ledger import attempts
from shared.settings import Settings
from tests.support.factories import claim, make_tenant, publish_jobs, rows

FOLDS = """SELECT "fold"::text FROM "EventFold" ORDER BY "fold" """


@pytest.fixture
def config(tmp_path):
    return Settings(home=tmp_path)


def complete(tenant, number):
    """A job that has ended, and its event in a fold of its own. Returns its id."""
    (job_id,) = publish_jobs(tenant, [Probe(n=number)])
    (lease,) = claim(job_id)
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, [(lease.job_id, lease.fence)])
    with db.transaction(None, role=Role.RELAY) as conn:
        events.place(conn)
    return job_id


def age():
    """Let more days pass than done jobs are kept: the rows move, not the clock."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Job" SET "finishedAt" = "finishedAt" - interval '31 days'""")
        conn.execute("""UPDATE "JobEvent" SET "at" = "at" - interval '31 days'""")


def test_folds_go_with_their_events_and_the_last_one_stays(pool, config):
    tenant = make_tenant()
    for number in range(3):
        complete(tenant, number)
    age()
    passed = rows(FOLDS)
    young = complete(tenant, 9)
    last = rows(FOLDS)[-1]

    retention.run(config)

    assert rows('SELECT "id" FROM "Job"') == [(young,)]
    # That of the last event that was passed, and that of the young one.
    assert rows(FOLDS) == [passed[-1], last]


def test_retention_goes_on_beside_an_open_transaction(pool, config, database_url):
    tenant = make_tenant()
    with psycopg.connect(database_url) as held:
        held.execute("SELECT pg_current_xact_id()")
        for number in range(3):
            complete(tenant, number)
        age()

        swept = retention.run(config)

    assert swept.total == 3
    assert rows('SELECT FROM "JobEvent"') == []
