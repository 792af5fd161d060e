"""Prometheus metrics from Postgres and Redis.

They are read on scrape, at most once a second. Postgres is queried in a separate thread: if it
hangs, it is reported as down in time for the scrape.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass

import psycopg
import redis
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from producers.queries.ledger import events, queue_figures
from producers.queries.ledger.queue_figures import Lag, ProcessRow, QueueFigures, Seen
from producers.queries.operations import incidents, metric_figures
from producers.queries.operations.metric_figures import JobStat
from producers.queries.workflow import workflow_lists
from producers.web import health
from shared import db
from shared.contracts import CONTRACTS, QUEUES
from shared.db import Role
from shared.errors import AilydianError
from shared.ledger.wakeups import AWAY, Wire
from shared.observability import outages
from shared.queries.models import model_uses
from shared.queries.models.model_uses import ModelUse

log = structlog.get_logger()

KEPT_S = 1.0
PATIENCE_S = 3.0
# Of a queue above this, a scrape does not count the rows itself.
COUNTED_MAX = 5_000
# What the fold counts every kind as that no process has registered.
UNKNOWN_KIND = "unknown"
RUN_STATES = ("queued", "running", "paused", "compensating")
REASONS = ("permanent", "exhausted", "poison")
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything a scrape reads from Postgres, in one transaction."""

    queues: list[QueueFigures]
    lags: list[Lag]
    processes: list[ProcessRow]
    seen: Seen
    leases: tuple[int, int]
    dead: list[tuple[str, str, int]]
    quarantined: list[tuple[str, int]]
    depths_max: dict[str, int]
    job_stats: list[JobStat]
    uses: list[ModelUse]
    tables: list[tuple[str, int, int, int]]
    open: tuple[int, int]
    runs: dict[str, int]
    incidents: dict[str, int]


def read_ledger() -> Ledger:
    """Read what a scrape needs.

    Raises:
        ServerUnavailable: Postgres is not responding.
    """
    queues = list(QUEUES)
    with db.transaction(None, role=Role.RELAY) as conn:
        return Ledger(
            queue_figures.select_figures(
                conn, queues, rate_s=events.RATE_S, counted_max=COUNTED_MAX
            ),
            queue_figures.select_lags(conn, queues),
            queue_figures.select_processes(conn, silent_s=health.WORKER_FORGOTTEN_S),
            queue_figures.select_seen(conn),
            metric_figures.count_leases(conn),
            metric_figures.count_dead(conn, queues),
            metric_figures.count_quarantined(conn, queues),
            metric_figures.select_depths_max(conn),
            metric_figures.select_job_stats(conn, [*CONTRACTS, UNKNOWN_KIND]),
            model_uses.select_totals(conn),
            metric_figures.select_tables(conn),
            metric_figures.count_open(conn),
            workflow_lists.count_runs(conn),
            incidents.count_open(conn),
        )


class MetricsCollector(Collector):
    """The Prometheus collector; thread-safe."""

    def __init__(self, client: redis.Redis, wire: Wire) -> None:
        self._client = client
        self._wire = wire
        self._lock = threading.Lock()
        self._read_at = -math.inf
        self._kept: list[Metric] = []
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="figures")
        self._asked: Future[Ledger] | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known when they are read."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The figures of this second."""
        with self._lock:
            if time.monotonic() - self._read_at > KEPT_S:
                self._kept = [*self._postgres(), *self._redis()]
                self._read_at = time.monotonic()
            return self._kept

    def close(self) -> None:
        """Wait for what was asked last."""
        self._pool.shutdown(wait=True)

    def _postgres(self) -> Iterator[Metric]:
        began = time.monotonic()
        ledger = self._ledger()
        up = int(ledger is not None)
        yield GaugeMetricFamily("ailydian_postgres_up", "1 if Postgres is responding.", value=up)
        took = GaugeMetricFamily("ailydian_scrape_seconds", "Time to read the ledger.")
        took.add_metric([], time.monotonic() - began)
        yield took
        if ledger is not None:
            yield from of_ledger(ledger)

    def _ledger(self) -> Ledger | None:
        # The next scrape waits for a hanging read again: there is never a second one.
        if self._asked is None:
            self._asked = self._pool.submit(read_ledger)
        try:
            ledger = self._asked.result(PATIENCE_S)
        except StillWaiting:
            log.warning("metrics.postgres_slow", seconds=PATIENCE_S)
            return None
        except (AilydianError, psycopg.Error) as error:
            outages.note(error, role="web")
            ledger = None
        self._asked = None
        return ledger

    def _redis(self) -> Iterator[Metric]:
        try:
            ratio = health.redis_used_ratio(self._client)
            with self._client.pipeline(transaction=False) as pipe:
                for queue in QUEUES:
                    pipe.llen(self._wire.queue_key(queue))
                lengths = pipe.execute(raise_on_error=False)
        except AWAY as error:
            outages.note(error, role="web")
            yield GaugeMetricFamily("ailydian_redis_up", "1 if Redis is responding.", value=0)
            return
        yield GaugeMetricFamily("ailydian_redis_up", "1 if Redis is responding.", value=1)
        yield GaugeMetricFamily(
            "ailydian_redis_used_ratio", "Used share of maxmemory; 0 without a limit.", value=ratio
        )
        found = zip(QUEUES, lengths, strict=True)
        yield _gauge(
            "redis_wakeups",
            "Wake-ups waiting in Redis.",
            ["queue"],
            [((queue,), length) for queue, length in found if isinstance(length, int)],
        )


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry that holds this collector alone."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def text(registry: CollectorRegistry) -> bytes:
    """A scrape in Prometheus's text format."""
    return generate_latest(registry)


