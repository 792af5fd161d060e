"""Search: what an insert costs with search live, recall against exact, query time."""

import importlib.util
import subprocess
import sys

from tests.benchmarks import harness

MODULE = "tests.benchmarks.test_search"


def main() -> None:
    """Run the search engine's own budget, which prints its figures and fails by itself."""
    harness.options(__doc__).parse_args()
    if importlib.util.find_spec(MODULE) is None:
        sys.exit(f"search: {MODULE} is not there yet")
    path = f"{MODULE.replace('.', '/')}.py"
    command = [sys.executable, "-m", "pytest", "-m", "benchmark", "-q", "-s", path]
    sys.exit(subprocess.run(command, check=False, cwd=harness.ROOT).returncode)


if __name__ == "__main__":
    main()
