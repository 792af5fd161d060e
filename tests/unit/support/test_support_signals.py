"""Processes that tests start hear the signals that end them, also under `nohup`."""

import subprocess
import sys

from tests.support.source_code import ROOT

CHILD = "import signal; print(*(signal.getsignal(n).name for n in (1, 15)))"
PARENT = f"""
import os, signal, subprocess, sys
from tests.support.signals import let_children_hear

for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
let_children_hear()
os.kill(os.getpid(), signal.SIGHUP)
subprocess.run([sys.executable, "-c", {CHILD!r}], check=True)
"""


def test_children_of_a_process_that_ignores_signals_have_them_by_default():
    ran = subprocess.run(
        [sys.executable, "-c", PARENT], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "SIG_DFL SIG_DFL\n"
