"""`ailydian up` doing nothing: how soon it is ready, and what everything together costs idle.

The servers' folders exist and hold the schema; the servers are not running, so starting them is
part of the time until ready.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from producers.operations import migration
from shared.servers import embedded
from shared.settings import read
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure

SETTLE_S = 5.0


def main() -> None:
    """Start, wait for the ready line, let it stand, read the CPU."""
    parser = harness.options(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    chosen = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ailydian-bench-"))
    try:
        figures = measure(home, chosen.seconds)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    harness.report("idle", figures, as_json=chosen.json)


def measure(home: Path, seconds: float) -> list[Figure]:
    """The table's rows."""
    ours = {"AILYDIAN_HOME": str(home), "AILYDIAN_LOG_LEVEL": "warning"}
    with embedded.use(read(ours)) as servers:
        migration.migrate(servers.database_url)
    began = time.monotonic()
    up = subprocess.Popen(
        [sys.executable, "-m", "producers.cli", "up"],
        cwd=harness.ROOT,
        env=harness.clean_environment() | ours,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stdout is not None
        assert json.loads(up.stdout.readline())["ready"] is True
        ready_s = time.monotonic() - began
        pids = {
            "our processes": up.pid,
            "Postgres": harness.pid_in(home / "postgres" / "postmaster.pid"),
            "Valkey": harness.pid_in(home / "valkey" / "pid"),
        }
        time.sleep(SETTLE_S)
        before = {kind: harness.tree_cpu_s(pid) for kind, pid in pids.items()}
        time.sleep(seconds)
        percent = {
            kind: 100 * (harness.tree_cpu_s(pid) - before[kind]) / seconds
            for kind, pid in pids.items()
        }
    finally:
        up.terminate()
        up.wait(60)
    return [
        Figure("ready, servers initialised", ready_s, "s", 5, at_most=True),
        *(Figure(f"CPU of {kind}", value, "% of a core") for kind, value in percent.items()),
        Figure("CPU of all", sum(percent.values()), "% of a core", 5, at_most=True, gates=True),
    ]


if __name__ == "__main__":
    main()