def of_ledger(ledger: Ledger) -> Iterator[Metric]:
    """The metrics that the ledger's figures make."""
    yield from _of_queues(ledger)
    yield from _of_jobs(ledger.job_stats)
    yield from _of_processes(ledger.processes)
    yield from _of_roles(ledger)
    yield from _of_models(ledger.uses)
    yield from _of_tables(ledger.tables)


def _of_queues(ledger: Ledger) -> Iterator[Metric]:
    rows = ledger.queues
    depths = [
        ((row.queue, state), value)
        for row in rows
        for state, value in (
            ("ready", row.ready),
            ("delayed", row.delayed),
            ("running", row.running),
            ("dead", row.dead),
        )
    ]
    yield _gauge("queue_depth", "Jobs by queue and state.", ["queue", "state"], depths)
    by_queue: dict[str, tuple[str, Callable[[QueueFigures], float]]] = {
        "queue_oldest_seconds": (
            "How long the oldest ready job has been due.",
            lambda row: max(row.oldest_seconds or 0.0, 0.0),
        ),
        "queue_done_per_second": (
            "Jobs completed per second.",
            lambda row: row.done_per_second or 0,
        ),
        "queue_paused": ("1 if the whole queue is paused.", lambda row: row.paused),
        "worker_processes": ("Live processes that serve the queue.", lambda row: row.workers),
    }
    for name, (help_text, value) in by_queue.items():
        yield _gauge(name, help_text, ["queue"], [((row.queue,), value(row)) for row in rows])
    limits = ledger.depths_max.items()
    yield _gauge(
        "queue_depth_max",
        "Depth at which publishing is rejected.",
        ["queue"],
        [((queue,), most) for queue, most in limits],
    )
    lags = {(row.queue, why): 0.0 for row in rows for why in ("free", "held", "limited")}
    lags |= {(lag.queue, lag.why): lag.seconds for lag in ledger.lags}
    help_text = "Age of the oldest due job not yet sent; paused and limited ones separately."
    yield _gauge("relay_lag_seconds", help_text, ["queue", "why"], lags.items())
    # From the beginning at 0: of a series that only then appears Prometheus sees no increase.
    letters = {(row.queue, reason): 0 for row in rows for reason in REASONS}
    letters |= {(queue, reason): count for queue, reason, count in ledger.dead}
    help_text = "Dead letters, up to 5,000 a queue."
    yield _gauge("dead_letters", help_text, ["queue", "reason"], letters.items())
    bad = [((queue,), count) for queue, count in ledger.quarantined]
    yield _gauge("quarantined", "Quarantined messages, up to 20,000 a queue.", ["queue"], bad)


def _of_jobs(rows: Sequence[JobStat]) -> Iterator[Metric]:
    jobs = CounterMetricFamily(
        "ailydian_jobs", "Jobs and retries, by outcome.", labels=["job", "queue", "outcome"]
    )
    attempts = CounterMetricFamily("ailydian_attempts", "Ended attempts.", labels=["job", "queue"])
    labels = ["job", "queue"]
    took = HistogramMetricFamily(
        "ailydian_job_duration_seconds", "Duration of attempts.", labels=labels
    )
    waited = HistogramMetricFamily(
        "ailydian_job_wait_seconds", "Time from due to start of attempts.", labels=labels
    )
    nothing = [0] * (len(events.BOUNDS_S) + 1)
    stats_by_job = {
        one.actor_name: JobStat(one.actor_name, one.queue_name, 0, 0, 0, 0, 0, 0, nothing, nothing)
        for one in CONTRACTS.values()
    } | {row.job: row for row in rows}
    for row in stats_by_job.values():
        names = [row.job, row.queue]
        outcomes = ("completed", "dead", "cancelled", "retried")
        counts = (row.completed, row.dead, row.cancelled, row.retried)
        for outcome, count in zip(outcomes, counts, strict=True):
            jobs.add_metric([*names, outcome], count)
        attempts.add_metric(names, row.completed + row.dead + row.retried)
        took.add_metric(names, _buckets(row.took_buckets), sum_value=row.took_s)
        waited.add_metric(names, _buckets(row.waited_buckets), sum_value=row.waited_s)
    yield from (jobs, attempts, took, waited)


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    bounds = [*map(str, events.BOUNDS_S), "+Inf"]
    assert len(counts) == len(bounds), "the fold counts one bucket above the last bound"
    sums = (sum(counts[: place + 1]) for place in range(len(counts)))
    return [(bound, float(so_far)) for bound, so_far in zip(bounds, sums, strict=True)]


