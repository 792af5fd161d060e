"""What a worker process wrote of its threads, as an attempt keeps it."""

import subprocess
import sys

from shared.ids import JobId
from tests.support.source_code import ROOT
from workers.process import thread_stacks
from workers.process.leases import RunningJob

WRITTEN = """Fatal Python error: Aborted

Thread 0x00007f0000000001 (most recent call first):
  File "/app/acme/jobs.py", line 7 in call
  File "/app/shared/loop.py", line 1 in run

Current thread 0x00007f0000000002 (most recent call first):
  File "/usr/lib/python3.11/queue.py", line 171 in get

Thread 0x00007f0000000003 [worker-3] (most recent call first):
  File "/usr/lib/python3.11/queue.py", line 171 in get

Extension modules: psycopg_binary (total: 1)
"""


def running(job_id, thread):
    return RunningJob(JobId(job_id), 1.0, thread)


def test_the_jobs_own_thread_stands_first_and_equal_ones_once():
    stacks = thread_stacks.by_job(WRITTEN, [running("a", 0x7F0000000001)])

    assert stacks == {
        "a": """Fatal Python error: Aborted
Stacks of all threads, most recent call first.

The job's thread:
  File "/app/acme/jobs.py", line 7 in call
  File "/app/shared/loop.py", line 1 in run

2 other threads:
  File "/usr/lib/python3.11/queue.py", line 171 in get
"""
    }


def test_a_job_whose_thread_was_not_written_still_has_the_others():
    stacks = thread_stacks.by_job(WRITTEN, [running("a", 9), running("b", 0x7F0000000002)])

    assert "The job's thread:\n  not among those written\n" in stacks["a"]
    assert "acme/jobs.py" in stacks["a"]
    assert stacks["b"].count("queue.py") == 2


def test_nothing_written_is_nothing_kept():
    assert thread_stacks.by_job("", [running("a", 1)]) == {}
    assert thread_stacks.by_job("Fatal Python error: Seg", [running("a", 1)]) == {}


def test_stacks_are_bounded_and_the_jobs_own_is_kept():
    frame = '  File "/app/jobs.py", line {} in deep\n'
    written = "".join(
        f"Thread 0x{thread:016x} (most recent call first):\n"
        + "".join(frame.format(thread * 1_000 + line) for line in range(100))
        + "\n"
        for thread in range(1, 100)
    )

    [text] = thread_stacks.by_job(written, [running("a", 50)]).values()

    assert len(text) <= 20_000
    assert "line 50000 in deep" in text
    assert text.endswith("[more threads left out]\n")


def test_a_process_that_leaves_by_os_exit_writes_where_it_was_and_its_forks_do_not(tmp_path):
    code = (
        "import os\n"
        "from workers.process import thread_stacks\n"
        "thread_stacks.write_to(1)\n"
        "def leaves(code):\n"
        "    os._exit(code)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    leaves(4)\n"
        "os.waitpid(child, 0)\n"
        "leaves(3)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 3
    assert ended.stdout.count("in leaves") == 1
