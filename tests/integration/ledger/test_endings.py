"""How failed attempts end: the error's class decides, and nothing else."""

import mmap
import time
from datetime import timedelta
from decimal import Decimal
from typing import ClassVar

import psycopg
import pytest

from shared import contracts, db
from shared.contracts import Contract, Probe
from shared.db import Role
from shared.errors import (
    DocumentRefused,
    PayloadRefused,
    ProviderBudgetSpent,
    ProviderRateLimited,
    ProviderUnavailable,
    QuotaExhausted,
    TimeLimitExceeded,
)
from shared.ledger.outbox import effect
from shared.queries.ledger import attempts
from tests.support.factories import claim, job, make_tenant, publish_jobs, publish_probe, rows
from tests.support.hostile_errors import HOSTILE
from workers.process import attempts as attempts_of_worker
from workers.process import settlement
from workers.process.consumer import Unit
from workers.process.leases import SLOTS_BYTES, HeldLeases, Slots
from workers.process.settlement import JobCompleter


def settle(job_id, error):
    """Let one attempt of a job fail. Returns the seconds until the next one, or None."""
    with db.transaction(None, role=Role.OWNER) as conn:  # its wait is over
        conn.execute('UPDATE "JobOutbox" SET "dueAt" = now() WHERE "jobId" = %s', [job_id])
        conn.execute('UPDATE "Job" SET "dueAt" = now() WHERE "id" = %s', [job_id])
    [lease] = claim(job_id)
    settlement.settle(lease, error)
    [(wait,)] = rows(
        'SELECT extract(epoch FROM "dueAt" - now())::float8 FROM "Job" WHERE "id" = %s', job_id
    )
    return wait if job(job_id)["state"] == "PENDING" else None


@pytest.mark.parametrize("error", [DocumentRefused("no_text", "None."), PayloadRefused("No.")])
def test_a_permanent_error_ends_the_job_at_its_first_attempt(pool, error):
    job_id = publish_probe(make_tenant())

    assert settle(job_id, error) is None

    assert job(job_id)["state"] == "DEAD"
    assert rows('SELECT "reason", "attempts" FROM "DeadLetter"') == [("permanent", 1)]


def test_a_transient_error_is_tried_eight_times_with_growing_waits(pool):
    job_id = publish_probe(make_tenant())

    waits = [settle(job_id, ProviderUnavailable("Away.")) for _ in range(8)]

    assert waits[7] is None
    for wait, wanted in zip(waits, (2, 6, 18, 54, 162, 486, 1_200), strict=False):
        assert 0.85 * wanted - 1 < wait <= 1.15 * wanted
    assert rows('SELECT "reason", "attempts" FROM "DeadLetter"') == [("exhausted", 8)]
    with db.transaction(None, role=Role.RELAY) as conn:
        history = attempts.select_history(conn, job_id)
    assert [one.attempt for one in history] == list(range(1, 9))
    assert {one.verdict for one in history} == {"failed"}


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(600.0, 600, 690), (1e9, 900, 1_035), (-5.0, 1.7, 2.3), (float("nan"), 1.7, 2.3)],
)
def test_what_a_provider_asks_to_wait_is_obeyed_within_a_quarter_of_an_hour(
    pool, asked, least, most
):
    job_id = publish_probe(make_tenant())

    wait = settle(job_id, ProviderRateLimited("Slower.", retry_after_s=asked))

    assert least - 1 < wait <= most
    assert job(job_id)["waitingFor"] == "retry"
    assert job(job_id)["attempt"] == 1


def test_a_spent_quota_parks_the_job_and_never_uses_up_its_attempts(pool):
    job_id = publish_probe(make_tenant())

    waits = [settle(job_id, QuotaExhausted("Top up the account.")) for _ in range(10)]

    assert all(119 < wait <= 240 for wait in waits)
    assert len({round(wait) for wait in waits}) > 3
    parked = job(job_id)
    assert (parked["state"], parked["waitingFor"], parked["attempt"]) == ("PENDING", "quota", 0)
    assert parked["error"] == "Top up the account."
    assert settle(job_id, ProviderUnavailable("Away.")) <= 2.3
    assert job(job_id)["attempt"] == 1


def test_a_spent_share_of_the_budget_parks_the_job_until_it_is_back(pool):
    job_id = publish_probe(make_tenant())

    wait = settle(job_id, ProviderBudgetSpent("Spent for 40 s.", retry_after_s=40.0))

    assert 39 < wait <= 46
    assert (job(job_id)["waitingFor"], job(job_id)["attempt"]) == ("quota", 0)


