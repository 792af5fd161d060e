"""Jobs as requests ask for them, one or a line for each."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from pydantic import Field

from producers.web import bodies
from producers.web.access import Acting
from producers.web.bodies import Body
from shared.contracts import Contract, contract_named
from shared.db import Connection
from shared.errors import PublisherRefused
from shared.ledger.outbox import Published
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry

LINES_MAX: Final = 10_000
Item = TypeVar("Item")


class JobRequest(Body):
    """A job to publish."""

    job: str = Field(max_length=100, examples=["probe"])
    payload: dict[str, Any] = Field(default_factory=dict, examples=[{"n": 1}])
    key: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Two publications with one key are one job. Unset: a hash of the payload.",
    )
    delay_s: float = Field(0, ge=0, le=366 * 86_400, alias="delaySeconds")
    priority: int = Field(0, ge=-9, le=9, description="Higher goes first.")


def contract_of(name: str, payload: dict[str, Any], acting: Acting) -> Contract:
    """Return the job that is asked for.

    Raises:
        UnknownJob: There is none of this name.
        PublisherRefused: It is the system's or an operator's, or speaks in the name of one.
        PayloadRefused: Its payload does not fit.
    """
    contract = contract_named(name)
    above = acting.by.role == "SUPER_ADMIN"
    if contract.audience == "system" or (contract.audience == "operators" and not above):
        raise PublisherRefused(f"{name} is not published by {acting.by.role} keys.")
    job = contract.from_payload(payload, contract.schema_version)
    fault = job.outside_fault() if contract.audience == "anyone" else None
    if fault is not None:
        raise PublisherRefused(f"{fault}.")
    return job


def note_operators(
    conn: Connection, acting: Acting, done: Iterable[tuple[Contract, Published]]
) -> None:
    """Note in the audit log the jobs of operators among those that were published."""
    acts = [
        AuditEntry(
            acting.tenant, audit.who(), "job.publish", "Job", one.id, {"job": job.actor_name}
        )
        for job, one in done
        if job.audience == "operators" and not one.duplicate
    ]
    if acts:
        audit.write(conn, acts)


def note_operators_batch(conn: Connection, batch_id: str, jobs: Iterable[Contract]) -> None:
    """Note in the audit log the kinds of operators' jobs that were published in a batch."""
    kinds = sorted({job.actor_name for job in jobs if job.audience == "operators"})
    if kinds:
        audit.note(conn, "batch.publish", "JobBatch", batch_id, {"jobs": kinds})


def read_lines(body: bytes, read: Callable[[object], Item]) -> list[Item]:
    """Read the lines of an NDJSON body, each a job.

    Raises:
        Refused: Lines are invalid; the problem names them.
    """
    return bodies.lines(body, read, most=LINES_MAX, done="published")
