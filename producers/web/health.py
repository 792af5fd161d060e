"""Health checks of everything that jobs need."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
import redis

from producers.ledger import ingress_streams
from producers.ledger.publishers import DEFAULT, PUBLISHERS_MAX
from producers.operations import parser_sandbox
from producers.queries.ledger import events, publishers, queue_figures
from producers.queries.ledger.queue_figures import ProcessRow
from producers.queries.operations import metric_figures, server_facts
from shared import db, plugins, server_errors
from shared.contracts import CONTRACTS, QUEUES
from shared.db import Connection, Role
from shared.errors import AilydianError, ServerUnavailable
from shared.ledger.wakeups import AWAY
from shared.observability import outages

RELAY_SILENT_S = 15.0
# It updates its row every two seconds, or runs sweeps four times a minute.
SCHEDULER_SILENT_S = 30.0
# Workers send heartbeats every few seconds; after this they are stale, then dropped.
WORKER_STALE_S, WORKER_FORGOTTEN_S = 15.0, 60.0
LATE_S = 60.0
REDIS_FULL_RATIO = 0.95
# A server that has not answered by then does not answer; a page takes twice as long at most.
ANSWER_S = 2.5


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The result of one health check; `detail` describes what was found."""

    name: str
    ok: bool
    detail: str


class Looks:
    """Runs the health checks, each server's in a thread of its own and for a bounded time.

    A look that hangs is joined by the next one, so that a server that does not answer holds two
    threads and no more.
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        """Take Redis, with a short time limit, and the namespace of our keys in it."""
        self._client, self._namespace = client, namespace
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="health")
        self._running: dict[str, Future[list[HealthCheck]]] = {}
        self._lock = threading.Lock()

    def look(self) -> list[HealthCheck]:
        """Run all health checks, in the order of their dependencies.

        Returns:
            The checks postgres, schema, redis, door, relay, scheduler, workers, threads,
            heartbeats and sandbox; without Postgres only postgres and redis, for the others are
            read from it.
        """
        [answers] = self._within("redis", lambda: [_redis(self._client, self._namespace)])
        client = self._client if answers.ok else None
        found = self._within("postgres", lambda: _ledger(client, self._namespace))
        after = next((at for at, one in enumerate(found, 1) if one.name == "schema"), 1)
        return [*found[:after], answers, *found[after:]]

    def close(self) -> None:
        """End the threads; a look that hangs ends with its server's time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _within(self, name: str, check: Callable[[], list[HealthCheck]]) -> list[HealthCheck]:
        with self._lock:
            running = self._running.get(name)
            if running is None or running.done():
                running = self._running[name] = self._threads.submit(check)
        try:
            return running.result(ANSWER_S)
        except TimeoutError:
            return [HealthCheck(name, False, f"no answer within {ANSWER_S:.1f} s")]


def look(client: redis.Redis, namespace: str) -> list[HealthCheck]:
    """Run all health checks once; see `Looks`."""
    looks = Looks(client, namespace)
    try:
        return looks.look()
    finally:
        looks.close()


def _ledger(client: redis.Redis | None, namespace: str) -> list[HealthCheck]:
    """Run the checks that Postgres answers, and with a client those of what Redis holds."""
    for last in (False, True):
        try:
            return _read(client, namespace)
        except (AilydianError, psycopg.Error) as error:
            # A connection from before a restart is replaced: once more, on a new one.
            if last or not isinstance(error, ServerUnavailable):
                return [HealthCheck("postgres", ok=False, detail=db.sentence(error))]
    raise AssertionError("the last try returns")


def _read(client: redis.Redis | None, namespace: str) -> list[HealthCheck]:
    try:
        with db.transaction(None, role=Role.RELAY) as conn:
            checks = [_postgres(conn, client, namespace), _schema(conn)]
            checks += [] if client is None else _door(conn, client, namespace)
            for check in (_relay, _scheduler, _workers, _processes, _sandbox):
                checks += check(conn)
            return checks
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        detail = f"{db.sentence(error)}: run `ailydian migrate`"
        return [
            HealthCheck("postgres", ok=True, detail="answers"),
            HealthCheck("schema", False, detail),
        ]


def _postgres(conn: Connection, client: redis.Redis | None, namespace: str) -> HealthCheck:
    """Reading works: what else is wrong is said by the server, or by processes that write."""
    reported = [] if client is None else outages.reported(client, namespace)
    troubles = {one.code: one.sentence for one in reported}
    if server_facts.is_read_only(conn):
        troubles["read_only"] = server_errors.READABLE["read_only"]
    return HealthCheck("postgres", not troubles, "; ".join(troubles.values()) or "answers")


