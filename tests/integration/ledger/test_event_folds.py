"""Events beside transactions that stay open: each is told once, in order, and waits for none."""

import itertools
import random
import threading
from collections import defaultdict
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.ledger import event_counters
from producers.operations import migration
from producers.queries.ledger import events
from producers.queries.ledger.events import BEGINNING, EventFilters
from shared import db
from shared.db import Role
from shared.servers import embedded_postgres
from tests.support.patience import patience
from tests.support.thoroughness import examples

NOTE = """
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    VALUES ('t', %s, 'probe', 'maintenance', 'COMPLETED', %s)
"""
COUNTED = """SELECT coalesce(sum("completed"), 0)::int FROM "JobStat" """
JOBS = 4


class Walk:
    """Transactions that open, note events, and end in any order, as one model of them."""

    def __init__(self, url, seed):
        self.rng = random.Random(seed)
        self.conns = [psycopg.connect(url) for _ in range(4)]
        # The events of each open transaction; a job's next one waits for the end of the one before.
        self.noted = defaultdict(list)
        self.holds = {}
        self.committed = []
        self.seen = []
        self.after = BEGINNING
        self.numbers = itertools.count()

    def step(self):
        self.rng.choice(
            [self.note, self.note, self.note, self.begin, self.end, self.undo, self.read]
        )()

    def begin(self):
        """Take a transaction number early, without an event."""
        self.rng.choice(self.conns).execute("SELECT pg_current_xact_id()")

    def note(self):
        conn = self.rng.choice(self.conns)
        job = self.rng.randrange(JOBS)
        if self.holds.get(job, conn) is conn:
            self.holds[job] = conn
            self._note(conn, job)

    def _note(self, conn, job):
        number = next(self.numbers)
        conn.execute(NOTE, [f"job {job}", str(number)])
        self.noted[conn].append((job, number))

    def undo(self):
        """Note something and take it back, within the transaction."""
        conn = self.rng.choice(self.conns)
        conn.execute("SAVEPOINT here")
        conn.execute(NOTE, ["nobody", "-1"])
        conn.execute("ROLLBACK TO here" if self.rng.random() < 0.7 else "RELEASE here")
        if conn.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
            raise AssertionError
        conn.execute("""DELETE FROM "JobEvent" WHERE "jobId" = 'nobody'""")

    def end(self, conn=None, *, commit=None):
        conn = conn or self.rng.choice(self.conns)
        commit = self.rng.random() < 0.8 if commit is None else commit
        if commit:
            conn.commit()
            self.committed += self.noted[conn]
        else:
            conn.rollback()
        self.noted.pop(conn, None)
        self.holds = {job: holder for job, holder in self.holds.items() if holder is not conn}

    def read(self):
        """Fold, count some, and follow to the end: all that was committed is there, now."""
        fold(limit=self.rng.randint(1, 5))
        limit = self.rng.randint(1, 5)
        self.after, found = follow(self.after, limit)
        self.seen += found
        assert sorted(self.seen) == sorted(self.committed)

    def close(self):
        for conn in self.conns:
            conn.close()


def fold(limit=100):
    with db.transaction(None, role=Role.RELAY) as conn:
        return event_counters.fold(conn, limit=limit)


def follow(after, limit=100):
    """Read to the end. Returns the place, and (job, number) of each event."""
    found, full = [], True
    while full:
        with db.transaction(None, role=Role.RELAY) as conn:
            page = events.select_events(conn, after, EventFilters(), limit=limit)
        assert [one.position for one in page.events] == sorted(one.position for one in page.events)
        found += [(int(one.job_id[4:]), int(one.batch_id)) for one in page.events]
        after, full = page.end, page.full
    return after, found


def counted():
    with db.transaction(None, role=Role.RELAY) as conn:
        return conn.execute(COUNTED).fetchone()[0]


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_order_of_commits_is_told_once_and_in_the_order_of_each_job(pool, database_url, seed):
    before = counted()
    with db.transaction(None, role=Role.RELAY) as conn:
        events.place(conn)
        start = events.select_end(conn)
    walk = Walk(database_url, seed)
    walk.after = start
    try:
        for _ in range(60):
            walk.step()
        for conn in walk.conns:
            walk.end(conn, commit=True)
        walk.read()
    finally:
        walk.close()
    while fold(limit=3).more:
        pass

    assert counted() - before == len(walk.committed)
    for job in range(JOBS):
        ours = [number for one, number in walk.seen if one == job]
        assert ours == sorted(ours)
    for limit in (1, 2, 100):
        assert follow(start, limit)[1] == walk.seen


