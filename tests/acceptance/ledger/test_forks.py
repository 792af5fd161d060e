"""A job that forks: only its worker comes back from it, and no other process stays."""

import contextlib
import os
import signal
import subprocess
import sys

import psutil
import pytest

from shared import forks
from tests.acceptance.conftest import ROOT, all_ended, states
from tests.support.factories import make_tenant, publish_jobs, rows
from tests.support.misbehaving_jobs import Forking
from tests.support.patience import patience

CODES = {
    "raise": forks.EXIT_CODE,
    "exit": forks.EXIT_CODE,
    "return": forks.EXIT_CODE,
    "unwind": 1,
    "pool": 42,
}
LEAVES_A_CHILD = """
import os, signal
from shared.servers import embedded
from shared.settings import settings

with embedded.use(settings()):
    child = os.fork()
    if not child:
        signal.pause()
    print(child, flush=True)
"""


def namesakes(command):
    """The processes of a command: a child that was forked has its parent's."""
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if one.cmdline() == command and one.status() != psutil.STATUS_ZOMBIE:
                yield one.pid


@pytest.mark.timeout(240)
def test_a_job_that_forks_is_settled_once_by_its_worker_alone(plant, pool):
    plant.start_relay()
    plant.start_workers(processes=1, queues=("audit",), lease_s=30)
    [worker] = plant.workers()
    command = worker.cmdline()

    jobs = dict(
        zip(publish_jobs(make_tenant(), [Forking(how=how) for how in CODES]), CODES, strict=True)
    )
    plant.until(all_ended)

    assert states() == {"COMPLETED": len(CODES)}
    written = rows('SELECT "jobId", "n" FROM "ProbeEntry"')
    assert sorted((jobs[job_id], n) for job_id, n in written) == sorted(CODES.items())
    assert rows('SELECT "verdict" FROM "JobAttempt" WHERE "verdict" <> %s', "completed") == []
    assert rows('SELECT "attempt", "crashes" FROM "Job"') == [(1, 0)] * len(CODES)
    assert list(namesakes(command)) == [worker.pid]
    plant.stop_workers()
    assert list(namesakes(command)) == []


@pytest.mark.timeout(120)
def test_a_child_that_stays_does_not_keep_the_embedded_servers(tmp_path):
    home = tmp_path / "home"
    environment = {
        "AILYDIAN_HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "out").open("w+") as output:
        subprocess.run(
            [sys.executable, "-c", LEAVES_A_CHILD],
            env=environment,
            stdout=output,
            check=True,
            timeout=patience(60),
        )
        output.seek(0)
        child = int(output.read())
    try:
        assert psutil.pid_exists(child)
        assert not (home / "postgres" / "postmaster.pid").exists()
    finally:
        os.kill(child, signal.SIGKILL)
