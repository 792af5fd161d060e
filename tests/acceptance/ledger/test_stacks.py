"""Where a job was when its process died or was killed: the attempt keeps the threads' stacks."""

import re
from pathlib import Path

import pytest

from tests.support import misbehaving_jobs
from tests.support.factories import job, make_tenant, publish_jobs, rows
from tests.support.misbehaving_jobs import Pill

TOLD = """SELECT "verdict", "errorType", "traceback" FROM "JobAttempt"
          WHERE "jobId" = %s ORDER BY "fence" LIMIT 1"""
BODY = re.compile(r"File \".*misbehaving_jobs\.py\", line (\d+) in pill")


def first_attempt(plant, how):
    """Let a worker do one bad job. Returns how its first attempt ended, and the traceback."""
    [job_id] = publish_jobs(make_tenant(), [Pill(how=how)])
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
def test_a_process_that_is_killed_from_outside_has_none(plant):
    plant.start_relay()
    plant.start_workers(processes=1, queues=("audit",), lease_s=30)

    assert first_attempt(plant, "crash") == ("crashed", "WorkerCrashed", None)
