"""A batch on a whole plant, followed live while workers are killed and connections break."""

import threading

import psycopg

from producers.ledger import batches, live_events
from producers.ledger.live_events import BEGINNING
from producers.queries.ledger import batches as queries
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.errors import ServerUnavailable
from tests.acceptance.conftest import Plant
from tests.support.factories import make_tenant, rows
from tests.support.misbehaving_jobs import Pill
from tests.support.patience import patience

JOBS = 300


def test_a_batch_ends_once_and_its_follower_sees_every_event_once(plant: Plant, database_url):
    tenant = make_tenant()
    plant.start_relay()
    plant.start_workers()
    stop = threading.Event()
    seen = []

    def listen() -> None:
        for event in live_events.follow(
            tenant, after=BEGINNING, listen_url=database_url, stop=stop
        ):
            seen.append(event)

    follower = threading.Thread(target=listen, daemon=True)
    follower.start()

    with db.transaction(tenant) as conn:
        good = [Probe(n=n, mode="statement") for n in range(JOBS)]
        bad = [Pill(how="refuse", n=n) for n in range(3)]
        batch = batches.publish_batch(conn, good + bad, name="b", then=Probe(note="then"))
    plant.until(lambda: counted(batch.id) > JOBS // 4)
    plant.workers()[0].kill()
    break_connections(database_url)
    plant.until(lambda: finished(batch.id))
    plant.until(lambda: state_of(batch.id) == "COMPLETED")
    plant.until(lambda: asked(lambda: len(seen) >= len(rows('SELECT FROM "JobEvent"'))))
    plant.close()
    stop.set()
    follower.join(patience(10))

    assert not follower.is_alive()
    ((total, completed, dead, cancelled),) = rows(
        'SELECT "total", "completed", "dead", "cancelled" FROM "JobBatch"'
    )
    assert (total, completed, dead, cancelled) == (JOBS + 3, JOBS, 3, 0)
    assert len(rows('SELECT FROM "Job" WHERE "key" = %s', f"batch:{batch.id}")) == 1
    noted = rows('SELECT "jobId", "what" FROM "JobEvent"')
    assert sorted((event.job_id, event.what) for event in seen) == sorted(noted)
    assert [event.position for event in seen] == sorted(event.position for event in seen)
    assert len({job_id for job_id, what in noted if what == "COMPLETED"}) == JOBS + 1


def break_connections(database_url):
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()"""
        )


def asked(question):
    """The answer, or nothing while broken connections are still handed out."""
    try:
        return question()
    except ServerUnavailable:
        return None


def progress(batch_id):
    with db.transaction(None, role=Role.RELAY) as conn:
        return queries.select_progress(conn, batch_id)


def counted(batch_id):
    row = asked(lambda: progress(batch_id))
    return row.completed if row else 0


def finished(batch_id):
    row = asked(lambda: progress(batch_id))
    return row and row.finished_at


def state_of(batch_id):
    found = asked(lambda: rows('SELECT "state" FROM "Job" WHERE "key" = %s', f"batch:{batch_id}"))
    return found[0][0] if found else None