def _schema(conn: Connection) -> HealthCheck:
    wanted = {
        (one.actor_name, one.queue_name, one.schema_version)
        for one in CONTRACTS.values()
        if one.__module__ == "shared.contracts" or one in plugins.contracts()
    }
    missing = sorted(job for job, *_ in wanted - metric_figures.select_kinds(conn))
    if missing:
        return HealthCheck(
            "schema", False, f"missing contracts: {', '.join(missing)}: run `ailydian migrate`"
        )
    return HealthCheck("schema", ok=True, detail="all contracts are registered")


def _redis(client: redis.Redis, namespace: str) -> HealthCheck:
    try:
        ratio = redis_used_ratio(client)
        outages.probe(client, namespace)
    except AWAY as error:
        trouble = server_errors.trouble_of(error)
        return HealthCheck("redis", ok=False, detail=trouble.sentence if trouble else str(error))
    full = ratio >= REDIS_FULL_RATIO
    return HealthCheck(
        "redis", ok=not full, detail=f"responding; {ratio:.0%} of its memory is used"
    )


def _door(conn: Connection, client: redis.Redis, namespace: str) -> list[HealthCheck]:
    names = [DEFAULT, *publishers.select_names(conn, limit=PUBLISHERS_MAX)]
    try:
        used_up = ingress_streams.used_up(client, namespace, names)
    except AWAY:
        return []  # the check of Redis says so
    detail = "; ".join(f"{key} takes no more entries after {last}" for key, last in used_up)
    return [HealthCheck("door", ok=not used_up, detail=detail or "accepts requests")]


def redis_used_ratio(client: redis.Redis) -> float:
    """Return the used share of Redis's memory limit; 0 without a limit.

    Raises:
        redis.RedisError, OSError: Redis is not responding.
    """
    memory = client.info("memory")
    assert isinstance(memory, dict), "a client that does not run a pipeline answers at once"
    most = int(memory.get("maxmemory", 0))
    return int(memory["used_memory"]) / most if most else 0.0


def _relay(conn: Connection) -> list[HealthCheck]:
    return [_seen("relay", queue_figures.select_seen(conn).relay_s, RELAY_SILENT_S)]


def _scheduler(conn: Connection) -> list[HealthCheck]:
    return [_seen("scheduler", queue_figures.select_seen(conn).scheduler_s, SCHEDULER_SILENT_S)]


def _seen(name: str, ago_s: float | None, silent_s: float) -> HealthCheck:
    if ago_s is None:
        return HealthCheck(name, ok=False, detail=f"never seen: start `ailydian {name}`")
    return HealthCheck(name, ok=ago_s <= silent_s, detail=f"seen {ago_s:.0f} s ago")


def _workers(conn: Connection) -> list[HealthCheck]:
    rows = queue_figures.select_figures(conn, QUEUES, rate_s=events.RATE_S, counted_max=0)
    idle = [one.queue for one in rows if not one.workers]
    if idle:
        return [HealthCheck("workers", False, f"no worker serves {', '.join(idle)}")]
    return [HealthCheck("workers", ok=True, detail="every queue has a worker process")]


def _processes(conn: Connection) -> list[HealthCheck]:
    rows = queue_figures.select_processes(conn, silent_s=WORKER_FORGOTTEN_S)
    lame = [one for one in rows if one.threads_alive < one.threads_expected]
    stale = [one for one in rows if one.silent_s > WORKER_STALE_S]
    return [
        _all("threads", lame, lambda it: f"{it.threads_alive} of {it.threads_expected} alive"),
        _all("heartbeats", stale, lambda it: f"no heartbeat for {it.silent_s:.0f} s"),
    ]


def _sandbox(conn: Connection) -> list[HealthCheck]:
    found = parser_sandbox.of_workers(conn)
    if found is None:
        return [HealthCheck("sandbox", ok=True, detail="no worker parses documents")]
    return [HealthCheck("sandbox", ok=found.ok, detail=found.detail)]


def _all(name: str, bad: Sequence[ProcessRow], tell: Callable[[ProcessRow], str]) -> HealthCheck:
    detail = "; ".join(f"{one.host} pid {one.pid}: {tell(one)}" for one in bad)
    return HealthCheck(name, ok=not bad, detail=detail or "ok")
