"""How the machines are run: what failed is printed with the blob that repeats it."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

EXAMPLES, EXAMPLES_NIGHTLY, STEPS = 60, 5_000, 40


def run(machine: type[RuleBasedStateMachine], examples: int = EXAMPLES) -> None:
    """Run a machine: `examples` times, or by the profile `nightly` 5,000 times."""
    nightly = settings.get_current_profile_name() == "nightly"
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES_NIGHTLY if nightly else examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