WRITERS, EVENTS = 4, 80


def _write(url, number):
    rng = random.Random(number)
    with psycopg.connect(url) as conn:
        for n in range(EVENTS):
            conn.execute(NOTE, [f"job {number}", str(n)])
            if rng.random() < 0.6:
                conn.commit()


def _fold_until(stop):
    while not stop.is_set():
        fold(limit=7)


def _follow_until(stop, seen):
    after, last = BEGINNING, False
    while not last:
        last = stop.is_set()
        if last:
            fold()
        after, found = follow(after, 5)
        seen.extend(found)


def test_writers_folders_and_a_follower_at_once_lose_and_double_nothing(pool, database_url):
    stop, ended, seen = threading.Event(), threading.Event(), []
    writers = [
        threading.Thread(target=_write, args=(database_url, number)) for number in range(WRITERS)
    ]
    folders = [threading.Thread(target=_fold_until, args=(stop,)) for _ in range(2)]
    follower = threading.Thread(target=_follow_until, args=(ended, seen))
    for one in (*writers, *folders, follower):
        one.start()
    for waited, then in ((writers, stop), (folders, ended), ([follower], stop)):
        for one in waited:
            one.join(patience(60))
        then.set()
    while fold(limit=50).more:
        pass

    assert not any(one.is_alive() for one in (*writers, *folders, follower))
    assert sorted(seen) == [(number, n) for number in range(WRITERS) for n in range(EVENTS)]
    for number in range(WRITERS):
        assert [n for job, n in seen if job == number] == list(range(EVENTS))
    assert counted() == WRITERS * EVENTS


def _dump(conn):
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    conn.execute('SELECT count(*) FROM "JobEvent"')


def _early(conn):
    conn.execute(NOTE, ["job 9", "9"])


@pytest.mark.parametrize("holder", [_dump, _early], ids=["a dump", "a writer"])
def test_an_open_transaction_holds_nothing_back(pool, database_url, holder):
    with psycopg.connect(database_url) as held:
        holder(held)
        with psycopg.connect(database_url) as conn:
            conn.execute(NOTE, ["job 1", "1"])
        fold()
        after, first = follow(BEGINNING)
        count = counted()
        held.commit()
    fold()

    assert (first, count) == ([(1, 1)], 1)
    assert follow(after)[1] == ([(9, 9)] if holder is _early else [])


def test_a_writer_in_another_database_of_the_server_holds_nothing_back(pool, database_url, admin):
    with psycopg.connect(admin.info.dsn) as held:
        held.execute("CREATE TEMPORARY TABLE held (n int)")
        with psycopg.connect(database_url) as conn:
            conn.execute(NOTE, ["job 1", "1"])
        fold()

        assert follow(BEGINNING)[1] == [(1, 1)]


def test_an_aborted_transaction_leaves_no_place(pool, database_url):
    with psycopg.connect(database_url) as held:
        held.execute(NOTE, ["job 9", "9"])
        with psycopg.connect(database_url) as conn:
            conn.execute(NOTE, ["job 1", "1"])
        fold()
        held.rollback()

    assert fold().events == 0
    assert follow(BEGINNING)[1] == [(1, 1)]


def test_who_reads_one_moment_places_nothing(pool, database_url):
    with psycopg.connect(database_url) as conn:
        conn.execute(NOTE, ["job 1", "1"])
    with psycopg.connect(database_url) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert events.place(conn) is False


@pytest.fixture
def two_phase(tmp_path_factory):
    """A server of the test's own that allows one prepared transaction."""
    home = Path(tmp_path_factory.mktemp("server"))
    try:
        url = embedded_postgres.start(home, durable=False)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET max_prepared_transactions = 1")
        embedded_postgres.stop(home)
        url = embedded_postgres.start(home, durable=False)
        migration.migrate(url)
        db.open_pool(url)
        yield url
        db.close_pool()
    finally:
        embedded_postgres.stop(home)


def test_a_prepared_transaction_holds_nothing_back_and_comes_with_its_commit(two_phase):
    with psycopg.connect(two_phase) as conn:
        conn.execute(NOTE, ["job 9", "9"])
        conn.execute("PREPARE TRANSACTION 'forgotten'")
    with psycopg.connect(two_phase) as conn:
        conn.execute(NOTE, ["job 1", "1"])
    fold()
    after, first = follow(BEGINNING)
    with psycopg.connect(two_phase, autocommit=True) as conn:
        conn.execute("COMMIT PREPARED 'forgotten'")
    fold()

    assert first == [(1, 1)]
    assert follow(after)[1] == [(9, 9)]
    assert counted() == 2
