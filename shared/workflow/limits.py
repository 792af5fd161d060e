"""The limits and defaults of workflows: for checks, the engine, its workers and the test bench.

Where a function of the schema holds a number itself, a test compares the two.
"""

from typing import Final

# Runs.
DEPTH_MAX: Final = 8
TIMEOUT_DEFAULT_S: Final = 7 * 86_400.0
INPUT_BYTES_MAX: Final = 1024 * 1024
KEY_CHARS_MAX: Final = 256
# Signals that wait at a run for a step that takes them.
SIGNALS_KEPT_MAX: Final = 1_000

# Steps.
ATTEMPTS_DEFAULT: Final = 3
BACKOFF_DEFAULT_S: Final = 1.0
BACKOFF_MAX_S: Final = 3_600.0
STEP_TIMEOUT_MAX_S: Final = 24 * 3_600.0
WAIT_MAX_S: Final = 366 * 86_400.0
ITEMS_MAX: Final = 10_000
PARALLEL_DEFAULT: Final = 32
OUTPUT_BYTES_MAX: Final = 16 * 1024 * 1024
INPUT_KEPT_BYTES: Final = 16 * 1024
# About how long a job waits whose provider's quota is spent, where the provider gives no time.
PARK_S: Final = 180.0