def _of_processes(processes: Sequence[ProcessRow]) -> Iterator[Metric]:
    threads: dict[tuple[str, str], float] = {}
    memory: dict[tuple[str], float] = {}
    for one in processes:
        if one.silent_s > queue_figures.SILENT_S:
            continue
        served = ",".join(one.queues)
        for state, count in (
            ("alive", one.threads_alive),
            ("busy", one.figures.get("busy") or 0),
            ("expected", one.threads_expected),
        ):
            threads[served, state] = threads.get((served, state), 0) + count
        memory[(served,)] = memory.get((served,), 0) + (one.figures.get("rssBytes") or 0)
    help_text = "Threads of worker processes, by what the processes serve."
    yield _gauge("worker_threads", help_text, ["queues", "state"], threads.items())
    help_text = "Memory of worker processes, by what they serve."
    yield _gauge("worker_resident_bytes", help_text, ["queues"], memory.items())
    stale = sum(one.silent_s > health.WORKER_STALE_S for one in processes)
    yield _gauge("worker_silent", "Worker processes without a recent heartbeat.", [], [((), stale)])


def _of_roles(ledger: Ledger) -> Iterator[Metric]:
    for name, ago_s in (("relay", ledger.seen.relay_s), ("scheduler", ledger.seen.scheduler_s)):
        never = math.inf if ago_s is None else ago_s
        help_text = f"Seconds since the last sign of life of the {name}; +Inf is never."
        yield _gauge(f"{name}_seen_seconds", help_text, [], [((), never)])
    held, overdue = ledger.leases
    states = [(("held",), held), (("overdue",), overdue)]
    yield _gauge("leases", "Leases held, and expired ones among them.", ["state"], states)
    runs = [((state,), ledger.runs.get(state, 0)) for state in RUN_STATES]
    yield _gauge("workflow_runs", "Unfinished runs by state, up to 10,000.", ["state"], runs)
    batches, failing = ledger.open
    yield _gauge("batches_open", "Unfinished batches, up to 10,000.", [], [((), batches)])
    yield _gauge("schedules_failing", "Schedules whose last slot failed.", [], [((), failing)])
    wrong = [((severity,), ledger.incidents.get(severity, 0)) for severity in SEVERITIES]
    yield _gauge("incidents_open", "Unresolved incidents.", ["severity"], wrong)


def _of_models(uses: Sequence[ModelUse]) -> Iterator[Metric]:
    tokens = CounterMetricFamily("ailydian_tokens", "Tokens sent to models.", labels=["model"])
    help_text = "Dollars at catalogue prices; requests without a price are not included."
    cost = CounterMetricFamily("ailydian_cost_usd", help_text, labels=["model"])
    help_text = "Requests of models that had no price in the catalogue."
    unpriced = CounterMetricFamily("ailydian_model_unpriced_requests", help_text, labels=["model"])
    requests = CounterMetricFamily("ailydian_model_requests", "Requests.", labels=["model"])
    for use in uses:
        tokens.add_metric([use.model], use.tokens)
        if use.cost_usd is not None:  # no sample where nothing is known: 0 would say it is free
            cost.add_metric([use.model], float(use.cost_usd))
        unpriced.add_metric([use.model], use.unpriced)
        requests.add_metric([use.model], use.requests)
    yield from (tokens, cost, unpriced, requests)


def _of_tables(tables: Sequence[tuple[str, int, int, int]]) -> Iterator[Metric]:
    sizes = [((name,), size) for name, size, _, _ in tables]
    yield _gauge("table_bytes", "Size of a table with its indexes.", ["table"], sizes)
    rows = [
        ((name, state), count)
        for name, _, live, dead in tables
        for state, count in (("live", live), ("dead", dead))
    ]
    yield _gauge("table_rows", "Rows, as Postgres estimates them.", ["table", "state"], rows)


def _gauge(
    name: str,
    help_text: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], float]],
) -> Metric:
    family = GaugeMetricFamily(f"ailydian_{name}", help_text, labels=labels)
    for values, value in samples:
        family.add_metric(list(values), float(value))
    return family
