"""The outbox: `publish` for producers, `effect` for actors; each takes effect exactly once."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from shared import db
from shared.contracts import Contract
from shared.db import Connection
from shared.errors import (
    LeaseLost,
    PayloadRefused,
    PayloadTooLarge,
    PublisherRefused,
    QueueFull,
    RunNotFound,
    RunRefused,
    SignalRefused,
    TenantNotFound,
    WorkflowNotFound,
)
from shared.ids import JobId, StepId, TenantId
from shared.json_values import write_json
from shared.observability import tracing
from shared.queries.ledger import outbox as queries

PAYLOAD_BYTES_MAX = 64 * 1024
LIMIT_KEY_CHARS_MAX = 256

# The job whose actor runs in this thread: follow-ups name it as their parent.
current_job: ContextVar[JobId | None] = ContextVar("current_job", default=None)
# The publisher in this context, stored as the origin of jobs: `cli:root`, `door`.
producer: ContextVar[str | None] = ContextVar("producer", default=None)


@dataclass(frozen=True, slots=True)
class Published:
    """The result of publishing one job."""

    id: JobId
    duplicate: bool
    state: str


@dataclass(slots=True, eq=False)
class Lease:
    """The lease of one attempt of one job; `fence` proves it to the ledger.

    `receipted` turns true once this attempt's transaction has committed. `time_limit_s` and
    `backoff_s` (its first wait) override the contract's if a workflow step sets them.
    """

    job_id: JobId
    tenant_id: TenantId
    job: str
    queue: str
    payload: dict[str, Any] = field(repr=False)  # a library that logs a lease logs no content
    schema_version: int
    attempt: int
    attempts_max: int
    crashes: int
    fence: int
    step_id: StepId | None
    created_at: datetime
    traceparent: str | None = None
    time_limit_s: float | None = None
    backoff_s: float | None = None
    receipted: bool = False


@contextmanager
def published_by(name: str) -> Iterator[None]:
    """Set the publisher in this context: `door`, `cli:root`, `schedule:nightly`."""
    token = producer.set(name)
    try:
        yield
    finally:
        producer.reset(token)


def publish(
    conn: Connection,
    job: Contract,
    *,
    key: str | None = None,
    delay_s: float = 0.0,
    priority: int = 0,
    batch_id: str | None = None,
) -> Published:
    """Publish one job in the caller's transaction: it exists if, and only if, that commits.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`; the job belongs to that tenant.
        job: The contract instance.
        key: Idempotency key. Default: computed from the job's fields.
        delay_s: Seconds until it is due, >= 0.
        priority: From -9 to 9. Each step is worth half a minute of waiting, within a tenant and
            queue: a job of priority 0 goes before one of priority 1 that came a minute later.
        batch_id: The batch that counts it; see `producers.ledger.batches`.

    Raises:
        PayloadTooLarge: Above 64 kB; keep the bytes in a table and send their id.
        QueueFull: Back-pressure; nothing was accepted.
        TenantNotFound: The transaction's tenant does not exist.
    """
    keys = None if key is None else [key]
    return publish_many(
        conn, [job], keys=keys, delay_s=delay_s, priority=priority, batch_id=batch_id
    )[0]


def publish_many(
    conn: Connection,
    jobs: Sequence[Contract],
    *,
    keys: Sequence[str] | None = None,
    delay_s: float = 0.0,
    priority: int = 0,
    batch_id: str | None = None,
) -> list[Published]:
    """Publish many jobs in one statement; see `publish`.

    Returns:
        One entry per job, in the order given; duplicates are marked.
    """
    if not jobs:
        return []
    keys = [job.key() for job in jobs] if keys is None else keys
    common = queries.Circumstances(
        delay_s, priority, current_job.get(), batch_id, producer=producer.get()
    )
    first = jobs[0]
    with tracing.publishing(first.actor_name, first.queue_name, count=len(jobs)) as traceparent:
        return _insert(conn, map(_row, jobs, keys, [traceparent] * len(jobs)), common)


def publish_received(
    conn: Connection,
    jobs: Sequence[Contract],
    *,
    keys: Sequence[str],
    traceparents: Sequence[str | None],
) -> list[Published]:
    """Publish jobs of many requests in one statement, each in the trace of its own request.

    Args:
        conn: As in `publish`.
        jobs: The contract instances.
        keys: Idempotency key of each.
        traceparents: Header of each request, None where it has none; see `tracing.read`.
    """
    with ExitStack() as spans:
        traces = [tracing.read(header) for header in traceparents]
        groups: dict[tracing.Trace | None, list[Contract]] = {}
        for trace, job in zip(traces, jobs, strict=True):
            groups.setdefault(trace, []).append(job)
        inside: dict[tracing.Trace | None, str] = {}
        # Those without a trace first: the others' spans would count as the one that they are in.
        for trace, group in sorted(groups.items(), key=lambda one: one[0] is not None):
            name, queue = group[0].actor_name, group[0].queue_name
            span = tracing.publishing(name, queue, count=len(group), received=trace)
            inside[trace] = spans.enter_context(span)
        common = queries.Circumstances(0.0, 0, current_job.get(), None, producer=producer.get())
        return _insert(conn, map(_row, jobs, keys, [inside[trace] for trace in traces]), common)


def _row(job: Contract, key: str, traceparent: str) -> queries.NewJob:
    return queries.NewJob(
        job=job.actor_name,
        queue=job.queue_name,
        payload=payload_of(job),
        schema_version=job.schema_version,
        key=key,
        attempts_max=job.attempts_max,
        limit_key=_limit_key_of(job),
        cost=job.cost(),
        traceparent=traceparent,
    )


def _insert(
    conn: Connection, rows: Iterable[queries.NewJob], common: queries.Circumstances
) -> list[Published]:
    assert conn.info.transaction_status == TransactionStatus.INTRANS, "publish in a transaction"
    try:
        found = queries.insert_jobs(conn, list(rows), common)
    except psycopg.Error as error:
        raise_refusal(error)
    return [Published(JobId(row.id), row.duplicate, row.state) for row in found]


def payload_of(job: Contract) -> str:
    """Return the JSON text of a job's fields, as it is stored.

    Raises:
        PayloadTooLarge: Above `PAYLOAD_BYTES_MAX`.
        PayloadRefused: A value that JSON cannot hold, see `shared.json_values`.
    """
    try:
        payload = write_json(job)
    except PayloadRefused as error:
        raise PayloadRefused(f"{job.actor_name}: {error}") from error
    size = len(payload.encode())
    if size > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(
            f"{job.actor_name}: payload must be at most {PAYLOAD_BYTES_MAX:,} bytes "
            f"(got {size:,}); keep the bytes in a table and send their id."
        )
    return payload


def _limit_key_of(job: Contract) -> str:
    key = job.limit_key()
    if len(key) > LIMIT_KEY_CHARS_MAX:
        raise PayloadRefused(
            f"{job.actor_name}: limit key must be at most "
            f"{LIMIT_KEY_CHARS_MAX} characters (got {len(key):,}); hash it."
        )
    return key


def raise_refusal(error: psycopg.Error) -> NoReturn:
    """Raise our error for one of the ledger's triggers, and any other error as it is."""
    message = (error.diag.message_primary or str(error)).partition(": ")[2] + "."
    kinds: dict[str | None, type[Exception]] = {
        "AL001": LeaseLost,
        "AL002": PayloadRefused,
        "AL003": TenantNotFound,
        "AL004": QueueFull,
        "AL005": WorkflowNotFound,
        "AL006": RunRefused,
        "AL007": RunNotFound,
        "AL008": RunRefused,
        "AL009": SignalRefused,
        "AL010": PublisherRefused,
    }
    kind = kinds.get(error.sqlstate)
    if kind is None:
        raise error  # not from itself: a chain of causes must end
    raise kind(message[:1].upper() + message[1:]) from error