def test_a_contract_may_have_attempts_and_waits_of_its_own(pool, monkeypatch):
    class Impatient(Contract):
        """Two attempts, and never long between them."""

        actor_name: ClassVar[str] = "impatient"
        queue_name: ClassVar[str] = "maintenance"
        attempts_max: ClassVar[int] = 3
        backoff_s_max: ClassVar[float] = 3.0

    monkeypatch.setitem(contracts.CONTRACTS, "impatient", Impatient)
    [job_id] = publish_jobs(make_tenant(), [Impatient()])

    waits = [settle(job_id, ProviderUnavailable("Away.")) for _ in range(3)]

    assert waits[1] <= 3.45
    assert waits[2] is None


def store_earlier(job_id, column, number):
    """Give a job a number as an older version of the table took it."""
    with db.transaction(None, role=Role.OWNER) as conn:
        statement = f'UPDATE "Job" SET "{column}" = %s WHERE "id" = %s'
        conn.execute(statement.encode(), [number, job_id])


@pytest.mark.parametrize("number", ["NaN", "-Infinity", -1.0, -1e-30, "Infinity", 1e30])
def test_an_older_job_whose_backoff_is_no_wait_keeps_its_error_and_is_retried(pool, number):
    job_id = publish_probe(make_tenant())
    store_earlier(job_id, "backoffS", number)

    wait = settle(job_id, LookupError("x"))

    assert wait is not None
    assert 0 < wait <= (3_600 if str(number) in ("Infinity", "1e+30") else 2) * 1.15
    assert (job(job_id)["error"], job(job_id)["attempt"]) == ("x", 1)
    assert rows('SELECT "verdict", "errorType" FROM "JobAttempt"') == [("failed", "LookupError")]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", -1e9, 1e30])
def test_an_older_job_whose_time_limit_is_none_still_ends(pool, number):
    job_id = publish_probe(make_tenant())
    store_earlier(job_id, "timeLimitS", number)
    [lease] = claim(job_id)
    held = HeldLeases(Slots(mmap.mmap(-1, SLOTS_BYTES)))
    held.take([lease])
    deadlines = []

    def look(*_) -> None:
        now = time.monotonic()
        deadlines.extend(at - now for at in held._deadlines.values())
        raise LookupError("x")

    attempts_of_worker.run(look, Probe, Unit([lease]), held, JobCompleter(held))

    [left] = deadlines
    assert -60 < left <= 604_800
    assert job(job_id)["state"] == "PENDING"
    assert rows('SELECT "verdict", "errorType" FROM "JobAttempt"') == [("failed", "LookupError")]


