"""The `ailydian` command of an installation: makes sure that what it imports is ours.

Our packages are called `shared`, `producers` and `workers`, and another project's may be too. This
one, whose name nobody else has, is imported first, by the console script. It lies in a folder that
is not a package, because the wheel installs it at the top level, beside the three.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("shared", "producers", "workers")
# The folder that holds the packages: site-packages, or a checkout.
ROOT = next(
    above for above in Path(__file__).resolve().parents if (above / "producers" / "cli").is_dir()
)


def main() -> None:
    """Run the command line, or report the package that shadows ours."""
    for name in PACKAGES:
        found = _place(name)
        if found != ROOT / name:
            _refuse(name, found)
    from producers.cli import main as command  # noqa: PLC0415 - not before it is known to be ours

    command(prog_name="ailydian")


def _place(name: str) -> Path | None:
    """Find where Python would import a package from, without running it."""
    spec = find_spec(name)
    if spec is None:
        return None
    found = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return None if found is None else Path(found).resolve()


def _refuse(name: str, found: Path | None) -> None:
    """Exit 1 with an error message; with --json, stdout gets one document."""
    if found is None:
        sentence = f"The package {name!r} of ailydian-workers is missing: reinstall it."
    else:
        sentence = (
            f"Another package named {name!r} shadows ours on Python's path: remove "
            f"{found.parent} from PYTHONPATH, or run ailydian in its own virtual environment."
        )
    if "--json" in sys.argv:
        print(json.dumps({"error": {"code": "foreign_package", "message": sentence}}))
    sys.exit(f"Error: {sentence}")
