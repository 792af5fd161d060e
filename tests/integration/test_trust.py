"""Trust on a real Postgres: the same events give the same score, whatever their way."""

import random
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import db
from shared.contracts import RefreshTrust, UpdateTrust
from shared.db import Role
from shared.ids import UserId
from shared.queries import trust_scores
from shared.queries.trust_scores import NewEvent
from tests.factories import claim, do, job, make_tenant, publish_jobs, rows
from workers.actors.scoring import update_trust
from workers.actors.scoring.trust import WEIGHTS
from workers.domain.trust import DAY_S, KINDS, Event, trust_score

pytestmark = pytest.mark.usefixtures("pool")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
BORN = NOW - timedelta(days=100)
ADA = UserId("ada")


@pytest.fixture
def tenant():
    tenant = make_tenant()
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "User" ("id", "email", "passwordHash", "tenantId", "createdAt")
               VALUES (%s, 'ada@example.org', '', %s, %s)""",
            [ADA, tenant, BORN.replace(tzinfo=None)],
        )
    return tenant


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


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(events, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_order_repetition_and_grouping_of_events_gives_the_formulas_score(tenant, some, rng):
    forget(tenant)
    shuffled = some * 2
    rng.shuffle(shuffled)

    for event in shuffled:
        incremental = note(tenant, [event])
    with db.transaction(tenant) as conn:
        whole = trust_scores.recompute(conn, [ADA], WEIGHTS, at=NOW)[ADA]
    forget(tenant)
    together = note(tenant, some)

    assert incremental == whole == together
    assert whole == pytest.approx(expected(some).score, abs=1e-9)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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


def test_another_tenants_events_do_not_count(tenant):
    other = make_tenant()
    note(other, [Event(UserId("eve"), "moderation", "m1", -1.0, NOW, NOW)])

    score = note(tenant, [Event(ADA, "payment", "p1", 1.0, NOW, NOW)])

    assert score == pytest.approx(expected([Event(ADA, "payment", "p1", 1.0, NOW, NOW)]).score)


def test_time_alone_changes_the_score_of_everybody(tenant):
    note(tenant, [Event(ADA, "moderation", "m1", -1.0, NOW, NOW)], at=NOW)
    ((before,),) = rows('SELECT "score" FROM "TrustScore"')

    (lease,) = claim(*publish_jobs(tenant, [RefreshTrust(day="2026-11-23")]))
    do(lease)

    ((after,),) = rows('SELECT "score" FROM "TrustScore"')
    assert job(lease.job_id)["outcome"] == {"people": 1, "signals": 0}
    assert after > before


def test_sessions_from_elsewhere_and_payments_of_the_platform_become_events_once(tenant):
    with db.transaction(tenant) as conn:
        for name, address, days in (
            ("s1", "10.0.0.1", 2),
            ("s2", "10.0.0.1", 1),
            ("s3", "8.8.8.8", 0),
        ):
            conn.execute(
                """INSERT INTO "Session" ("id", "userId", "token", "ipAddress", "expiresAt",
                                          "createdAt")
                   VALUES (%(name)s, 'ada', %(name)s, %(address)s, now() + interval '1 day',
                           (now() - %(days)s * interval '1 day') AT TIME ZONE 'UTC')""",
                {"name": name, "address": address, "days": days},
            )
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""INSERT INTO "Wallet" ("id", "userId", "balance") VALUES ('w', 'ada', 5)""")
        conn.execute(
            """INSERT INTO "WalletTransaction" ("id", "walletId", "amount", "type")
               VALUES ('t', 'w', 5, 'CREDIT')"""
        )

    for day in ("2026-11-23", "2026-11-24"):
        (lease,) = claim(*publish_jobs(tenant, [RefreshTrust(day=day)]))
        do(lease)

    found = rows('SELECT "kind", "sourceId", "value" FROM "TrustEvent" ORDER BY "kind"')
    assert found == [("payment", "t", 1.0), ("session", "s3", -0.2)]
    acts = rows("""SELECT "resourceId" FROM "AuditLog" WHERE "action" = 'session.new_device'""")
    assert acts == [("s3",)]
