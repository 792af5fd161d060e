"""What the tests themselves stand on: patience, and that nobody leaves a process behind."""

import subprocess
import sys

import psutil
import pytest

from tests.support import processes
from tests.support.patience import cpu_patience, patience, until


def test_a_deadline_is_never_shorter_than_on_a_quiet_machine():
    assert patience(2.0) >= 2.0
    assert cpu_patience(2.0) >= 2.0


def test_what_does_not_come_to_be_is_told_with_what_is_there():
    with pytest.raises(AssertionError, match="3 jobs wait"):
        until(lambda: False, 0.01, tell=lambda: "3 jobs wait")


def test_a_process_that_is_left_behind_is_named_and_killed():
    forgotten = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    # Other tests' servers and workers may be children of this process as well.
    left = [one for one in processes.children() if one.pid == forgotten.pid]
    with forgotten.stdin, pytest.raises(AssertionError, match=r"input\(\)"):
        processes.none_left(left)

    assert len(left) == 1
    assert not psutil.pid_exists(forgotten.pid)
    forgotten.wait()


def test_a_process_is_found_by_the_home_that_it_names(tmp_path):
    command = [sys.executable, "-c", "input()", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as found:
        until(lambda: [one.pid for one in processes.of_home(tmp_path)] == [found.pid])
        processes.end(found.pid)

        assert list(processes.of_home(tmp_path)) == []
