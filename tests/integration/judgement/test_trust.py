"""Trust on a real Postgres: the same events give the same score, whatever their way."""

import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.messages import submission
from producers.queries.ledger import job_limits
from producers.queries.ledger.job_limits import Limit
from shared import db
from shared.contracts import RecordMessage, RefreshTrust, UpdateTrust
from shared.db import Role
from shared.ids import UserId
from shared.judgement import trust
from shared.queries.judgement import trust_scores
from shared.queries.judgement.trust_scores import NewEvent
from tests.oracles.trust import KINDS, Event, trust_score
from tests.support.factories import claim, do, job, make_relay, make_tenant, publish_jobs, rows
from tests.support.patience import patience
from tests.support.thoroughness import examples
from workers.actors.scoring import update_trust
from workers.actors.scoring.trust import WEIGHTS
from workers.domain.judgement.trust import DAY_S

pytestmark = pytest.mark.usefixtures("person")


@pytest.fixture
def person(tenant):
    make_people(tenant, ADA)


NOW = datetime(2026, 11, 1, tzinfo=UTC)
BORN = NOW - timedelta(days=100)
ADA = UserId("ada")


def make_people(tenant, *names):
    with db.transaction(None, role=Role.OWNER) as conn:
        for name in names:
            conn.execute(
                """INSERT INTO "User" ("id", "email", "passwordHash", "tenantId", "createdAt")
                   VALUES (%s, %s, '', %s, %s)""",
                [name, f"{name}@example.org", tenant, BORN.replace(tzinfo=None)],
            )