@contextmanager
def effect(lease: Lease, *, durable: bool = False) -> Iterator[Connection]:
    """Open the one transaction in which this attempt may write.

    The receipt is claimed with the first statement, so what follows commits together with it or
    not at all; no later attempt can commit a second time.

    Args:
        lease: The attempt.
        durable: Whether COMMIT waits for the disk. Otherwise a crash of Postgres itself may take
            back what was committed in the second before, receipt and effects together, and the
            job runs again: safe unless it had external effects.

    Raises:
        LeaseLost: The job has ended, or a newer attempt owns it. Nothing was written.
    """
    with effects([lease], durable=durable) as conn:
        yield conn


@contextmanager
def effects(leases: Sequence[Lease], *, durable: bool = False) -> Iterator[Connection]:
    """Like `effect`, for jobs of one tenant that a batch actor processes together.

    Raises:
        LeaseLost: One of the leases no longer holds; nothing was written for any of them.
    """
    tenants = {lease.tenant_id for lease in leases}
    assert len(tenants) == 1, "a transaction belongs to one tenant"
    # Effects are short statements over arrays: replanning each would cost more than running it.
    claim = "SET LOCAL plan_cache_mode = force_generic_plan; " + _receipts(leases)
    try:
        with db.transaction(tenants.pop(), first=claim, durable=durable) as conn:
            yield conn
    except psycopg.DatabaseError as error:
        raise_refusal(error)
    for lease in leases:
        lease.receipted = True


def _receipts(leases: Sequence[Lease]) -> str:
    if len(leases) == 1:  # most are
        return f"SELECT ailydian_claim_receipt({_literal(leases[0].job_id)}, {leases[0].fence:d})"
    ids = ", ".join(_literal(lease.job_id) for lease in leases)
    fences = ", ".join(f"{lease.fence:d}" for lease in leases)
    return f"SELECT ailydian_claim_receipts(ARRAY[{ids}], ARRAY[{fences}]::bigint[])"


def _literal(text: str) -> str:
    plain = "'" not in text and "\\" not in text
    return f"'{text}'" if plain else sql.Literal(text).as_string()
