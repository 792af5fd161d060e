"""`ailydian autoscale` on real servers: processes come with the lag, and go when it has gone."""

import os
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from shared import db
from shared.db import Role
from shared.queries.ledger import workers
from tests.acceptance.conftest import ROOT, all_ended, states
from tests.support import factories, processes, slow_jobs
from tests.support.factories import make_tenant, publish_jobs, rows
from tests.support.patience import patience
from tests.support.slow_jobs import Chore


@contextmanager
def autoscaling(plant, *options):
    environment = {
        "DATABASE_URL": plant.database_url,
        "REDIS_URL": plant.redis_url,
        "AILYDIAN_SIGNING_KEY": factories.KEY.decode(),
        "AILYDIAN_PLUGINS": slow_jobs.__name__,
        "AILYDIAN_LOG_LEVEL": "error",
        "AILYDIAN_LEASE_S": str(patience(3)),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "producers.cli", "autoscale", "--queue", "audit", *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            processes.end(process.pid)


def process_count():
    """How many worker processes the ledger has heard of."""
    return rows("""SELECT count(*) FROM "WorkerProcess" WHERE "role" = 'worker'""")[0][0]


@pytest.mark.timeout(120)
def test_processes_come_with_the_lag_and_go_when_it_has_gone(plant):
    tenant = make_tenant()
    plant.start_relay()
    options = ("--max", "3", "--target-lag", "1s", "--calm", "2s", "--threads", "1")

    with autoscaling(plant, *options) as scaler:
        idle = process_count()
        ids = publish_jobs(tenant, [Chore(takes_s=0.1, n=n) for n in range(120)])
        seen = []
        plant.until(lambda: seen.append(process_count()) or all_ended())
        plant.until(lambda: process_count() == 0)
        family = scaler.children(recursive=True)

    assert idle == 0
    assert 2 <= max(seen) <= 3
    assert states() == {"COMPLETED": len(ids)}
    assert rows('SELECT 1 FROM "JobAttempt"') == []
    plant.until(lambda: not any(one.is_running() for one in family))


@pytest.mark.timeout(60)
def test_nothing_outlives_an_autoscaler_that_was_killed(plant):
    with autoscaling(plant, "--min", "1", "--max", "1") as scaler:
        plant.until(lambda: process_count() == 1)
        family = scaler.children(recursive=True)

        scaler.kill()
        plant.until(lambda: not any(one.is_running() for one in family))

    assert len(family) == 2
    assert process_count() == 0


def loads(**more):
    with db.transaction(None, role=Role.RELAY) as conn:
        return workers.select_loads(conn, ["audit", "maintenance"], **more)


def test_a_load_counts_what_is_due_and_free_to_begin(pool):
    tenant = make_tenant()
    publish_jobs(tenant, [Chore(n=n) for n in range(5)])
    publish_jobs(tenant, [Chore(n=5)], delay_s=60)
    publish_jobs(make_tenant(), [Chore(n=n) for n in range(3)], priority=3)

    audit, maintenance = loads()

    assert (audit.ready, audit.running, maintenance.ready) == (8, 0, 0)
    assert 0 <= audit.oldest_s < patience(10)
    assert loads(ready_max=2)[0].ready == 4


def test_a_load_leaves_out_what_is_on_hold(pool):
    tenant = make_tenant()
    publish_jobs(tenant, [Chore(n=n) for n in range(5)])
    publish_jobs(make_tenant(), [Chore(n=5)])

    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            'INSERT INTO "JobHold" ("tenantId", "heldBy") VALUES (%s, %s)', [tenant, "a test"]
        )

    assert loads()[0].ready == 1


def test_a_load_counts_what_flies_and_who_serves(pool):
    tenant = make_tenant()
    ids = publish_jobs(tenant, [Chore(n=n) for n in range(3)])
    factories.claim(ids[0])  # the others' wake-ups are in flight too
    me = workers.Process("worker-1", "here", 1, "worker", ["audit"], 4)
    with db.transaction(None, role=Role.RELAY) as conn:
        workers.upsert_process(conn, me, {"busy": 1})
        workers.upsert_process(conn, workers.Process("r", "here", 2, "relay"), {"busy": 0})

    audit, maintenance = loads()

    assert (audit.ready, audit.running, audit.processes, audit.threads) == (2, 1, 1, 4)
    assert (maintenance.ready, maintenance.processes) == (0, 0)
