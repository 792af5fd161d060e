"""Batches: jobs published together, with progress and a follow-up when all have ended.

`publish_batch` does it in one transaction; `open_batch`, `add` and `seal` in as many as it takes.
The follow-up is published also if some jobs died or were cancelled; see the batch's counters. It
is published once; replaying a dead job afterwards changes the counters only.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import psycopg

from producers.queries.ledger import batches
from producers.queries.ledger.batches import BatchRow
from shared.contracts import Contract
from shared.db import Connection
from shared.errors import PayloadTooLarge, UnknownJob, UsageError
from shared.ids import JobId, TenantId
from shared.ledger.outbox import PAYLOAD_BYTES_MAX, Published, publish_many, raise_refusal

PAGE = 1_000


class BatchNotFound(UsageError):
    """The tenant has no batch with this id."""

    code = "batch_not_found"


class BatchSealed(UsageError):
    """The batch is sealed and takes no more jobs."""

    code = "batch_sealed"


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of `publish_batch`.

    Attributes:
        id: The batch's.
        total: Jobs that it waits for.
        duplicates: Jobs that were accepted before, outside this batch: it does not wait for them.
        existed: Whether the batch existed already: then nothing was published.
    """

    id: str
    total: int
    duplicates: int
    existed: bool = False


def publish_batch(
    conn: Connection,
    jobs: Iterable[Contract],
    *,
    name: str,
    then: Contract | None = None,
    batch_id: str | None = None,
) -> Batch:
    """Publish jobs as one complete batch in the caller's transaction.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        jobs: The jobs. Without any, the batch finishes at once.
        name: Display name.
        then: The follow-up job, published when all jobs have ended, failed ones included.
        batch_id: An id of your own; publishing it again does nothing.

    Raises:
        UnknownJob: The ledger does not know the follow-up's kind of job.
        PayloadTooLarge: See `publish`, as QueueFull and TenantNotFound.
    """
    return publish_new(conn, NewBatch(name, then, batch_id), jobs)


def found(conn: Connection, batch_id: str, tenant_id: TenantId | None = None) -> BatchRow:
    """Return a batch and its progress as of the relay's last count.

    Raises:
        BatchNotFound: There is none, or it is another tenant's.
    """
    row = batches.select_progress(conn, batch_id, tenant_id)
    if row is None:
        raise BatchNotFound(f"No batch has the id {batch_id!r}: see `ailydian batches list`.")
    return row


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to publish.

    Attributes:
        name: Display name.
        then: The follow-up job.
        batch_id: An id of the publisher's own.
        delay_s: Delay before its jobs are due.
        priority: Of its jobs.
        stays_open: Whether more jobs are added later, and it is sealed then.
    """

    name: str
    then: Contract | None = None
    batch_id: str | None = None
    delay_s: float = 0.0
    priority: int = 0
    stays_open: bool = False


def publish_new(conn: Connection, wanted: NewBatch, jobs: Iterable[Contract]) -> Batch:
    """Publish a batch and its first jobs in the caller's transaction, and seal it.

    Raises:
        UnknownJob: The ledger does not know the follow-up's kind of job.
        PayloadTooLarge: See `publish`, as QueueFull and TenantNotFound.
    """
    opened = open_batch(conn, name=wanted.name, then=wanted.then, batch_id=wanted.batch_id)
    if opened is None:
        assert wanted.batch_id is not None, "a generated id is new"
        return Batch(wanted.batch_id, 0, 0, existed=True)
    count = new = 0
    for page in _pages(jobs):
        published = add(conn, opened, page, delay_s=wanted.delay_s, priority=wanted.priority)
        count += len(published)
        new += sum(not one.duplicate for one in published)
    if not wanted.stays_open:
        seal(conn, opened)
    return Batch(opened, new, count - new)


def open_batch(
    conn: Connection, *, name: str, then: Contract | None = None, batch_id: str | None = None
) -> str | None:
    """Open a batch; `add` adds jobs in this transaction or later ones.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        name: Display name.
        then: The follow-up job, published when it is sealed and all jobs have ended.
        batch_id: An id of your own.

    Returns:
        Its id; None if the tenant has a batch with this id.

    Raises:
        UnknownJob: The ledger does not know the follow-up's kind of job.
        PayloadTooLarge: The follow-up's payload is above 64 kB.
    """
    payload = None if then is None else then.model_dump_json()
    if payload is not None and len(payload.encode()) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(
            f"The follow-up of the batch {name!r} must be at most {PAYLOAD_BYTES_MAX:,} bytes."
        )
    if then is not None and not batches.is_known(conn, then.actor_name):
        raise UnknownJob(
            f"The ledger does not know the job {then.actor_name!r}: run `ailydian migrate`."
        )
    return batches.insert_batch(
        conn,
        batch_id=batch_id,
        name=name,
        then_job=None if then is None else then.actor_name,
        then_payload=payload,
    )


def add(
    conn: Connection,
    batch_id: str,
    jobs: Sequence[Contract],
    *,
    delay_s: float = 0.0,
    priority: int = 0,
) -> list[Published]:
    """Publish more jobs into an open batch of the transaction's tenant.

    Commit soon: until then the batch's progress is not updated.

    Returns:
        One entry per job; the batch does not wait for duplicates.

    Raises:
        BatchSealed: It is sealed or does not exist; nothing was published.
        PayloadTooLarge: See `publish`, as QueueFull and TenantNotFound.
    """
    with conn.transaction():
        published = publish_many(conn, jobs, delay_s=delay_s, priority=priority, batch_id=batch_id)
        new = sum(not one.duplicate for one in published)
        if not batches.add(conn, batch_id, new):
            raise BatchSealed(f"The batch {batch_id} is sealed or does not exist.")
    return published


@dataclass(frozen=True, slots=True)
class _Empty:
    tenant_id: TenantId
    batch_id: str
    job_id: JobId | None = None


def add_all(conn: Connection, batch_id: str, jobs: Iterable[Contract]) -> int:
    """Publish any number of jobs into an open batch, page by page. Returns how many were known.

    Raises:
        BatchSealed: It is sealed or does not exist.
        PayloadTooLarge: See `publish`, as QueueFull and TenantNotFound.
    """
    return sum(one.duplicate for page in _pages(jobs) for one in add(conn, batch_id, page))


def seal(conn: Connection, batch_id: str) -> bool:
    """Seal a batch: it takes no more jobs and can finish. Repeating it changes nothing.

    Returns:
        Whether it has finished: it is empty, or all its jobs had ended.

    Raises:
        BatchNotFound: The transaction's tenant has no such batch.
        QueueFull: It would finish, but the queue of its follow-up is full.
    """
    sealed = batches.seal(conn, batch_id)
    if sealed is None:
        raise BatchNotFound(f"No batch has the id {batch_id!r}.")
    if not sealed.ended:
        return False
    try:
        return batches.finish(conn, [_Empty(sealed.tenant_id, batch_id)]) == 1
    except psycopg.Error as error:
        raise_refusal(error)


def _pages(jobs: Iterable[Contract]) -> Iterator[list[Contract]]:
    rest = iter(jobs)
    while page := list(islice(rest, PAGE)):
        yield page
