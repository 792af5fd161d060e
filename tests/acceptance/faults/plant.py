"""A plant to break: servers of its own, relays and workers in processes, a proxy on every wire.

The test itself publishes and looks past the proxies. Whoever dies of a role is started again, as
an init system does it; a worker's supervisor does that by itself.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from producers.documents import submission
from producers.operations import migration
from shared import db
from shared.contracts import Contract, ProbeBatch
from shared.errors import ServerUnavailable
from shared.ids import JobId, TenantId
from shared.ledger import wakeups
from shared.ledger.outbox import publish_many
from shared.servers import embedded, embedded_postgres, embedded_valkey
from shared.settings import Settings
from tests.acceptance.faults import clock
from tests.acceptance.faults.jobs import Endless, Hungry, Task
from tests.acceptance.faults.proxy import Proxy
from tests.support import patience, processes

ROOT = Path(__file__).parents[3]
TENANTS = (TenantId("north"), TenantId("south"))
KEY = "fault-signing-key-0123456789abcdef"
QUEUES = ("maintenance", "audit", "ingest", "embedding")
POLL_S = 0.05
LINKS = ("workers-postgres", "workers-redis", "relays-postgres", "relays-redis")
REGISTERED = """SELECT "id", "pid" FROM "WorkerProcess" WHERE "role" = 'worker'"""
_away = (ServerUnavailable, psycopg.OperationalError)


@dataclass
class Role:
    """A process of the plant that is started again when it has died."""

    kind: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes]


class Plant:
    """Everything that can break, and what it was given to do.

    Attributes:
        accepted: The jobs that were accepted, and how many effects each has when COMPLETED.
        acts: How many acts operators have done: each leaves its rows in the audit log.
        scale: By how much leases, grace and outages are shorter than in production.
    """

    def __init__(self, home: Path, *, scale: float = 10.0, durable: bool = False) -> None:
        self.home, self.scale, self.durable = home, scale, durable
        self.switches = home / "switches"
        self.logs = home / "logs"
        self.accepted: dict[JobId, int] = {}
        self.acts = 0
        self.restarts = 0
        self.links: dict[str, Proxy] = {}
        self._roles: list[Role] = []
        self._numbers = 0
        self._lock = threading.Lock()

    @property
    def database_url(self) -> str:
        """Postgres, past the proxies."""
        socket = self._postgres_socket().parent
        return f"postgresql://postgres@/{embedded_postgres.DATABASE}?host={socket}"

    @property
    def redis_url(self) -> str:
        """Redis, past the proxies."""
        return f"unix://{self.home / 'valkey' / 'socket'}"

    def seconds(self, of_production: float) -> float:
        """A time of production in this plant's time, in seconds."""
        return of_production / self.scale

    # ---- what it consists of

    def set_up(self) -> None:
        """Make wires, schema and tenants. The servers run."""
        self.switches.mkdir()
        self.logs.mkdir()
        for folder in (self.home, self.switches, self.logs):
            folder.chmod(0o755)
        for name in LINKS:
            postgres = name.endswith("postgres")
            server = self._postgres_socket() if postgres else self.home / "valkey" / "socket"
            self.links[name] = Proxy(str(server))
        migration.migrate(self.database_url)
        self.open_pool()
        with db.transaction(None, role=db.Role.OWNER) as conn:
            for tenant in TENANTS:
                conn.execute(
                    """INSERT INTO "Tenant" ("id", "name", "slug") VALUES (%s, %s, %s)""",
                    [tenant, tenant, tenant],
                )

    def open_pool(self) -> None:
        """Have this process's pool on this plant's Postgres."""
        db.open_pool(self.database_url, size=6)

    def start(self, kind: str, *arguments: str, **settings: str) -> Role:
        """Start a role: `relay`, `supervisor` or `worker`."""
        self.logs.mkdir(exist_ok=True)
        with (self.logs / f"{kind}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.faults.role", kind, *arguments],
                cwd=ROOT,
                env=self._environment(kind) | settings,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        role = Role(kind, arguments, process)
        self._roles.append(role)
        return role

    def start_workers(self, *, processes: int = 2, threads: int = 4) -> Role:
        """Start a supervisor with its workers, and wait until all of them work."""
        queues = [word for queue in QUEUES for word in ("--queue", queue)]
        counts = ["--processes", str(processes), "--threads", str(threads)]
        before = set(self.registered())
        role = self.start("supervisor", *counts, *queues)
        self.until(lambda: len(set(self.registered()) - before) >= processes)
        return role

    def roles(self, kind: str) -> list[Role]:
        """The roles of a kind that are meant to live."""
        return [role for role in self._roles if role.kind == kind]

    def everyone(self) -> list[Role]:
        """All roles that are meant to live."""
        return list(self._roles)

    def stop(self, role: Role, *, patience_s: float = 60.0) -> int:
        """End a role as a deployment does. Returns its exit code."""
        self._roles.remove(role)
        role.process.terminate()
        return role.process.wait(patience.patience(patience_s))

    def mend(self) -> None:
        """Start the roles again that have died."""
        for role in list(self._roles):
            if role.process.poll() is not None:
                self._roles.remove(role)
                self.restarts += 1
                self.start(role.kind, *role.arguments)

    def workers(self) -> list[psutil.Process]:
        """The worker processes that live now."""
        found = []
        for role in self._roles:
            with contextlib.suppress(psutil.NoSuchProcess):
                if role.kind == "supervisor":
                    found += psutil.Process(role.process.pid).children()
                elif role.kind == "worker":
                    found.append(psutil.Process(role.process.pid))
        return [one for one in found if _lives(one)]

    def registered(self) -> dict[str, int]:
        """The worker processes that Postgres knows: their ids and process ids."""
        return dict(self.rows(REGISTERED))

    def close(self) -> None:
        """End every role, kindly at first, and the wires."""
        for link in self.links.values():
            link.heal()
        for role in self._roles:
            role.process.terminate()
        for role in self._roles:
            processes.end(role.process.pid)
            role.process.wait()
        self._roles.clear()
        db.close_pool()
        for link in self.links.values():
            link.close()

    # ---- what it is given to do

    def publish(self, tenant: TenantId, jobs: Sequence[Contract], **options: Any) -> list[JobId]:
        """Have jobs accepted, however often that must be tried. Returns their ids."""
        while True:
            try:
                with db.transaction(tenant) as conn:
                    ids = [one.id for one in publish_many(conn, jobs, **options)]
                break
            except _away:
                time.sleep(POLL_S)
        with self._lock:
            for job_id, job in zip(ids, jobs, strict=True):
                self.accepted[job_id] = effects_of(job)
        return ids

    def give(self, count: int, *, how: str = "write", seconds: float = 0.0) -> list[JobId]:
        """Publish tasks, the tenants in turn. Returns their ids."""
        ids = []
        for position, tenant in enumerate(TENANTS):
            share = len(range(position, count, len(TENANTS)))
            jobs = self.tasks(tenant, share, how=how, seconds=seconds)
            ids += self.publish(tenant, jobs) if jobs else []
        return ids

    def tasks(
        self, tenant: TenantId, count: int, *, how: str = "write", seconds: float = 0.0
    ) -> list[Contract]:
        """Make tasks that no others equal."""
        fields = {"how": how, "seconds": seconds, "canary": f"canary-{tenant}"}
        return [Task.model_validate(fields | {"n": n}) for n in self.numbers(count)]

    def submit(self, text: str) -> None:
        """Submit a document of each tenant."""
        for tenant in TENANTS:
            while True:
                try:
                    with db.transaction(tenant) as conn:
                        submitted = submission.submit_document(conn, f"canary-{tenant} {text}")
                    break
                except _away:
                    time.sleep(POLL_S)
            if submitted.job_id is not None:
                with self._lock:
                    self.accepted[submitted.job_id] = 0

    def load(self, count: int) -> list[JobId]:
        """Publish a mixture of every way to end, some of it long. Returns the jobs' ids."""
        ids = self.give(count * 5 // 10, seconds=0.02) + self.give(count // 10, seconds=0.2)
        ids += self.give(count // 10, how="plain") + self.give(max(count // 20, 1), how="refuse")
        ids += self.give(max(count // 20, 1), how="follow")
        batch = [ProbeBatch(n=n) for n in self.numbers(count // 5)]
        return ids + self.publish(TENANTS[0], batch)

    def numbers(self, count: int) -> range:
        """Numbers no job has had yet: equal fields would be a duplicate."""
        with self._lock:
            self._numbers += count
            return range(self._numbers - count, self._numbers)

    # ---- looking

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Rows as the owner sees them: all tenants'. Waits while Postgres is away."""
        while True:
            try:
                with db.transaction(None, role=db.Role.OWNER) as conn:
                    return conn.execute(query.encode(), values or None).fetchall()
            except _away:
                time.sleep(POLL_S)

    def states(self) -> dict[str, int]:
        """How many jobs are in which state."""
        return dict(self.rows('SELECT "state", count(*) FROM "Job" GROUP BY 1'))

    def is_calm(self) -> bool:
        """Whether every job has ended."""
        return not self.states().keys() & {"PENDING", "RUNNING"}

    def done(self) -> int:
        """How many jobs are completed."""
        return self.states().get("COMPLETED", 0)

    def until(self, true: Callable[[], object], *, patience_s: float = 60.0) -> float:
        """Wait for something that must come to be. Returns how long it took, in seconds."""
        return patience.until(true, patience_s, tell=self.states, meanwhile=self.mend)

    def pause(self, seconds: float) -> None:
        """Let a fault last, while the roles that die of it are started again."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.mend()
            time.sleep(min(POLL_S, max(end - time.monotonic(), 0.0)))

    def redis(self) -> redis.Redis:
        """A client of this plant's Redis, past the proxies."""
        return wakeups.connect(self.redis_url)

    def postmaster(self) -> int:
        """The process id of Postgres."""
        return int((self.home / "postgres" / "postmaster.pid").read_text().split()[0])

    def start_servers(self) -> None:
        """Start the servers that do not run."""
        embedded_postgres.start(self.home, durable=self.durable)
        embedded_valkey.start(self.home)

    def _postgres_socket(self) -> Path:
        return self.home / "postgres" / ".s.PGSQL.5432"

    def _environment(self, kind: str) -> dict[str, str]:
        side = "relays" if kind == "relay" else "workers"
        postgres, valkey = self.links[f"{side}-postgres"], self.links[f"{side}-redis"]
        return {
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{postgres.port}/"
            f"{embedded_postgres.DATABASE}?sslmode=disable&gssencmode=disable",
            "REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0",
            "AILYDIAN_SIGNING_KEY": KEY,
            "AILYDIAN_PLUGINS": "tests.acceptance.faults.jobs",
            "AILYDIAN_LOG_LEVEL": "info",
            "AILYDIAN_LEASE_S": str(self.seconds(30)),
            "AILYDIAN_GRACE_S": str(self.seconds(30)),
            "AILYDIAN_SWEEP_S": str(max(self.seconds(1), 0.2)),
            "AILYDIAN_REDELIVERY_S": str(self.seconds(5)),
            clock.DIRECTORY: str(self.switches),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        }


def effects_of(job: Contract) -> int:
    """How many rows a job leaves when it is completed."""
    if isinstance(job, Task):
        return int(job.how not in {"plain", "refuse", "crash"})
    return int(not isinstance(job, Hungry | Endless))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def built(*, scale: float = 10.0, durable: bool = False) -> Iterator[Plant]:
    """A plant with running servers, set up; no role runs yet."""
    home = Path(tempfile.mkdtemp(prefix="ailydian-faults-"))
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # it tells of every fault
    try:
        with embedded.use(Settings(home=home), durable=durable):
            # Leases and outages are short, but not shorter than a busy machine can keep.
            shorter = max(scale / patience.slowness(), 1.0)
            plant = Plant(home.resolve(), scale=shorter, durable=durable)
            try:
                plant.set_up()
                yield plant
            finally:
                plant.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
