"""A chosen part of the tests on the oldest Postgres that is promised; `make test-matrix`: all."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import patience

ROOT = Path(__file__).parents[3]
# The schema and its migration, the job plane with its plans, a run of each kind of step, search.
CHOSEN = (
    "tests/integration/operations/test_ids.py",
    "tests/integration/operations/test_jit.py",
    "tests/integration/documents/test_document_versions.py",
    "tests/integration/operations/test_schema.py",
    "tests/integration/operations/versions/test_upgrades.py::"
    "test_an_upgraded_database_and_a_new_one_are_the_same",
    "tests/integration/ledger/test_ledger.py",
    "tests/integration/ledger/test_limits.py",
    "tests/integration/workflow/test_step_kinds.py",
    "tests/integration/documents/test_search.py",
)


@pytest.mark.timeout(240)
def test_the_chosen_tests_pass_on_the_oldest_postgres():
    command = [sys.executable, "-m", "pytest", "-q", "--postgres", "16", "-p", "no:cacheprovider"]

    done = subprocess.run(
        [*command, *CHOSEN],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience(200),
    )

    assert done.returncode == 0, done.stdout[-4_000:]
    assert " passed" in done.stdout.splitlines()[-1]
