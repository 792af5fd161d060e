"""Acts on many dead letters over HTTP: page by page, at a rate, behind canaries, and stopped."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from producers.ledger import bulk_actions, scheduler
from shared import db
from shared.db import Role
from shared.queries.ledger import attempts
from tests.support.dead_jobs import dead, kill, states
from tests.support.factories import claim, make_user, rows
from tests.support.http_api import make_key

ALL = {"all": True}


@pytest.fixture
def key(acme):
    """A key of an administrator of acme that may do everything with dead letters."""
    scopes = ("dead:read", "dead:replay", "dead:write")
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *scopes)


def page_by_page(monkeypatch, size):
    """Let a page have so many jobs, so that an action needs the scheduler."""
    monkeypatch.setattr("producers.ledger.dead_selection.PAGE", size)


def go_on():
    return bulk_actions.run_due(threading.Event())


def hurry():
    """Make what waits for its time due."""
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "BulkAction" SET "nextAt" = now()""")


def test_more_than_a_page_goes_on_in_the_background_to_the_last(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 2)
    ids = dead(acme, 5)
    reply = api.ask("POST", "/v1/dead/discard", key=key, body=ALL, Idempotency_Key="x")
    again = api.ask("POST", "/v1/dead/discard", key=key, body=ALL, Idempotency_Key="x")
    born_later = dead(acme)
    at_first = states(ids)
    scheduler.put_sweep("actions")
    assert scheduler.sweep_if_due("actions", threading.Event())

    assert reply.document["state"] == "RUNNING"
    assert again.body == reply.body
    assert sorted(at_first) == ["CANCELLED"] * 2 + ["DEAD"] * 3
    assert states(ids) == ["CANCELLED"] * 5
    assert states(born_later) == ["DEAD"]
    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["matched"], shown["done"]) == ("DONE", 5, 5)
    assert shown["finishedAt"] > shown["createdAt"]
    who = rows("""SELECT DISTINCT left("userId", 8) FROM "AuditLog" WHERE "resource" = 'Job' """)
    assert who == [("key:aly_",)]
    assert len(api.ask("GET", "/v1/dead/actions", key=key).document["items"]) == 1


def test_schedulers_that_go_on_at_once_move_each_job_once(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 1)
    ids = dead(acme, 12)
    place = api.ask("POST", "/v1/dead/replay", key=key, body=ALL).headers["location"]
    with ThreadPoolExecutor(4) as schedulers:
        for one in [schedulers.submit(go_on) for _ in range(4)]:
            one.result()

    shown = api.ask("GET", place, key=key).document
    assert (shown["state"], shown["matched"], shown["done"]) == ("DONE", 12, 12)
    assert states(ids) == ["PENDING"] * 12
    assert rows("""SELECT count(*) FROM "JobEvent" WHERE "what" = 'REPLAYED'""") == [(12,)]
    noted = rows("""SELECT "metadata" -> 'jobs' ->> 0 FROM "AuditLog" WHERE "resource" = 'Job'""")
    assert sorted(one for (one,) in noted) == sorted(ids)


def test_a_rate_lets_the_next_page_wait(api, acme, key):
    ids = dead(acme, 3)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"rate": 0.01})

    assert states(ids).count("PENDING") == 1
    assert go_on() == 0, "the next is due in 100 s"
    hurry()
    assert go_on() == 1
    assert states(ids).count("PENDING") == 2
    assert api.ask("GET", reply.headers["location"], key=key).document["done"] == 2


def end_well(*job_ids):
    for lease in claim(*job_ids):
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(lease.job_id, lease.fence)])


def test_canaries_that_end_well_let_the_others_follow(api, acme, key):
    ids = dead(acme, 5)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"canary": 2})
    hurry()
    go_on()
    assert states(ids) == ["PENDING"] * 2 + ["DEAD"] * 3
    end_well(*ids[:2])
    hurry()
    go_on()

    assert states(ids) == ["COMPLETED"] * 2 + ["PENDING"] * 3
    assert api.ask("GET", reply.headers["location"], key=key).document["state"] == "DONE"


def test_canaries_that_fail_again_stop_the_others(api, acme, key):
    ids = dead(acme, 5)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"canary": 2})
    kill(*ids[:2])
    hurry()
    go_on()

    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["done"]) == ("STOPPED", 2)
    assert shown["error"].startswith("2 of 2 replayed jobs failed again")
    assert states(ids) == ["DEAD"] * 5


def test_fewer_letters_than_canaries_are_judged_too(api, acme, key):
    ids = dead(acme, 2)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"canary": 9})
    kill(*ids)
    hurry()
    go_on()

    assert reply.document["state"] == "RUNNING"
    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["matched"], shown["done"]) == ("STOPPED", 2, 2)


def test_canaries_that_nobody_does_stop_the_others_in_time(api, acme, key):
    ids = dead(acme, 3)
    body = ALL | {"canary": 1, "canarySeconds": 60}
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=body)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "BulkAction" SET "canaryUntil" = now(), "nextAt" = now()""")
    go_on()

    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert shown["state"] == "STOPPED"
    assert shown["error"].startswith("The first 1 jobs have not all ended after 60 s")
    assert states(ids) == ["PENDING", "DEAD", "DEAD"]


def test_what_too_many_fail_of_is_stopped_with_what_it_did(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 10)
    ids = dead(acme, 25)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"failingMax": 0.5})
    kill(*ids[:10])
    go_on()

    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["matched"], shown["done"]) == ("STOPPED", 20, 20)
    assert states(ids[20:]) == ["DEAD"] * 5


def test_an_action_is_stopped_once(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 1)
    ids = dead(acme, 3)
    place = api.ask("POST", "/v1/dead/replay", key=key, body=ALL).headers["location"]
    stopped = api.ask("POST", f"{place}/stop", key=key)
    again = api.ask("POST", f"{place}/stop", key=key)

    assert stopped.document["state"] == "STOPPED"
    assert stopped.document["error"].startswith("Stopped by key:aly_")
    assert (again.status, again.code) == (409, "bulk_action_ended")
    assert go_on() == 0
    assert states(ids) == ["PENDING", "DEAD", "DEAD"]


def test_a_page_that_fails_ends_the_action_and_is_told(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 1)
    ids = dead(acme, 2)
    place = api.ask("POST", "/v1/dead/discard", key=key, body=ALL).headers["location"]
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('ALTER TABLE "AuditLog" ADD CONSTRAINT full_up CHECK (false) NOT VALID')
    go_on()

    shown = api.ask("GET", place, key=key).document
    assert (shown["state"], shown["done"]) == ("FAILED", 1)
    assert "full_up" in shown["error"]
    assert states(ids) == ["CANCELLED", "DEAD"]
