"""Workflows survive dying workers and servers; `ailydian bench workflow-survive` is larger."""

import random

import pytest

from tests.benchmarks import workflow_survive
from tests.support.patience import patience

RUNS, STEPS = 120, workflow_survive.STEPS


@pytest.mark.timeout(300)
def test_runs_come_out_right_while_workers_and_postgres_die():
    rng = random.Random(11)

    found = workflow_survive.survived(rng, runs=RUNS, kills=6, crashes=2, lease_s=patience(3))

    assert (found.kills, found.crashes) == (6, 2)
    assert found.open_at_last > 0, "the faults met no work"
    assert (found.runs, found.wrong) == (RUNS, 0)
    assert (found.effects, found.doubled, found.without) == (RUNS * STEPS, 0, 0)
