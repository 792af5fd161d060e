"""DBOS as a side: an environment of its own, a database of its own on our server.

It is given twice: as it comes, where every commit waits for the disk, and with
`synchronous_commit = off` on its database, as our engine has it for what it would do again.
"""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks import harness
from tests.benchmarks.harness import World

REQUIREMENT = "dbos==3.4.0"
SCRIPT = Path(__file__).with_name("workflow_dbos.py")
PYTHON = "AILYDIAN_BENCH_DBOS"  # an interpreter that has it already
WARM_UP_RUNS = 16
HAND_OVER = """UPDATE dbos.workflow_status SET queue_name = 'drain' WHERE queue_name = 'held'
               RETURNING extract(epoch FROM clock_timestamp())::float8"""
ENDED = """SELECT count(*), coalesce(max(completed_at), 0) / 1e3 FROM dbos.workflow_status
           WHERE status = 'SUCCESS' AND workflow_uuid LIKE %s"""


def interpreter() -> Path:
    """A Python that has DBOS: the one that is named, or one made once in the user's cache."""
    if named := os.environ.get(PYTHON):
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "ailydian" / "bench" / REQUIREMENT.replace("==", "-")
    done = folder / "installed"
    if not done.exists():
        print(f"installing {REQUIREMENT} into {folder} ...", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", REQUIREMENT], check=True)
        done.touch()
    return folder / "bin" / "python"


class Script:
    """One process of the peer, which does what it is told."""

    def __init__(self, here: World, role: str, url: str, name: str) -> None:
        self._process = subprocess.Popen(
            [interpreter(), SCRIPT, role, url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=harness.clean_environment(),
        )
        self._pids = here.trees.setdefault(f"dbos {role}", [])
        self._pids.append(self._process.pid)

    def answer(self) -> dict[str, Any]:
        """The next line it says."""
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the peer has ended"
        return json.loads(line)

    def ask(self, do: str, **task: object) -> dict[str, Any]:
        """Have something done, and wait for it."""
        assert self._process.stdin is not None
        print(json.dumps({"do": do, **task}), file=self._process.stdin, flush=True)
        return self.answer()

    def end(self) -> None:
        """Let it leave in order; its seconds leave the count with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._pids.remove(self._process.pid)


class Dbos:
    """The peer, with commits that wait for the disk or not."""

    def __init__(self, here: World, *, waits: bool) -> None:
        self.title = "DBOS" if waits else "DBOS, async commit"
        self.database = "dbos_waits" if waits else "dbos_async"
        self._here = here
        self._url = here.database_url.replace("/ailydian?", f"/{self.database}?")
        self._fills = 0
        harness.owner_sql(here.database_url, f"CREATE DATABASE {self.database}")
        if not waits:
            harness.owner_sql(
                here.database_url, f"ALTER DATABASE {self.database} SET synchronous_commit = off"
            )

    @contextmanager
    def at_work(self, *, processes: int) -> Iterator[None]:
        """A driver that submits and runs in-process, and workers with slots for the queue."""
        self._driver = Script(self._here, "driver", self._url, "driver")
        self._driver.answer()
        workers = [Script(self._here, "worker", self._url, f"w{n}") for n in range(processes)]
        for one in workers:
            one.answer()
        self._driver.ask("linear", runs=WARM_UP_RUNS, steps=10)
        if workers:
            self.fill(WARM_UP_RUNS, 10)
            self.hand_over()
            harness.until(lambda: self.ended()[0] >= WARM_UP_RUNS, "the peer's warm-up")
        yield
        for one in [self._driver, *workers]:
            one.end()

    def linear(self, runs: int, steps: int) -> list[float]:
        """In the driver's own process, by no queue: the fastest that it has."""
        return self._driver.ask("linear", runs=runs, steps=steps)["seconds"]

    def fill(self, runs: int, steps: int) -> None:
        """Into a queue that nobody listens to."""
        self._fills += 1
        self._driver.ask("enqueue", runs=runs, steps=steps, name=f"fill{self._fills}")

    def hand_over(self) -> float:
        """Into the queue that the workers poll."""
        with self._connection() as conn:
            return conn.execute(HAND_OVER).fetchall()[-1][0]

    def ended(self) -> tuple[int, float]:
        """Those of the last fill."""
        with self._connection() as conn:
            [row] = conn.execute(ENDED, [f"fill{self._fills}-%"]).fetchall()
        return int(row[0]), float(row[1])

    def fan_out(self, width: int) -> dict[str, float]:
        """As asynchronous steps of one process, and as child workflows over its workers."""
        self._driver.ask("fan", width=100)
        self._driver.ask("children", width=100)
        return {
            "steps in one process": self._driver.ask("fan", width=width)["seconds"],
            "child workflows": self._driver.ask("children", width=width)["seconds"],
        }

    def _connection(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, autocommit=True, application_name="bench")
