"""Back-pressure: a queue refuses what is too much, and of one tenant before it refuses all."""

import psycopg
import pytest

from shared import db
from shared.contracts import Probe, RecordMessage
from shared.db import Role
from shared.errors import QueueFull
from shared.ledger.outbox import current_job, publish
from tests.support.factories import make_relay, make_tenant, publish_jobs, publish_probe, rows

MOST = 20


@pytest.fixture
def relay(pool, redis_url):
    return make_relay(redis_url, queue_depth_max=MOST)


def flood(tenant, count):
    publish_jobs(tenant, [Probe(n=n) for n in range(count)], delay_s=60)


def measured(relay):
    relay._depth_at = 0.0
    relay.sweep()


def test_a_tenant_that_fills_its_share_is_refused_alone(relay):
    noisy, quiet = make_tenant(), make_tenant()
    flood(noisy, MOST // 2)
    measured(relay)

    with pytest.raises(QueueFull, match="fills its share of the queue maintenance"):
        publish_probe(noisy, n=99)

    assert publish_probe(quiet)
    assert rows('SELECT "tenantId", "depth" FROM "TenantDepth"') == [(noisy, MOST // 2)]


def test_below_its_share_a_tenant_is_not_refused(relay):
    tenant = make_tenant()
    flood(tenant, MOST // 2 - 1)
    measured(relay)

    assert publish_probe(tenant, n=99)


def test_a_full_queue_refuses_every_tenant(relay):
    for _ in range(3):
        flood(make_tenant(), MOST // 3 + 1)
    measured(relay)

    with pytest.raises(QueueFull, match="maximum depth"):
        publish_probe(make_tenant())


def test_a_tenant_whose_jobs_are_done_may_publish_again(relay):
    tenant = make_tenant()
    flood(tenant, MOST // 2)
    measured(relay)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('DELETE FROM "JobOutbox"')
    measured(relay)

    assert publish_probe(tenant, n=99)


def test_follow_ups_are_let_through(relay):
    tenant = make_tenant()
    parent = publish_probe(tenant, n=50)
    flood(tenant, MOST // 2)
    measured(relay)

    token = current_job.set(parent)
    try:
        with db.transaction(tenant) as conn:
            follow_up = publish(conn, Probe(n=51))
    finally:
        current_job.reset(token)

    assert follow_up.state == "PENDING"


def test_a_tenant_that_fills_its_share_of_one_queue_publishes_to_another(relay):
    tenant = make_tenant()
    flood(tenant, MOST // 2)
    measured(relay)

    with db.transaction(tenant) as conn:
        assert publish(conn, RecordMessage(content="hi", role="USER")).state == "PENDING"


def test_accepting_a_job_is_one_statement_beside_its_own(pool, database_url):
    tenant = make_tenant()
    with psycopg.connect(database_url, autocommit=True) as conn:
        seen = []
        conn.add_notice_handler(lambda notice: seen.append(notice.message_primary))
        conn.execute("LOAD 'auto_explain'")
        conn.execute(
            """SET auto_explain.log_min_duration = 0; SET auto_explain.log_level = 'notice';
               SET auto_explain.log_nested_statements = on; SET ROLE ailydian_app"""
        )
        conn.execute("SELECT set_config('app.tenant_id', %s, false)", [tenant])
        seen.clear()
        conn.execute(
            """INSERT INTO "Job" ("job", "queue", "payload")
               VALUES ('probe', 'maintenance', '{"n": 1}')"""
        )

    texts = [text.partition("Query Text:")[2].split()[:3] for text in seen]
    assert sorted(texts) == [["INSERT", "INTO", '"Job"'], ["INSERT", "INTO", '"JobOutbox"']]


def test_a_tenant_does_not_see_who_else_is_refused(relay):
    noisy, quiet = make_tenant(), make_tenant()
    flood(noisy, MOST // 2)
    measured(relay)

    with db.transaction(quiet) as conn:
        assert conn.execute('SELECT count(*) FROM "TenantDepth"').fetchone() == (0,)
    with db.transaction(noisy) as conn:
        assert conn.execute('SELECT count(*) FROM "TenantDepth"').fetchone() == (1,)
