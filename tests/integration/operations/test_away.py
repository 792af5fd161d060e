"""A Postgres that is not there: one sentence for a person, and a worker that waits and lives."""

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import factories, processes
from tests.support.patience import patience

ROOT = Path(__file__).parents[3]


@pytest.fixture
def silent_port():
    """A port whose connections are taken, and never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


def environment(database_url, redis_url, home):
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "AILYDIAN_SIGNING_KEY": factories.KEY.decode(),
        "AILYDIAN_HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
    }


def test_a_command_says_in_one_sentence_where_postgres_is_not(redis_url, tmp_path):
    url = "postgresql://someone:secret@127.0.0.1:1/ailydian"

    done = subprocess.run(
        [sys.executable, "-P", "-m", "producers.cli", "status"],
        check=False,
        env=environment(url, redis_url, tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )

    [line] = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("Error: Postgres is not responding: ")
    assert "127.0.0.1" in line
    assert "port 1" in line
    assert "secret" not in line


def test_a_worker_shows_that_it_lives_while_postgres_hangs(redis_url, tmp_path, silent_port):
    url = f"postgresql://someone@127.0.0.1:{silent_port}/ailydian"
    ours, theirs = os.pipe()

    worker = subprocess.Popen(
        [*(sys.executable, "-P", "-m", "workers.process.main"), "--pulse-fd", str(theirs)],
        env=environment(url, redis_url, tmp_path),
        cwd=ROOT,
        pass_fds=(theirs,),
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    pulses, longest_s = 0, 0.0
    assert select.select([ours], [], [], patience(60))[0]
    while pulses < 100:
        began = time.monotonic()
        if select.select([ours], [], [], patience(10))[0]:
            pulses += len(os.read(ours, 4_096))
        longest_s = max(longest_s, time.monotonic() - began)
    processes.end(worker.pid, seconds=60)
    worker.wait()
    os.close(ours)

    assert longest_s < patience(2)