def open_session(name, user, address, agent=None, *, days=0.0):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "Session" ("id", "userId", "token", "ipAddress", "userAgent",
                                      "expiresAt", "createdAt")
               VALUES (%(name)s, %(user)s, %(name)s, %(address)s, %(agent)s,
                       now() + interval '1 day',
                       (now() - %(days)s * interval '1 day') AT TIME ZONE 'UTC')""",
            {"name": name, "user": user, "address": address, "agent": agent, "days": days},
        )


def wait_for_a_waiter():
    """Until somebody waits for an advisory lock."""
    began = time.monotonic()
    while not rows("""SELECT FROM pg_locks WHERE "locktype" = 'advisory' AND NOT "granted"
                      AND "database" = (SELECT oid FROM pg_database
                                        WHERE datname = current_database())"""):
        assert time.monotonic() - began < patience(20)


moments = st.integers(0, 400).map(lambda days: NOW - timedelta(days=days))
events = st.builds(
    Event,
    user_id=st.just(ADA),
    kind=st.sampled_from(sorted(KINDS)),
    source_id=st.sampled_from("abcçĞ"),
    value=st.floats(-1, 1).map(lambda value: round(value, 3)),
    occurred_at=moments,
    revision=moments,
    withdrawn=st.booleans(),
)


def note(tenant, some, at=NOW):
    """Note events in one statement. Returns the score."""
    new = [
        NewEvent(
            it.user_id, it.kind, it.source_id, it.value, it.occurred_at, it.revision, it.withdrawn
        )
        for it in some
    ]
    with db.transaction(tenant) as conn:
        return trust_scores.update(conn, new, WEIGHTS, at=at).get(ADA)


def forget(tenant):
    with db.transaction(tenant) as conn:
        conn.execute('DELETE FROM "TrustEvent"')


def expected(some):
    return trust_score(some, age_s=100 * DAY_S, now=NOW)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_order_repetition_and_grouping_of_events_gives_the_formulas_score(tenant, some, rng):
    forget(tenant)
    shuffled = some * 2
    rng.shuffle(shuffled)

    for event in shuffled:
        incremental = note(tenant, [event])
    with db.transaction(tenant) as conn:
        whole = trust_scores.update(conn, [], WEIGHTS, also=[ADA], at=NOW)[ADA]
    forget(tenant)
    together = note(tenant, some)

    assert incremental == whole == together
    assert whole == pytest.approx(expected(some).score, abs=1e-9)


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events, min_size=1, max_size=12))
def test_the_factors_that_are_kept_add_up_to_the_score(tenant, some):
    forget(tenant)
    note(tenant, some)

    ((score, factors),) = rows('SELECT "score", "factors" FROM "TrustScore"')
    assert 0.0 <= score <= 1.0
    assert sum(factors.values()) == pytest.approx(score, abs=1e-9)
    assert factors == pytest.approx(dict(expected(some).factors), abs=1e-9)


def test_eight_workers_at_once_lose_no_event(tenant):
    rng = random.Random(7)
    some = [
        Event(ADA, rng.choice(sorted(KINDS)), str(number), rng.uniform(-1, 1), NOW, NOW)
        for number in range(160)
    ]

    def work(mine):
        for event in mine:
            note(tenant, [event])

    threads = [threading.Thread(target=work, args=(some[at::8],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ((score,),) = rows('SELECT "score" FROM "TrustScore"')
    assert rows('SELECT count(*) FROM "TrustEvent"') == [(160,)]
    assert score == pytest.approx(expected(some).score, abs=1e-9)


def test_jobs_note_events_once_and_tell_the_score(tenant):
    blocked = {
        "user_id": ADA,
        "kind": "moderation",
        "source_id": "m1",
        "occurred_at": NOW,
        "revision": NOW,
    }
    jobs = [UpdateTrust(**blocked, value=-1.0)]
    (lease,) = claim(*publish_jobs(tenant, jobs))
    update_trust(list(zip(jobs, [lease], strict=True)))

    ((score,),) = rows('SELECT "score" FROM "TrustScore"')
    assert job(lease.job_id)["outcome"] == {"score": score}
    later = NOW + timedelta(seconds=1)
    (lease,) = claim(
        *publish_jobs(
            tenant, [UpdateTrust(**(blocked | {"revision": later}), value=0.0, withdrawn=True)]
        )
    )
    do(lease)

    ((restored,),) = rows('SELECT "score" FROM "TrustScore"')
    assert restored > score
    assert rows('SELECT "withdrawn" FROM "TrustEvent"') == [(True,)]


@pytest.mark.parametrize("value", [1.0, -1.0, 5e-324])
def test_what_is_older_than_any_half_life_counts_for_nothing(tenant, value):
    ancient = datetime(1970, 1, 1, tzinfo=UTC)

    score = note(tenant, [Event(ADA, kind, "old", value, ancient, ancient) for kind in KINDS])

    assert score == pytest.approx(expected([]).score, abs=1e-9)


def test_a_refresh_of_many_waits_for_one_that_is_noted_and_is_no_deadlock(tenant):
    make_people(tenant, "bob")
    open_session("s1", "bob", "10.0.0.1", days=1)
    open_session("s2", "bob", "8.8.8.8")
    (lease,) = claim(*publish_jobs(tenant, [RefreshTrust(day="2026-11-23")]))
    refresh = threading.Thread(target=do, args=(lease,))

    with db.transaction(tenant) as conn:
        trust_scores.update(conn, [], WEIGHTS, also=[ADA])
        refresh.start()
        wait_for_a_waiter()
        trust_scores.update(conn, [], WEIGHTS, also=[UserId("bob")])
    refresh.join()

    assert job(lease.job_id)["outcome"] == {"people": 2, "signals": 1}


def test_a_limit_by_cost_lets_messages_of_the_distrusted_through_more_slowly(tenant, redis_url):
    make_people(tenant, "bob")
    blocks = [Event(UserId("bob"), "moderation", str(n), -1.0, NOW, NOW) for n in range(3)]
    note(tenant, [*blocks, Event(ADA, "payment", "p", 1.0, NOW, NOW)])
    # A cost of seven and a half is begun at once for each person, and then all but nothing.
    eight = {"rate_per_s": 0.01, "burst": 7.5, "concurrency_max": None, "unit": "cost"}
    with db.transaction(None, role=Role.RELAY) as conn:
        job_limits.put(conn, Limit("", None, None, "record_message", per_key=True, **eight))
    said = [
        RecordMessage(content=f"{who} {n}", role="USER", user_id=who, external_id=f"{who} {n}")
        for who in ("ada", "bob")
        for n in range(12)
    ]
    with db.transaction(tenant) as conn:
        submission.record_many(conn, said)

    with redis.Redis.from_url(redis_url) as client:
        client.set("ailydian:epoch", "a Redis that relays know")
    make_relay(redis_url).step()

    sent = dict(
        rows("""SELECT j."limitKey", count(*) FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
                GROUP BY 1""")
    )
    assert trust.rate_weight(dict(rows('SELECT "userId", "score" FROM "TrustScore"'))["bob"]) == 4
    assert sent == {"ada": 8, "bob": 2}


def test_another_tenants_events_do_not_count(tenant):
    other = make_tenant()
    note(other, [Event(UserId("eve"), "moderation", "m1", -1.0, NOW, NOW)])

    score = note(tenant, [Event(ADA, "payment", "p1", 1.0, NOW, NOW)])

    assert score == pytest.approx(expected([Event(ADA, "payment", "p1", 1.0, NOW, NOW)]).score)


def test_a_tenant_can_neither_touch_nor_occupy_the_score_of_anothers_person(tenant):
    other = make_tenant()
    blame = {"kind": "moderation", "source_id": "x", "occurred_at": NOW, "revision": NOW}

    for user_id in (ADA, "nobody-yet"):
        ids = publish_jobs(other, [UpdateTrust(**blame, user_id=user_id, value=-1.0)])
        (lease,) = claim(*ids)
        do(lease)
        assert job(lease.job_id)["outcome"] == {"score": None}

    assert rows('SELECT count(*) FROM "TrustScore"') == [(0,)]
    assert rows('SELECT count(*) FROM "TrustEvent"') == [(0,)]
    assert note(tenant, [Event(ADA, "payment", "p1", 1.0, NOW, NOW)]) is not None


def test_time_alone_changes_the_score_of_everybody(tenant):
    note(tenant, [Event(ADA, "moderation", "m1", -1.0, NOW, NOW)], at=NOW)
    ((before,),) = rows('SELECT "score" FROM "TrustScore"')

    (lease,) = claim(*publish_jobs(tenant, [RefreshTrust(day="2026-11-23")]))
    do(lease)

    ((after,),) = rows('SELECT "score" FROM "TrustScore"')
    assert job(lease.job_id)["outcome"] == {"people": 1, "signals": 0}
    assert after > before


def test_sessions_from_elsewhere_and_payments_of_the_platform_become_events_once(tenant):
    open_session("s1", ADA, "10.0.0.1", "Firefox", days=2)
    open_session("s2", ADA, "10.0.0.1", "Firefox", days=1.5)
    open_session("s3", ADA, "8.8.8.8", "Firefox", days=1)
    open_session("s4", ADA, "8.8.8.8", "curl", days=0.5)
    open_session("known apart", ADA, "10.0.0.1", "curl")
    open_session("unknown", ADA, None)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""INSERT INTO "Wallet" ("id", "userId", "balance") VALUES ('w', 'ada', 5)""")
        conn.execute(
            """INSERT INTO "WalletTransaction" ("id", "walletId", "amount", "type")
               VALUES ('t', 'w', 5, 'CREDIT'), ('spent', 'w', 1, 'DEBIT')"""
        )

    for day in ("2026-11-23", "2026-11-24"):
        (lease,) = claim(*publish_jobs(tenant, [RefreshTrust(day=day)]))
        do(lease)

    found = rows('SELECT "kind", "sourceId", "value" FROM "TrustEvent" ORDER BY 1, 2')
    assert found == [("payment", "t", 1.0), ("session", "s3", -0.2), ("session", "s4", -0.2)]
    acts = rows("""SELECT "resourceId", "metadata" FROM "AuditLog"
                   WHERE "action" = 'session.new_device' ORDER BY 1""")
    assert acts == [("s3", {}), ("s4", {})]
