"""The authors' test bench: runs a definition in memory, with fake steps and a fake clock.

    from shared.workflow.trial import Trial, fake

Its `engine_model` is also what the SQL engine is checked against: tests/machines/
test_workflow_machine.py gives both the same events and compares every row. Limits and defaults
are those of `shared.workflow.limits`, decisions those of `shared.workflow.decisions`.

- `harness`: `Trial`, what authors call.
- `player`: plays runs by a clock of its own, as walkers, timers and waits do.
- `flows`: the definitions and runs that are played.
- `fakes`: fake steps.
- `engine_model`: which steps of a run may begin.
"""

from shared.workflow.trial.fakes import FakeMissing, TrialStep, fake
from shared.workflow.trial.harness import Outcome, StepOutcome, Trial, Waiting

__all__ = ["FakeMissing", "Outcome", "StepOutcome", "Trial", "TrialStep", "Waiting", "fake"]
