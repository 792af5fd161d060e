"""Rows for tests, made the way their real writers make them."""

import importlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from producers.documents import submission
from producers.documents.submission import Submitted
from producers.ledger import dispatch
from producers.ledger.dispatch import LimitUsage, Rules
from producers.ledger.relay import Relay
from shared import db
from shared.contracts import QUEUES, Contract, Probe, contract_named
from shared.db import Connection, Role
from shared.ids import JobId, TenantId
from shared.ledger import wakeups as wire
from shared.ledger.outbox import Lease, publish_many
from shared.ledger.wakeups import Wire
from shared.models import providers
from shared.queries.ledger import dispatches, outbox
from shared.queries.ledger.dispatches import BEFORE_ALL
from shared.settings import Settings, settings

KEY = b"a key for tests"
_numbers = itertools.count(1)


def make_tenant(slug: str | None = None) -> TenantId:
    """A tenant, as the platform creates it."""
    slug = slug or f"tenant-{next(_numbers)}"
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "Tenant" ("id", "name", "slug", "updatedAt")
               VALUES (%(slug)s, %(slug)s, %(slug)s, now())""",
            {"slug": slug},
        )
    return TenantId(slug)


def make_user(
    tenant_id: TenantId | None, name: str = "ada", *, email: str | None = None, role: str = "USER"
) -> str:
    """A person of the tenant whose id is the name, as the platform creates one. Returns the id."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "User" ("id", "email", "passwordHash", "tenantId", "role", "updatedAt")
               VALUES (%s, %s, '', %s, %s::text::"UserRole", now())""",
            [name, email or f"{name}@example.org", tenant_id, role],
        )
    return name


def publish_jobs(tenant_id: TenantId, jobs: list[Contract], **options: Any) -> list[JobId]:
    """Publish jobs in a transaction of their own."""
    with db.transaction(tenant_id) as conn:
        return [one.id for one in publish_many(conn, jobs, **options)]


def publish_probe(tenant_id: TenantId, **fields: Any) -> JobId:
    """Publish one probe that no other equals."""
    return publish_jobs(tenant_id, [Probe(note=f"probe {next(_numbers)}", **fields)])[0]


def wake(conn: Connection, rows: int = 1_000) -> None:
    """Move what is due into flight, as the relay does; nothing is sent."""
    lanes = dispatches.select_lanes(conn, dict.fromkeys(QUEUES, BEFORE_ALL), limit=1_000)
    if chosen := dispatch.shares(lanes, dict.fromkeys(QUEUES, rows), Rules(), LimitUsage()):
        dispatches.take(conn, chosen, ageing_s=dispatch.AGEING_S)


def claim(*job_ids: JobId, worker: str = "worker-1", lease_s: float = 30.0) -> list[Lease]:
    """Claim jobs as a worker does: the relay's step, then the claim, in the order given."""
    with db.transaction(None, role=Role.RELAY) as conn:
        wake(conn)
        sent = conn.execute(
            'SELECT "jobId", "attempt" FROM "JobFlight" WHERE "jobId" = ANY(%s)', [list(job_ids)]
        ).fetchall()
        rows = outbox.claim(conn, sent, worker=worker, lease_s=lease_s)
    leases = {lease.job_id: lease for lease in (Lease(*row) for row in rows)}
    return [leases[job_id] for job_id in job_ids if job_id in leases]


def job(job_id: JobId) -> dict[str, Any]:
    """A job's row by its columns, and where its other row lies: outbox, flight or nowhere."""
    with db.transaction(None, role=Role.RELAY) as conn:
        cursor = conn.execute(
            """SELECT *, (SELECT count(*) FROM "JobOutbox" o WHERE o."jobId" = j."id") AS outbox,
                      (SELECT count(*) FROM "JobFlight" f WHERE f."jobId" = j."id") AS flight
               FROM "Job" j WHERE "id" = %s""",
            [job_id],
        )
        row = cursor.fetchone()
        assert row is not None, f"no job {job_id}"
        assert cursor.description is not None
        return {column.name: value for column, value in zip(cursor.description, row, strict=True)}


def rows(query: str, *values: Any) -> list[Any]:
    """Rows as the owner sees them: all tenants'."""
    with db.transaction(None, role=Role.OWNER) as conn:
        return conn.execute(query, values or None).fetchall()


def make_relay(redis_url: str, **settings: Any) -> Relay:
    """A relay on a test's Redis."""
    return Relay(Settings(**settings), wire.connect(redis_url), Wire("ailydian", KEY))


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """This process's settings and embedders, as an environment with these variables has them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        settings.cache_clear()
        providers.configure(None)
        try:
            yield
        finally:
            providers.configure(None)
    settings.cache_clear()


def submit(tenant_id: TenantId, content: bytes | str, **options: Any) -> Submitted:
    """Submit a document in a transaction of its own."""
    with db.transaction(tenant_id) as conn:
        return submission.submit_document(conn, content, **options)


def read_job(lease: Lease) -> Contract:
    """The contract instance that a lease is for."""
    contract = contract_named(lease.job)
    return contract.from_payload(lease.payload, lease.schema_version)


def do(lease: Lease) -> None:
    """Do one attempt of one job, by its actor called as a plain function."""
    contract = contract_named(lease.job)
    function = getattr(
        importlib.import_module(f"workers.actors.{contract.queue_name}"), contract.actor_name
    )
    if contract.batch_max > 1:
        function([(read_job(lease), lease)])
    else:
        function(read_job(lease), lease)


def waiting(name: str | None = None) -> list[JobId]:
    """The jobs that have not ended, oldest first: all, or those of one name."""
    return [
        row[0]
        for row in rows(
            """SELECT "id" FROM "Job"
               WHERE "state" = 'PENDING' AND "job" = coalesce(%s, "job") ORDER BY "createdAt", "id"
            """,
            name,
        )
    ]


def do_all() -> None:
    """Do every job and its follow-ups, until nothing is left."""
    while ids := waiting():
        for lease in claim(*ids):
            do(lease)
