"""How the machines are run: what failed is printed with the blob that repeats it."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.support import thoroughness

EXAMPLES, STEPS = 60, 40


def run(machine: type[RuleBasedStateMachine], examples: int = EXAMPLES) -> None:
    """Run a machine: `examples` times, a hundredth of what the profile `nightly` does."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=thoroughness.examples(examples),
            stateful_step_count=STEPS,
            database=None,
            derandomize=False,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
