"""Where a job was when its process died or was killed: the attempt keeps the threads' stacks."""

import re
from pathlib import Path

import pytest

from shared import db
from shared.db import Role
from shared.ledger import lapsed_leases
from shared.ledger.lapsed_leases import Exit
from shared.queries.ledger import attempts, dispatches
from tests.support import misbehaving_jobs
from tests.support.factories import claim, job, make_tenant, publish_jobs, rows
from tests.support.misbehaving_jobs import LongPill, Pill
from tests.support.patience import patience

TOLD = """SELECT "verdict", "errorType", "traceback" FROM "JobAttempt"
          WHERE "jobId" = %s ORDER BY "fence" LIMIT 1"""
BODY = re.compile(r"File \".*misbehaving_jobs\.py\", line (\d+) in pill")


def first_attempt(plant, how, kind=Pill):
    """Let a worker do one bad job. Returns how its first attempt ended, and the traceback."""
    [job_id] = publish_jobs(make_tenant(), [kind(how=how)])
    plant.until(lambda: rows(TOLD, job_id) or job(job_id)["state"] == "DEAD")
    [told] = rows(TOLD, job_id)
    return told


def line_of(text):
    """The number of the line of the actor's module that holds a text."""
    lines = Path(misbehaving_jobs.__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.timeout(240)
def test_a_job_that_ends_its_process_tells_where_it_was(plant):
    plant.start_relay()
    plant.start_workers(processes=1, queues=("audit",), lease_s=30)

    for how, text, head in [
        ("leave", "os._exit(", ""),
        ("leave_well", "os._exit(", ""),
        ("segfault", "ctypes.string_at(0)", "Fatal Python error: Segmentation fault\n"),
        ("abort", "os.abort()", "Fatal Python error: Aborted\n"),
    ]:
        verdict, error_type, traceback = first_attempt(plant, how)

        assert (verdict, error_type) == ("crashed", "WorkerCrashed")
        assert traceback.startswith(f"{head}Stacks of all threads")
        own, *others = re.split(r"\n\n\d+ other threads?:\n", traceback)
        assert BODY.search(own)[1] == str(line_of(text))
        assert any(
            "process/main.py" in other for other in others
        )  # the main thread, wherever it is
        assert len(traceback) <= 20_000


@pytest.mark.timeout(240)
def test_a_job_killed_for_its_time_limit_tells_where_it_hung(plant):
    plant.start_relay()
    plant.start_workers(processes=1, queues=("audit",), lease_s=30)

    for how, text in [("hang", "re.match("), ("sleep", "time.sleep(3_600)")]:
        verdict, error_type, traceback = first_attempt(plant, how)

        assert (verdict, error_type) == ("timed_out", "TimeLimitExceeded")
        own, *_ = re.split(r"\n\n\d+ other threads?:\n", traceback)
        assert BODY.search(own)[1] == str(line_of(text))


@pytest.mark.timeout(240)
def test_a_job_interrupted_at_its_time_limit_tells_where_it_was(plant):
    plant.start_relay()
    plant.start_workers(processes=1, queues=("audit",), lease_s=30)

    verdict, error_type, traceback = first_attempt(plant, "loop")

    assert (verdict, error_type) == ("timed_out", "TimeLimitExceeded")
    assert re.search(r"misbehaving_jobs\.py\", line \d+, in pill\n", traceback)
    assert traceback.endswith("TimeLimitExceeded: stopped after 1 seconds\n")


@pytest.mark.timeout(240)
def test_a_job_that_holds_the_lock_past_its_lease_tells_where_it_was(plant):
    plant.start_relay()
    plant.start_workers(processes=1, threads=2, queues=("audit",), lease_s=patience(4))
    neighbours = publish_jobs(make_tenant(), [Pill(how="", n=n) for n in range(1, 4)])

    verdict, error_type, traceback = first_attempt(plant, "hang", LongPill)

    assert (verdict, error_type) == ("crashed", "WorkerCrashed")
    [(error, number)] = rows(
        """SELECT DISTINCT "error", "signal" FROM "JobAttempt"
           WHERE "errorType" = 'WorkerCrashed'"""
    )
    assert re.match(
        r"The worker process gave no sign of life for [\d.]+ s, so it was stopped", error
    )
    assert number == "SIGKILL"
    own, *others = re.split(r"\n\n\d+ other threads?:\n", traceback)
    assert BODY.search(own)[1] == str(line_of("re.match("))
    assert any("process/main.py" in other for other in others)
    plant.until(lambda: {job(one)["state"] for one in neighbours} == {"COMPLETED"})


@pytest.mark.timeout(240)
def test_an_older_job_of_a_long_id_that_crashes_its_worker_is_buried_with_its_stacks(plant):
    [job_id] = publish_jobs(make_tenant(), [Pill(how="leave")])
    long_id = "older-" + "ğ" * 60
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "Job" SET "id" = %s WHERE "id" = %s', [long_id, job_id])
        conn.execute('UPDATE "JobOutbox" SET "jobId" = %s WHERE "jobId" = %s', [long_id, job_id])
    plant.start_relay()
    plant.start_workers(processes=1, queues=("audit",), lease_s=30)

    plant.until(lambda: job(long_id)["state"] == "DEAD")

    assert job(long_id)["crashes"] == 3
    assert rows('SELECT "reason" FROM "DeadLetter"') == [("poison",)]
    for (traceback,) in rows('SELECT "traceback" FROM "JobAttempt"'):
        assert BODY.search(traceback)[1] == str(line_of("os._exit("))


@pytest.mark.timeout(240)
def test_a_silent_process_whose_job_is_over_its_limit_tells_that(plant):
    plant.start_relay()
    plant.start_workers(processes=1, threads=2, queues=("audit",), lease_s=patience(4))

    verdict, error_type, traceback = first_attempt(plant, "hang")

    assert (verdict, error_type) == ("timed_out", "TimeLimitExceeded")
    assert BODY.search(traceback)[1] == str(line_of("re.match("))


def test_stacks_that_come_after_the_lease_has_lapsed_are_kept_with_the_attempt(pool):
    [job_id] = publish_jobs(make_tenant(), [Pill(how="")])
    for stacks in ("earlier", None):
        claim(job_id)
        with db.transaction(None, role=Role.RELAY) as conn:
            held = dispatches.select_held(conn, "worker-1")
            ended = Exit(stacks={job_id: stacks} if stacks else {})
            told = {"error_type": "LeaseLapsed", "error": "x", "ended": ended}
            lapsed_leases.take_back(conn, held, crashed=[job_id], **told)

    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.add_stacks(conn, "another", {job_id: "of another process"})
        attempts.add_stacks(conn, "worker-1", {job_id: "later"})

    kept = rows('SELECT "traceback" FROM "JobAttempt" ORDER BY "fence"')
    assert kept == [("earlier",), ("later",)]


@pytest.mark.timeout(240)
def test_a_process_that_is_killed_from_outside_has_none(plant):
    plant.start_relay()
    plant.start_workers(processes=1, queues=("audit",), lease_s=30)

    assert first_attempt(plant, "crash") == ("crashed", "WorkerCrashed", None)
