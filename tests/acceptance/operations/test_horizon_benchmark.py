"""`ailydian bench horizon` in small: beside open transactions jobs are done, and soon told."""

import json
import subprocess
import sys

import pytest

from tests.support.patience import patience


@pytest.mark.timeout(180)
def test_jobs_are_done_and_told_beside_open_transactions():
    options = ("--seconds", "20", "--rate", "100", "--json")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.horizon", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=patience(120),
    )
    told = {one["name"]: one for one in json.loads(ran.stdout.splitlines()[-1])["figures"]}

    for phase in ("writer", "readers", "after"):
        assert told[f"{phase}: told, p99"]["value"] < patience(1.0)
        # At 100 jobs/s a page of 50 more or less is much of a phase.
        assert told[f"{phase}: done of offered"]["value"] > 70
        assert told[f"{phase}: CPU of clean"]["value"] > 0
    assert told["readers: dead rows"]["value"] > told["clean: dead rows"]["value"]
