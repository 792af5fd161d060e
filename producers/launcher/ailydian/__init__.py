"""The `ailydian` command of an installation: makes sure that what it imports is ours.

Our packages are called `shared`, `producers` and `workers`, and another project's may be too. This
one, whose name nobody else has, is imported first, by the console script. It lies in a folder that
is no package, for the wheel installs it at the top, beside the three.
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
    """Run the command line, or say which package stands in its way."""
    for name in PACKAGES:
        found = _place(name)
        if found != ROOT / name:
            _refuse(name, found)
    from producers.cli import main as command  # noqa: PLC0415 - not before it is known to be ours

    command(prog_name="ailydian")


def _place(name: str) -> Path | None:
    """Where Python would import a package from; nothing of it runs yet."""
    spec = find_spec(name)
    if spec is None:
        return None
    found = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return None if found is None else Path(found).resolve()


def _refuse(name: str, found: Path | None) -> None:
    """End with 1 and one sentence; with --json stdout gets its one document."""
    if found is None:
        sentence = f"The package {name!r} of ailydian-workers is missing: install it again."
    else:
        sentence = (
            f"Another package named {name!r} stands before ours on Python's path: take "
            f"{found.parent} off PYTHONPATH, or run ailydian in an environment of its own."
        )
    if "--json" in sys.argv:
        print(json.dumps({"error": {"code": "foreign_package", "message": sentence}}))
    sys.exit(f"Error: {sentence}")
