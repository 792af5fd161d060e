"""The scheduler's process: it wakes up in time, outlives Postgres, and shares its sweeps."""

import threading
import time

import psycopg
import pytest

from producers.ledger import scheduler, schedules
from producers.queries.ledger import schedules as queries
from producers.queries.ledger.schedules import NewSchedule
from shared import db
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.queries.ledger import attempts
from shared.queries.ledger.attempts import AttemptFailure
from tests.support.factories import claim, environment, make_tenant, publish_probe, rows
from tests.support.patience import patience

pytestmark = pytest.mark.usefixtures("pool")


def put(tenant, cron):
    wanted = NewSchedule("report", cron, "UTC", 0, "once", "probe", {}, enabled=True)
    with db.transaction(tenant) as conn:
        schedules.put(conn, wanted)


class Stop(threading.Event):
    """A stop that is set once something has become true, looked at whenever a thread waits."""

    def __init__(self, reached):
        super().__init__()
        self._reached = reached
        self._end_at = time.monotonic() + patience(30)

    def wait(self, timeout=None):
        if time.monotonic() > self._end_at or self._reached():
            self.set()
        return super().wait(timeout)


def test_the_scheduler_wakes_up_when_a_slot_is_due():
    tenant = make_tenant()
    put(tenant, "* * * * * *")

    scheduler.run(Stop(lambda: len(rows('SELECT 1 FROM "Job"')) >= 3))

    late_s = rows(
        """SELECT extract(epoch FROM "createdAt" - right("key", 25)::timestamptz) FROM "Job" """
    )
    assert len(late_s) >= 3
    assert all(0 <= late < 1 for (late,) in late_s)


def test_a_scheduler_is_seen_while_it_lives_and_not_afterwards():
    seen = []

    def reached():
        seen.extend(rows('SELECT "role", "threads", "figures" FROM "WorkerProcess"'))
        return bool(seen)

    scheduler.run(Stop(reached))

    role, threads, figures = seen[0]
    each = len(scheduler.SWEEPS) + 1  # and the schedules of tenants
    assert (role, threads, figures["threadsAlive"]) == ("scheduler", each, each)
    assert figures["rssBytes"] > 1_000_000
    assert rows('SELECT 1 FROM "WorkerProcess"') == []


def test_the_scheduler_outlives_postgres(servers):
    put(make_tenant(), "* * * * * *")
    turns, name = [], _database()

    def reached():
        turns.append(1)
        if len(turns) == 3:
            with psycopg.connect(servers.database_url, autocommit=True) as conn:
                conn.execute(
                    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = %s AND pid <> pg_backend_pid()""",
                    [name],
                )
            return False
        return len(turns) > 3 and len(rows('SELECT 1 FROM "Job"')) > 2

    scheduler.run(Stop(lambda: _again(reached)))

    assert len(rows('SELECT 1 FROM "Job"')) > 2


def _again(look):
    try:
        return look()
    except (ServerUnavailable, psycopg.OperationalError):
        return False


def test_a_sweep_of_the_system_is_done_by_one_scheduler_a_slot():
    scheduler.put_sweep("platform")
    stop = threading.Event()

    with db.transaction(None, role=Role.RELAY) as conn:
        assert queries.claim_sweep(conn, "platform") is not None
        while_claimed = scheduler.sweep_if_due("platform", stop)
    turns = [scheduler.sweep_if_due("platform", stop) for _ in range(3)]

    assert (while_claimed, turns) == (False, [True, False, False])


def test_a_sweep_that_fails_says_so_and_ends_no_scheduler(tmp_path):
    (tmp_path / "file").write_text("no folder")
    job_id = make_old_dead_letter()
    scheduler.put_sweep("retention")

    with environment(AILYDIAN_ARCHIVE_DIR=str(tmp_path / "file")):
        assert scheduler.sweep_if_due("retention", threading.Event())

    [(error,)] = rows('SELECT "error" FROM "Schedule"')
    assert "file" in error
    assert rows('SELECT "id" FROM "Job"') == [(job_id,)]


def test_an_operators_rhythm_for_a_sweep_is_kept():
    scheduler.put_sweep("retention")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Schedule" SET "cron" = '0 4 * * *', "enabled" = false""")

    scheduler.put_sweep("retention")

    assert rows('SELECT "cron", "enabled" FROM "Schedule"') == [("0 4 * * *", False)]


def make_old_dead_letter():
    [lease] = claim(publish_probe(make_tenant()))
    ending = AttemptFailure(lease.job_id, lease.fence, "refused", "Broken", "no good", None, "f")
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.bury(conn, ending, reason="permanent")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "DeadLetter" SET "diedAt" = now() - interval '2 years'""")
    return lease.job_id


def _database():
    with db.transaction(None, role=Role.RELAY) as conn:
        return conn.info.dbname
