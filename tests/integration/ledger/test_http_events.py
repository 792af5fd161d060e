"""/v1/events: what each key may see, once and in order, whatever is cut in between."""

import itertools
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import IncompleteRead

import psycopg
import pytest

from producers.accounts import api_keys
from producers.accounts.scopes import Scope
from producers.ledger import retention
from producers.queries.ledger import events
from producers.queries.operations import incidents
from producers.queries.operations.incidents import NewIncident
from producers.web.connections import READER_S, Connections
from producers.web.event_streams import WAITING_MAX
from producers.web.streams import Streams
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.queries.ledger import attempts
from shared.settings import Settings
from tests.support.event_reader import following
from tests.support.factories import claim, make_tenant, make_user, publish_jobs
from tests.support.http_api import make_key, serving
from tests.support.patience import patience, until
from tests.support.workflow_by_hand import chain, start
from tests.support.workflow_by_hand import claim as claim_steps

NOTE = """
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES (%s, %s, 'probe', 'maintenance', 'COMPLETED')
"""
FLOOD = """
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    SELECT %s, n::text, 'probe', 'maintenance', 'COMPLETED'
    FROM generate_series(%s::int, %s::int - 1) AS n
"""
LISTENERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE "datname" = current_database() AND "query" LIKE 'LISTEN%'
"""
_numbers = itertools.count()


@pytest.fixture
def tenant(pool):
    return make_tenant("acme")


def key_of(tenant_id, role="ADMIN"):
    user = make_user(tenant_id, f"user-{next(_numbers)}", role=role)
    return make_key(tenant_id, user, Scope.EVENTS_READ)


def note(tenant_id, *job_ids):
    with db.transaction(None, role=Role.RELAY) as conn:
        for job_id in job_ids:
            conn.execute(NOTE, [tenant_id, job_id])


def flood(tenant_id, start_at, end):
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(FLOOD, [tenant_id, start_at, end])


def ids(found):
    return [one.job_id for one in found]


def test_each_key_sees_the_events_of_its_tenant_in_order(api, tenant):
    other = make_tenant("other")
    root = key_of(None, role="SUPER_ADMIN")
    with (
        following(api, key_of(tenant)) as mine,
        following(api, key_of(other)) as its,
        following(api, root) as everything,
        following(api, root, "tenant=other") as one_of_all,
    ):
        streams = (mine, its, everything, one_of_all)
        assert [one.take(1)[0].event for one in streams] == ["ready"] * 4
        with db.transaction(None, role=Role.RELAY) as conn:
            new = NewIncident(None, "server:redis", "It is away", "For long.", "HIGH", 1.0)
            incidents.raise_incident(conn, new)
        for n in range(5):
            note(tenant, f"a{n}")
            note(other, f"b{n}")

        ours, theirs = [f"a{n}" for n in range(5)], [f"b{n}" for n in range(5)]
        assert ids(mine.take(5)) == ours
        assert ids(its.take(5)) == theirs
        assert ids(one_of_all.take(5)) == theirs
        incident, *rest = everything.take(11)
        assert (incident.event, incident.document["tenantId"]) == ("incident", None)
        assert ids(rest) == [*itertools.chain(*zip(ours, theirs, strict=True))]


def test_jobs_runs_and_single_steps_are_told_as_they_end(api, tenant):
    run_id, _ = start(tenant, chain(2))
    with following(api, key_of(tenant), f"id={run_id}") as reader:
        reader.take(1)
        (walker,) = claim_steps(tenant)
        walker.walk()
        found = reader.take(3)
    (job_id,) = publish_jobs(tenant, [Probe(n=1)])
    (lease,) = claim(job_id)
    with following(api, key_of(tenant), "types=job,run") as reader:
        reader.take(1)
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(lease.job_id, lease.fence)])
        (ended,) = reader.take(1)

    assert [(one.event, one.document["job"], one.document["what"]) for one in found] == [
        ("step", "s0", "STEP_COMPLETED"),
        ("step", "s1", "STEP_COMPLETED"),
        ("run", "run_step", "RUN_COMPLETED"),
    ]
    assert (ended.event, ended.job_id, ended.document["position"]) == ("job", job_id, ended.id)


def test_types_leave_out_the_others(api, tenant):
    with following(api, key_of(tenant), "types=incident") as reader:
        reader.take(1)
        note(tenant, "a job")
        with db.transaction(None, role=Role.RELAY) as conn:
            new = NewIncident(tenant, "lag:ingest", "It is late", "It waits.", "HIGH", 1.0)
            incidents.raise_incident(conn, new)
        assert [one.document["what"] for one in reader.take(1)] == ["INCIDENT_OPENED"]


@pytest.fixture
def another(api, redis_url):
    """Another process, as far as its streams can tell: one that has read less or more."""
    with serving(redis_url) as running:
        yield running


def test_cuts_lose_and_double_nothing_while_events_commit_out_of_order(
    api, another, tenant, database_url
):
    key, chance = key_of(tenant), random.Random(7)
    with following(api, key) as reader:
        (first,) = reader.take(1)
    noted, stop = [], threading.Event()

    def write(seed):
        mine = random.Random(seed)
        with psycopg.connect(database_url) as early, psycopg.connect(database_url) as late:
            for number in range(60):
                for conn in (early, late):
                    conn.execute(NOTE, [tenant, f"{seed}-{number}-{conn is late}"])
                if mine.random() < 0.7:
                    late.commit()  # before the one that began earlier
                    noted.append(f"{seed}-{number}-True")
                early.commit()
                noted.append(f"{seed}-{number}-False")
                late.rollback()

    seen, last = [], first.id
    with ThreadPoolExecutor() as threads:
        writers = [threads.submit(write, seed) for seed in range(3)]
        while not (stop.is_set() and len(seen) >= len(noted)):
            with following(chance.choice((api, another)), key, last_id=last) as reader:
                assert reader.take(1)[0].event == "ready"
                left = len(noted) - len(seen) if stop.is_set() else 1_000
                for one in reader.take(min(left, chance.randint(1, 20))):
                    seen.append(one)
                    last = one.id
            if all(writer.done() for writer in writers):
                stop.set()
    positions = [events.Position.parse(one.id) for one in seen]

    assert sorted(ids(seen)) == sorted(noted)
    assert positions == sorted(set(positions))


def test_what_happens_between_ready_and_the_next_connection_is_told(api, tenant):
    key = key_of(tenant)
    with following(api, key) as reader:
        (ready,) = reader.take(1)
    note(tenant, "meanwhile")

    with following(api, key, last_id=ready.id) as reader:
        assert ids(reader.take(2)[1:]) == ["meanwhile"]
    with following(api, key, f"after={ready.id}") as reader:
        assert ids(reader.take(2)[1:]) == ["meanwhile"]
    with following(api, key, "after=0") as reader:
        assert ids(reader.take(2)[1:]) == ["meanwhile"]


def test_a_reader_that_pauses_gets_all_of_a_flood_in_order(api, tenant):
    count = 3 * WAITING_MAX
    with following(api, key_of(tenant), receive_bytes=4_096) as reader:
        reader.take(1)
        for n in range(0, count, 1_000):
            flood(tenant, n, n + 1_000)
        with db.transaction(None, role=Role.RELAY) as conn:
            events.place(conn)

        assert ids(reader.take(count)) == [str(n) for n in range(count)]


def test_who_does_not_read_is_dropped_and_can_resume(pool, tenant, redis_url):
    hurried = Streams()
    slow = Connections(clock=lambda: 20.0 * time.monotonic())
    with serving(redis_url, streams=hurried, connections=slow) as api:
        key = key_of(tenant)
        with following(api, key, receive_bytes=4_096) as reader:
            (last,) = reader.take(1)
            for n in range(0, 30_000, 10_000):
                flood(tenant, n, n + 10_000)
            until(lambda: hurried.count == 0, READER_S)
            seen = []
            with suppress(ConnectionError, IncompleteRead):
                for one in reader.read():
                    seen.append(one.job_id)
                    last = one
        with following(api, key, last_id=last.id) as reader:
            rest = ids(reader.take(1 + 30_000 - len(seen))[1:])

    assert 0 < len(seen) < 30_000
    assert [*seen, *rest] == [str(n) for n in range(30_000)]


@pytest.mark.parametrize("ends", ["client", "server"])
def test_a_stream_is_closed_though_its_connection_has_sent_another_request(
    pool, tenant, redis_url, ends
):
    streams = Streams()
    clock = (lambda: 20.0 * time.monotonic()) if ends == "server" else time.monotonic
    with serving(redis_url, streams=streams, connections=Connections(clock=clock)) as api:
        with socket.create_connection(("127.0.0.1", api.port), patience(20)) as client:
            host = f"Host: x\r\nAuthorization: Bearer {key_of(tenant)}\r\n\r\n"
            both = f"GET /v1/events HTTP/1.1\r\n{host}GET /health HTTP/1.1\r\n{host}"
            client.sendall(both.encode())
            assert client.recv(1_000)
            until(lambda: streams.count == 1, 20)
            if ends == "server":
                flood(tenant, 0, 30_000)  # and nobody reads
                until(lambda: streams.count == 0, READER_S)

        until(lambda: streams.count == 0, 20)


def test_many_streams_share_one_listening_connection(pool, tenant, redis_url, database_url):
    with serving(redis_url, streams=Streams(database_url)) as api:
        key = key_of(tenant)
        with ThreadPoolExecutor() as threads:
            streams = [following(api, key) for _ in range(25)]
            readers = [one.__enter__() for one in streams]
            [*threads.map(lambda one: one.take(1), readers)]
            note(tenant, "told")
            found = [one for (one,) in threads.map(lambda one: one.take(1), readers)]
        with psycopg.connect(database_url) as conn:
            listening = conn.execute(LISTENERS).fetchall()
        for one in streams:
            one.__exit__(None, None, None)

    assert ids(found) == ["told"] * 25
    assert listening == [(1,)]


def test_a_quiet_stream_has_heartbeats(pool, tenant, redis_url):
    with (
        serving(redis_url, streams=Streams(heartbeat_s=0.1)) as api,
        following(api, key_of(tenant)) as reader,
    ):
        reader.take(1)
        reader.beats()
        reader.beats()


def test_a_revoked_key_ends_its_streams_and_no_others(api, tenant):
    revoked, kept = key_of(tenant), key_of(tenant)
    with following(api, revoked) as ends, following(api, kept) as stays:
        for one in (ends, stays):
            one.take(1)
        with db.transaction(None, role=Role.OWNER) as conn:
            api_keys.revoke(conn, tenant, revoked[:12])
        took_s = until(lambda: ends.ends() is None, 2.0)
        note(tenant, "after")
        assert ids(stays.take(1)) == ["after"]

    assert took_s < patience(2.5)
    assert api.ask("GET", "/v1/events", key=revoked).status == 401


def test_who_resumes_before_what_is_kept_is_told_so(api, tenant, tmp_path):
    key = key_of(tenant)
    with following(api, key) as reader:
        (before,) = reader.take(1)
        note(tenant, "old")
        (old,) = reader.take(1)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "JobEvent" SET "at" = "at" - interval '400 days'""")
    retention.run(Settings(home=tmp_path))
    note(tenant, "new")

    with following(api, key, last_id=before.id) as reader:
        reset, new = reader.take(2)
    with following(api, key, last_id=old.id) as reader:
        fine, same = reader.take(2)
    with following(api, key, last_id="9999999999-1") as reader:
        (beyond,) = reader.take(1)

    assert (reset.event, reset.id, new.job_id) == ("reset", before.id, "new")
    assert (fine.event, same.job_id) == ("ready", "new")
    assert (beyond.event, beyond.document["reason"]) == (
        "reset",
        "no event has had this position",
    )


def test_requests_that_are_refused_are_problems(pool, tenant, redis_url):
    with serving(redis_url, streams=Streams(most=1)) as api:
        key = key_of(tenant)
        head = api.ask("HEAD", "/v1/events", key=key)
        unfit = make_key(tenant, make_user(tenant, "ada"), Scope.JOBS_READ)
        with following(api, key) as reader:
            reader.take(1)
            full = api.ask("GET", "/v1/events", key=key)
        wrong = api.ask("GET", "/v1/events?after=x", key=key)
        beyond = api.ask("GET", f"/v1/events?after=5-{2**63}", key=key)

        assert api.ask("GET", "/v1/events", key=unfit).code == "scope_missing"
        assert api.ask("GET", "/v1/events?types=jobs", key=key).code == "invalid_request"
    assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
    assert (full.status, full.code) == (429, "too_many_streams")
    for one in (wrong, beyond):
        assert (one.status, one.code) == (422, "invalid_position")


def test_a_server_that_stops_ends_its_streams_at_once(pool, tenant, redis_url):
    with serving(redis_url, connections=Connections()) as api:
        reading = following(api, key_of(tenant))
        reader = reading.__enter__()
        reader.take(1)
    reader.ends()
    reading.__exit__(None, None, None)
