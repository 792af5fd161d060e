"""Relay, supervisor and bare worker as processes of the fault tests, with their kill points."""

import importlib
import sys

from shared.settings import settings
from tests.acceptance.faults import clock, killpoints

MODULES = {"supervisor": "workers.process.supervisor", "worker": "workers.process.main"}


def main() -> None:
    """Be the role that the first argument names."""
    name = sys.argv.pop(1)
    if name == "worker":  # it imports its plugins itself
        importlib.import_module(MODULES[name]).main()
    elif name == "supervisor":
        killpoints.install(killpoints.SUPERVISOR)
        importlib.import_module(MODULES[name]).main()
    else:
        clock.install()
        killpoints.install(killpoints.RELAY)
        importlib.import_module("tests.benchmarks.relay_role").main()


if __name__ == "__main__":
    assert settings().signing_key is not None, "the plant sets it"
    main()
