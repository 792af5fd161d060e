"""What the benchmarks share: a world of servers, CPU seconds of process trees, and a verdict.

The machine is shared, so what counts is CPU seconds and ratios to a floor of the same run; wall
times are printed beside them. A tree's seconds include the children that have ended, so Postgres
backends that come and go are counted by their postmaster.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import psycopg
import redis

from producers.operations import migration
from shared import db
from shared.db import Role
from shared.observability import telemetry
from shared.servers import embedded
from shared.settings import Settings, read

ROOT = Path(__file__).parents[2]
DEADLINE_S = 600.0
WORKERS = """SELECT count(*) FROM "WorkerProcess" WHERE "role" = 'worker'"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One measured number; with a bar it is judged, and `gates` says whether missing it fails."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    target: float | None = None
    at_most: bool = False
    gates: bool = False

    @property
    def reached(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


@dataclass
class World:
    """Servers of a benchmark's own, and the roles it has started."""

    home: Path
    config: Settings
    database_url: str
    redis_url: str
    environment: dict[str, str]
    trees: dict[str, list[int]] = field(default_factory=dict)

    def start(self, kind: str, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a Python module as a role whose CPU is counted as `kind`."""
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environment | environment,
            stdout=subprocess.PIPE if kind == "stub" else None,
            text=True,
        )
        self.trees.setdefault(kind, []).append(process.pid)
        return process

    def stop(self, kind: str, process: subprocess.Popen[str]) -> None:
        """End a role; its seconds leave the count with it."""
        self.trees[kind].remove(process.pid)
        process.terminate()
        process.wait(60)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of every kind of process so far."""
        return {kind: sum(map(tree_cpu_s, pids)) for kind, pids in self.trees.items()}

    def sql(self, statement: str, *parameters: object) -> list[tuple]:
        """Ask Postgres as the relay's role, which sees the ledger of all tenants."""
        with db.transaction(None, role=Role.RELAY) as conn:
            cursor = conn.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def world(*, tenants: int = 1, **environment: str) -> Iterator[World]:
    """Have migrated, durable servers in a temporary folder, with tenants t0, t1, ...

    Args:
        tenants: How many.
        environment: Variables for every role, on top of this process's own without ours.
    """
    home = Path(tempfile.mkdtemp(prefix="ailydian-bench-"))
    ours = {"AILYDIAN_HOME": str(home), "AILYDIAN_LOG_LEVEL": "warning"} | environment
    telemetry.configure("warning")
    try:
        with embedded.use(read(ours)) as servers:
            migration.migrate(servers.database_url)
            db.open_pool(servers.database_url, size=4)
            made = World(
                home,
                read(ours),
                servers.database_url,
                servers.redis_url,
                clean_environment() | ours,
            )
            made.trees["postgres"] = [pid_in(home / "postgres" / "postmaster.pid")]
            made.trees["redis"] = [pid_in(home / "valkey" / "pid")]
            _create_tenants(tenants)
            try:
                yield made
            finally:
                _end_roles(made)
                db.close_pool()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def clean_environment() -> dict[str, str]:
    """This process's environment without anything of ours: nobody's servers, nobody's keys."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL"}
        and not name.startswith(("AILYDIAN_", "OPENAI_"))
    }


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process, what lives below it, and what ended below it."""
    try:
        processes = [psutil.Process(pid)]
        processes += processes[0].children(recursive=True)
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_own_cpu_s(process.pid) for process in processes)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds that passed between two answers of `World.cpu_s`."""
    return {kind: after[kind] - before.get(kind, 0.0) for kind in after}


def until(true: Callable[[], bool], what: str, *, every_s: float = 0.05) -> None:
    """Wait for a fact, at most `DEADLINE_S`."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"gave up waiting: {what}")
        time.sleep(every_s)


def commands(client: redis.Redis) -> dict[str, int]:
    """How often each Redis command was called so far, this one excepted."""
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser that every benchmark begins with."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def report(title: str, figures: list[Figure], *, as_json: bool) -> None:
    """Print the figures; exit 1 when a bar that gates was missed."""
    if as_json:
        rows = [asdict(figure) | {"reached": figure.reached} for figure in figures]
        print(json.dumps({"benchmark": title, "figures": rows}))
    else:
        print(f"\n{title}   (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
        width = max(len(figure.name) for figure in figures)
        for one in figures:
            print(f"  {one.name:<{width}}  {_number(one.value):>10} {one.unit:<14}{_verdict(one)}")
    if any(figure.gates and figure.reached is False for figure in figures):
        sys.exit(1)


def _verdict(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    sign = "<=" if figure.at_most else ">="
    target = "" if figure.target is None else f" (target {_number(figure.target)})"
    told = "reached" if figure.reached else "MISSED" if figure.gates else "missed"
    return f"{sign} {_number(figure.bar)}{target}: {told}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _own_cpu_s(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # The name may hold blanks and brackets; utime, stime, cutime, cstime are fields 14 to 17.
    return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / _TICKS


def pid_in(path: Path) -> int:
    """The process id that a server has written into its file."""
    return int(path.read_text().split()[0])


def _create_tenants(count: int) -> None:
    with db.transaction(None, role=Role.OWNER) as conn, conn.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO "Tenant" ("id", "name", "slug") VALUES (%s, %s, %s)',
            [(f"t{number}", f"Tenant {number}", f"t{number}") for number in range(count)],
        )


def _end_roles(made: World) -> None:
    for kind, pids in made.trees.items():
        for pid in pids if kind not in {"postgres", "redis"} else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                process.terminate()
                process.wait(60)


def owner_sql(database_url: str, statement: str) -> None:
    """Run maintenance such as VACUUM, which no transaction of ours may hold."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(statement.encode())