def test_the_time_limit_is_a_verdict_of_its_own(pool):
    [job_id] = publish_jobs(make_tenant(), [Probe(note="slow")])

    settle(job_id, TimeLimitExceeded("stopped after 60 seconds"))

    assert rows('SELECT "verdict", "errorType" FROM "JobAttempt"') == [
        ("timed_out", "TimeLimitExceeded")
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_an_actor_raises_its_error_is_in_the_letter_at_the_first_attempt(pool, name):
    make, wanted = HOSTILE[name]
    job_id = publish_probe(make_tenant())
    [lease] = claim(job_id)
    held = HeldLeases(Slots(mmap.mmap(-1, SLOTS_BYTES)))
    held.take([lease])

    def fail(*_) -> None:
        raise make()

    attempts_of_worker.run(fail, Probe, Unit([lease]), held, JobCompleter(held))

    [(verdict, error_type, error, traceback)] = rows(
        'SELECT "verdict", "errorType", "error", "traceback" FROM "JobAttempt"'
    )
    assert (verdict, job(job_id)["state"]) == ("failed", "PENDING")
    assert error_type in traceback
    assert error
    for part in wanted:
        assert part in traceback
    assert not held.all()


@pytest.mark.parametrize("asked", ["soon", None, Decimal(3), float("inf"), timedelta(seconds=3)])
def test_a_transient_error_of_ones_own_is_retried_whatever_wait_it_asks_for(pool, asked):
    class Slow(ProviderUnavailable):
        """A subclass that does not call ours."""

        def __init__(self) -> None:
            if asked is not None:
                self.retry_after_s = asked

    job_id = publish_probe(make_tenant())

    wait = settle(job_id, Slow())

    assert wait is not None
    assert rows('SELECT "errorType" FROM "JobAttempt"') == [("Slow",)]


def close(conn):
    """Close it and leave."""
    conn.close()


def close_and_go_on(conn):
    """Close it and send a statement."""
    conn.close()
    conn.execute("SELECT 1")


def close_and_fetch(conn):
    """Close it with a cursor open."""
    cursor = conn.execute("SELECT generate_series(1, 3)")
    conn.close()
    with conn.transaction():
        cursor.execute("SELECT 1")


def fail_and_close(conn):
    """Send what Postgres refuses, and close it on the way out."""
    try:
        conn.execute("SELECT 1 / 0")
    finally:
        conn.close()


def misuse_and_close(conn):
    """Send what psycopg refuses, and close it on the way out."""
    try:
        conn.execute("SELECT %s", [])
    finally:
        conn.close()


def lose(conn):
    """Lose it: Postgres ends the session, and the next statement finds that."""
    conn.execute("RESET ROLE")
    conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def lose_and_close(conn):
    """Lose it, and close what is left."""
    try:
        lose(conn)
    finally:
        conn.close()


def attempt_with(use, job_id):
    """Let an attempt use the connection of its effect."""
    [lease] = claim(job_id)
    held = HeldLeases(Slots(mmap.mmap(-1, SLOTS_BYTES)))
    held.take([lease])

    def work(*_) -> None:
        with effect(lease) as conn:
            use(conn)

    attempts_of_worker.run(work, Probe, Unit([lease]), held, JobCompleter(held))
    return job(job_id)


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (close, "ConnectionClosed"),
        (close_and_go_on, "ConnectionClosed"),
        (close_and_fetch, "ConnectionClosed"),
        (fail_and_close, "DivisionByZero"),
        (misuse_and_close, "ProgrammingError"),
    ],
)
def test_a_connection_that_the_actor_closes_costs_an_attempt(pool, use, told):
    after = attempt_with(use, publish_probe(make_tenant()))

    assert (after["state"], after["attempt"], after["waitingFor"]) == ("PENDING", 1, "retry")
    assert rows('SELECT "verdict", "errorType" FROM "JobAttempt"') == [("failed", told)]


@pytest.mark.parametrize("use", [lose, lose_and_close])
def test_a_connection_that_is_lost_costs_no_attempt(pool, use):
    after = attempt_with(use, publish_probe(make_tenant()))

    assert (after["state"], after["attempt"], after["waitingFor"]) == ("PENDING", 0, "server")


def test_an_error_that_hides_its_own_class_still_ends_its_attempt(pool):
    class Hidden(Exception):
        """No `isinstance` can be asked of it."""

        @property
        def __class__(self):
            raise RuntimeError("no class")

    job_id = publish_probe(make_tenant())

    assert settle(job_id, Hidden("here")) is not None

    assert rows('SELECT "errorType", "error" FROM "JobAttempt"') == [
        ("RuntimeError", "Hidden, an error that cannot be read: RuntimeError")
    ]


def test_an_error_of_postgres_inside_an_effect_is_not_its_own_cause(pool):
    [lease] = claim(publish_probe(make_tenant()))

    with pytest.raises(psycopg.errors.DivisionByZero) as raised, effect(lease) as conn:
        conn.execute("SELECT 1 / 0")

    assert raised.value.__cause__ is None


def test_an_attempt_keeps_the_notes_of_an_error_and_of_its_members(pool):
    member = ValueError("no rate")
    member.add_note("while in row 7")
    group = ExceptionGroup("two failed", [member, KeyError("CHF")])
    group.add_note("batch of 30 November")
    plain = publish_probe(make_tenant("a"))
    noted = publish_probe(make_tenant("b"))

    settle(plain, ExceptionGroup("two failed", [ValueError("no rate"), KeyError("CHF")]))
    settle(noted, group)

    told = """SELECT "error", "traceback", "fingerprint" FROM "JobAttempt" WHERE "jobId" = %s"""
    [(error, traceback, fingerprint)] = rows(told, noted)
    assert error == (
        "two failed (2 sub-exceptions) [batch of 30 November]: "
        "ValueError: no rate [while in row 7]; KeyError: 'CHF'"
    )
    for note in ("batch of 30 November\n", "while in row 7\n"):
        assert note in traceback
    assert [(fingerprint,)] == rows(told.replace('"error", "traceback",', ""), plain)
