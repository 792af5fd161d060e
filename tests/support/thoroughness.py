"""How many examples a run draws: few for `make unit`, many for `make test`, more at night.

The profile is hypothesis' own: `pytest --hypothesis-profile=quick` (or `nightly`). Counts that a
test names itself go through `examples` and `size`, so that one option turns all of them.
"""

from hypothesis import settings

FULL, QUICK, NIGHTLY = "full", "quick", "nightly"
EXAMPLES = 100  # of a property that names no count of its own
EXAMPLES_QUICK, EXAMPLES_NIGHTLY = 12, 10_000


def register() -> None:
    """Make the profiles known. None has a deadline for one example: a busy machine passes any."""
    settings.register_profile(FULL, max_examples=EXAMPLES, deadline=None)
    settings.register_profile(QUICK, max_examples=EXAMPLES_QUICK, deadline=None)
    settings.register_profile(NIGHTLY, max_examples=EXAMPLES_NIGHTLY, deadline=None)
    settings.load_profile(FULL)


def examples(full: int) -> int:
    """What a property of `full` examples draws in this run."""
    return max(5, full * settings().max_examples // EXAMPLES)


def size(full: int) -> int:
    """How long a hostile input is in this run: a tenth where the run is to be quick."""
    return full // 10 if settings.get_current_profile_name() == QUICK else full
