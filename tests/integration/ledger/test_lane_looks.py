"""The relay finds every lane, and reads no dead rows for it where vacuum is kept away."""

import random

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.ledger import lane_looks
from producers.ledger.lane_looks import LaneLooks
from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.queries.ledger import dispatches
from shared.queries.ledger.dispatches import BEFORE_ALL, LaneKey
from tests.support import query_plans
from tests.support.thoroughness import examples

WAIT = """
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
        "attempt")
    SELECT 'maintenance', %s, 'probe', %s, %s, now() + %s * interval '1 second',
           'j' || random(), 0
    FROM generate_series(1, %s)
"""
ALL = dict.fromkeys(QUEUES, BEFORE_ALL)


@pytest.fixture
def slow(monkeypatch):
    """Every look at all lanes counts as slow."""
    monkeypatch.setattr(lane_looks, "SLOW_S", -1.0)
    monkeypatch.setattr(lane_looks, "PART", 1e-6)


def wait(tenant, *, key="", priority=0, due_s=0.0, count=1):
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(WAIT, [tenant, key, priority, due_s, count])


def take(limit=1_000_000, due_s=0.0):
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(
            """DELETE FROM "JobOutbox" WHERE ctid IN (
                   SELECT ctid FROM "JobOutbox" WHERE "dueAt" <= now() + %s * interval '1 second'
                   ORDER BY random() LIMIT %s)""",
            [due_s, limit],
        )


def look(looks):
    with db.transaction(None, role=Role.RELAY) as conn:
        return looks.look(conn, ALL, limit=1_000)


def names(lanes):
    return sorted(lane.tenant_id for lane in lanes)


@pytest.mark.parametrize("new", ["a", "c", "e", "z"])
def test_a_new_lane_is_found_wherever_it_lies_among_the_known(pool, slow, new):
    looks = LaneLooks()
    for tenant in ("b", "d"):
        wait(tenant)
    first = look(looks)
    wait(new)
    wait(new, key="other")
    again = look(looks)

    assert names(first) == ["b", "d"]
    assert names(again) == sorted(["b", "d", new, new])


def test_a_look_passes_no_rows_that_were_taken(pool, database_url, slow):
    looks = LaneLooks()
    with psycopg.connect(database_url) as held:
        held.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        held.execute('SELECT FROM "JobOutbox"')
        for tenant in ("b", "d"):
            wait(tenant, due_s=-60, count=20_000)
        look(looks)
        take()
        for tenant in ("b", "d"):
            wait(tenant)
        with db.transaction(None, role=Role.RELAY) as conn:
            found = looks.look(conn, ALL, limit=1_000)
        looks._all_at = 0.0
        look(looks)  # all lanes, and from here on after what was taken
        values = _values(looks)
        known = query_plans.explain(dispatches.SELECT_KNOWN_LANES, values)

    assert names(found) == ["b", "d"]
    assert known.blocks < 200, "20,000 rows lie on more blocks"


def _values(looks):
    keys = [*looks._known, *(LaneKey(queue, *BEFORE_ALL) for queue in QUEUES)]
    return {
        "queues": [key.queue for key in keys],
        "tenants": [key.tenant_id for key in keys],
        "jobs": [key.job for key in keys],
        "keys": [key.limit_key for key in keys],
        "priorities": [key.priority for key in keys],
        "sinces": [str(looks._known.get(key, "infinity")) for key in keys],
        "limit": 1_000,
    }


def test_what_is_committed_long_after_it_was_due_waits_for_a_look_at_all(pool, slow):
    looks = LaneLooks()
    wait("b")
    look(looks)
    take()
    wait("c")
    look(looks)
    wait("b", due_s=-5)

    assert names(look(looks)) == ["c"]
    looks._all_at = 0.0
    assert names(look(looks)) == ["b", "c"]


def test_a_fast_look_is_always_at_all_lanes(pool):
    looks = LaneLooks()
    wait("b")
    look(looks)
    take()
    wait("b", due_s=-5)

    looks._all_at = 0.0
    assert names(look(looks)) == ["b"]


def test_so_many_lanes_are_known_and_the_rest_is_found_all_the_same(pool, slow, monkeypatch):
    monkeypatch.setattr(lane_looks, "KNOWN_MAX", 3)
    looks = LaneLooks()
    for number in range(9):
        wait(f"t{number}")
    look(looks)

    assert len(looks._known) == 3
    assert names(look(looks)) == [f"t{number}" for number in range(9)]


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_both_looks_see_the_same(pool, slow, seed):
    rng = random.Random(seed)
    looks = LaneLooks()
    take(due_s=1e6)
    for _ in range(30):
        due_s = rng.choice([0.0, 0.0, -0.5, 0.2, 3600.0])
        if rng.random() < 0.6:
            wait(
                rng.choice("abcde"),
                key=rng.choice(["", "k"]),
                priority=rng.randint(-1, 1),
                due_s=due_s,
                count=rng.randint(1, 3),
            )
        else:
            take(limit=rng.randint(1, 9))
        if rng.random() < 0.5:
            with db.transaction(None, role=Role.RELAY) as conn:
                known = looks.look(conn, ALL, limit=1_000)
                whole = dispatches.select_lanes(conn, ALL, limit=1_000)
            assert sorted(map(_told, known)) == sorted(map(_told, whole))


def _told(lane):
    # Both are of one transaction, whose time stands still.
    return (*lane.place, lane.due_at, lane.due_s)
