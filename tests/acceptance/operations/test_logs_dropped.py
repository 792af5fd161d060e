"""Roles whose log cannot be written: the reader of the pipe has left, the disk is full."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from shared.contracts import Probe
from shared.observability import log_files
from tests.acceptance.conftest import ALIVE, ROOT, all_ended, states
from tests.support import factories, misbehaving_jobs, processes
from tests.support.factories import make_tenant, publish_jobs, rows
from tests.support.misbehaving_jobs import Closing, Pill
from tests.support.patience import patience, until

END_S = 35.0
WORK = ("work", "--queue", "maintenance", "--queue", "audit", "--processes", "1")


@pytest.fixture(params=["a pipe nobody reads", "a full disk"])
def lost_log(request):
    """A descriptor that takes no line."""
    if request.param == "a full disk":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def start(database_url, redis_url, pool):
    """Start a role with both its outputs on a descriptor."""
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "AILYDIAN_SIGNING_KEY": factories.KEY.decode(),
        "AILYDIAN_PLUGINS": misbehaving_jobs.__name__,
        "AILYDIAN_LOG_LEVEL": "debug",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
    }
    with ExitStack() as stack:

        def started(output, *role):
            command = [sys.executable, "-m", "producers.cli", *role]
            child = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output
            )
            stack.callback(child.wait)
            stack.callback(processes.end, child.pid)
            return child

        yield started


def free_port():
    """A port to tell the server, which cannot announce its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def ended(child):
    """Tell a role to end. Returns its exit code."""
    child.terminate()
    return child.wait(patience(END_S))


@pytest.mark.timeout(240)
def test_roles_work_on_and_end_well_when_no_line_can_be_written(start, lost_log):
    roles = [start(lost_log, *role, "--json") for role in (("relay",), ("scheduler",), WORK)]
    until(lambda: rows(ALIVE))
    tenant = make_tenant()
    publish_jobs(tenant, [Probe(n=1, mode="statement")])
    until(all_ended, tell=states)
    publish_jobs(tenant, [Pill(how="refuse")])  # which is an error, and so a line
    until(lambda: states() == {"COMPLETED": 1, "DEAD": 1}, tell=states)

    assert [child.poll() for child in roles] == [None] * 3
    assert [ended(child) for child in roles] == [0] * 3


@pytest.mark.timeout(120)
@pytest.mark.parametrize("announced", [["--json"], []])
def test_the_web_server_serves_and_ends_when_no_line_can_be_written(start, lost_log, announced):
    port = free_port()
    web = start(lost_log, "web", "--port", str(port), *announced)

    def answers():
        try:
            with urlopen(f"http://127.0.0.1:{port}/health") as answer:
                return answer.status == 200
        except URLError:
            return False

    until(answers)
    assert ended(web) == 0


@pytest.mark.timeout(120)
def test_a_job_that_closes_the_outputs_leaves_the_log_and_the_worker(start, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        roles = [start(log, "relay"), start(log, *WORK)]
    until(lambda: rows(ALIVE))
    tenant = make_tenant()
    publish_jobs(tenant, [Closing()])
    until(all_ended, tell=states)
    publish_jobs(tenant, [Pill(how="refuse")])
    until(lambda: states() == {"COMPLETED": 1, "DEAD": 1}, tell=states)

    assert [ended(child) for child in roles] == [0, 0]
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    named = [event["event"] for event in events]
    assert "job.died" in named
    assert "worker.died" not in named


def test_dropped_lines_are_counted_and_told_by_the_next_that_is_written(tmp_path):
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = log_files.LogFile(os.open(fifo, os.O_WRONLY))
    before = log_files.dropped()
    file.write(b"first\n")
    assert os.read(reader, 4096) == b"first\n"
    os.close(reader)
    for line in (b"second\n", b"third\n", b"two\nlines\n"):
        assert file.write(line) == len(line)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file.write(b"last\n")
    file.write(b"and more\n")

    told, last, more = os.read(reader, 4096).decode().splitlines()
    assert (last, more) == ("last", "and more")
    assert json.loads(told) | {"timestamp": ""} == {
        "timestamp": "",
        "level": "warning",
        "event": "log.dropped",
        "logger": "shared.observability.log_files",
        "lines": 4,
    }
    assert log_files.dropped() - before == 4
    os.close(reader)
    os.close(file.fileno())


def test_a_line_cut_short_does_not_spoil_the_next(tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    file = log_files.LogFile(writer)
    room = 65_536
    file.write(b"x" * (room - 3) + b"\n")
    file.write(b"cut" * 5_000 + b"\n")  # of which the pipe takes nothing, or the first bytes
    file.write(b"lost\n")

    taken = os.read(reader, 2 * room)
    file.write(b"last\n")
    lines = (taken + os.read(reader, 2 * room)).decode().splitlines()
    assert lines[-1] == "last"
    assert json.loads(lines[-2])["lines"] == 2
    os.close(reader)
    os.close(writer)
