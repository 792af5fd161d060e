"""Events as their followers see them: in order, each once, through breaks and open transactions."""

import itertools
import threading

import psycopg
import pytest

from producers.ledger import event_counters, live_events
from producers.ledger.live_events import BEGINNING, Position
from producers.queries.ledger import events
from producers.queries.ledger.events import EventFilters
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.queries.ledger import attempts
from tests.support.factories import claim, make_tenant, publish_jobs, rows
from tests.support.patience import patience


def end_jobs(tenant, count, *, start=0):
    """Publish and complete jobs, and tell of it as the relay does. Returns their ids."""
    ids = publish_jobs(tenant, [Probe(n=n) for n in range(start, start + count)])
    for lease in claim(*ids):
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(lease.job_id, lease.fence)])
    tell()
    return ids


def tell():
    with db.transaction(None, role=Role.RELAY) as conn:
        event_counters.fold(conn)


def take(stream, count):
    return [event.job_id for event in itertools.islice(stream, count)]


def kill_others(database_url):
    """End every connection to the database but this one, as a restart of Postgres does."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND usename IS NOT NULL"""
        )


def test_events_come_in_order_and_can_be_read_again_from_any_place(database_url, pool):
    tenant = make_tenant()
    ids = end_jobs(tenant, 5)

    seen = list(itertools.islice(live_events.follow(tenant, after=BEGINNING), 5))
    again = take(live_events.follow(tenant, after=seen[1].position, listen_url=database_url), 3)

    assert [event.job_id for event in seen] == ids
    assert [event.what for event in seen] == ["COMPLETED"] * 5
    assert seen == sorted(seen, key=lambda event: event.position)
    assert Position.parse(str(seen[1].position)) == seen[1].position
    assert again == ids[2:]


def test_without_a_place_only_what_comes_is_told(pool):
    tenant = make_tenant()
    old = end_jobs(tenant, 2)
    got = []
    in_background(lambda: got.append(next(live_events.follow())))
    numbers = itertools.count(10)

    until(lambda: end_jobs(tenant, 1, start=next(numbers)) and got)

    assert got[0].job_id not in old


def test_the_relay_wakes_up_who_listens(database_url, pool, monkeypatch):
    monkeypatch.setattr(live_events, "LOOK_S", 60.0)
    tenant = make_tenant()
    ids = end_jobs(tenant, 1)
    stream = live_events.follow(tenant, after=BEGINNING, listen_url=database_url)
    got = take(stream, 1)
    listener = in_background(lambda: got.extend(take(stream, 1)))

    ids += end_jobs(tenant, 1, start=10)
    listener.join(patience(10))

    assert got == ids
    stream.close()


def test_a_tenant_sees_its_own_events_alone(pool):
    ours, theirs = make_tenant(), make_tenant()
    end_jobs(theirs, 2)
    ids = end_jobs(ours, 2)
    end_jobs(theirs, 2, start=10)

    with db.transaction(ours) as conn:
        page = events.select_events(conn, BEGINNING, EventFilters(), limit=100)

    assert [event.job_id for event in page.events] == ids


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_filter_loses_nothing_at_the_edges_of_pages(pool, limit):
    tenant = make_tenant()
    wanted = end_jobs(tenant, 6)[3]

    found, after, full = [], BEGINNING, True
    with db.transaction(None, role=Role.RELAY) as conn:
        while full:
            page = events.select_events(conn, after, EventFilters(job_id=wanted), limit=limit)
            found += page.events
            after, full = page.end, page.full

    assert [event.job_id for event in found] == [wanted]


def test_what_commits_late_comes_later_and_holds_nothing_back(pool):
    tenant = make_tenant()
    first, second = publish_jobs(tenant, [Probe(n=1), Probe(n=2)])
    one, two = claim(first, second)
    seen = []

    def look(after):
        with db.transaction(None, role=Role.RELAY) as conn:
            events.place(conn)
            page = events.select_events(conn, after, EventFilters(), limit=100)
        seen.extend(event.job_id for event in page.events)
        return page.end

    with db.transaction(None, role=Role.RELAY) as open_conn:
        attempts.complete(open_conn, [(one.job_id, one.fence)])
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(two.job_id, two.fence)])
        place = look(BEGINNING)
        assert seen == [second]
    place = look(place)
    look(place)

    assert seen == [second, first]


def test_nothing_is_missed_or_doubled_when_connections_break(database_url, pool):
    tenant = make_tenant()
    stop = threading.Event()
    seen = []

    def listen():
        for event in live_events.follow(
            tenant, after=BEGINNING, listen_url=database_url, stop=stop
        ):
            seen.append(event.job_id)

    listener = in_background(listen)
    ids = []
    for round_ in range(3):
        ids += end_jobs(tenant, 3, start=round_ * 10)
        until(lambda: len(seen) >= 1)
        kill_others(database_url)
        until(can_write)
    ids += end_jobs(tenant, 3, start=100)
    until(lambda: len(seen) >= len(ids))
    tell()
    stop.set()
    listener.join(patience(10))

    assert not listener.is_alive()
    assert seen == ids


def test_a_follower_goes_back_when_a_crash_took_what_it_had_read(pool):
    tenant = make_tenant()
    end_jobs(tenant, 2)
    ids = end_jobs(tenant, 1, start=10)
    with db.transaction(None, role=Role.RELAY) as conn:
        page = events.select_events(conn, BEGINNING, EventFilters(), limit=100)
        lost = page.events[-1].position
        conn.execute('DELETE FROM "JobEvent" WHERE "jobId" = %s', ids)
        conn.execute('DELETE FROM "EventFold" WHERE "fold" = %s::text::xid8', [str(lost.fold)])
        kept = events.select_end(conn)
    stream = live_events.follow(tenant, after=lost)
    (new,) = publish_jobs(tenant, [Probe(n=20)])
    (lease,) = claim(new)
    with db.transaction(None, role=Role.RELAY) as conn:
        assert events.select_last(conn, lost) == events.select_last(conn, page.end) == kept < lost
        attempts.complete(conn, [(lease.job_id, lease.fence)])

    assert take(stream, 1) == [new]


def test_following_ends_within_a_second_of_being_told(database_url, pool):
    stop = threading.Event()
    ended = threading.Event()

    def listen():
        list(live_events.follow(listen_url=database_url, stop=stop))
        ended.set()

    in_background(listen)
    stop.set()

    assert ended.wait(patience(3))


def in_background(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def until(true):
    end = threading.Event()
    for _ in range(400):
        if true():
            return
        end.wait(0.025)
    raise AssertionError("still not true")


def can_write():
    try:
        rows("SELECT 1")
    except Exception:
        return False
    return True
