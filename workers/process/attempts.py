"""One attempt at a job: read the payload, call the actor, settle the outcome."""

import math
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING

import structlog

from shared import db, forks
from shared.contract import NUMBERS
from shared.contracts import Contract
from shared.errors import PayloadRefused, TimeLimitExceeded
from shared.ledger.outbox import Lease, current_job
from shared.observability import telemetry, tracing
from workers.process import settlement, unsettled
from workers.process.leases import HeldLeases, Overdue
from workers.process.settlement import JobCompleter

if TYPE_CHECKING:
    from workers.process.consumer import Unit

Pair = tuple[Contract, Lease]
log = structlog.get_logger()


def run(
    function: Callable[..., None],
    contract: type[Contract],
    unit: "Unit",
    held: HeldLeases,
    completion: JobCompleter,
) -> None:
    """Run a unit of work. No exception leaves: each job ends completed, retried or dead.

    Args:
        function: The actor's function.
        contract: The contract of its jobs.
        unit: The leases, claimed and held.
        held: The leases that this process holds.
        completion: Completes the jobs whose actor claimed no receipt itself.
    """
    started = time.monotonic()
    to_complete: list[Lease] = []
    try:
        limit_s = max(_limit_s(contract, lease) for lease in unit.leases)
        with held.running(unit.leases, limit_s=limit_s):
            done = _do(function, contract, unit.leases, held)
            to_complete = [lease for lease in done if not lease.receipted]
    finally:
        # A lease not held is not renewed: if the settlement itself failed, it lapses.
        held.drop(
            [
                lease
                for lease in unit.leases
                if lease not in to_complete and not unsettled.holds(held.now(lease))
            ]
        )
        unit.took_s = time.monotonic() - started
    for lease in to_complete:
        completion.add(lease)


def _limit_s(contract: type[Contract], lease: Lease) -> float:
    """The time limit of an attempt; a row that is older than the ledger's checks may have any."""
    asked = lease.time_limit_s
    if asked is None or math.isnan(asked):
        return contract.time_limit_s
    _, least, most = NUMBERS["time_limit_s"]
    return min(max(asked, least), most)


def _do(
    function: Callable[..., None], contract: type[Contract], leases: list[Lease], held: HeldLeases
) -> list[Lease]:
    """Call the actor. Returns the leases whose jobs it did; the others are settled.

    Each attempt has a context of its own, for its log lines and the jobs it publishes; it ends with
    the attempt, wherever that is interrupted.
    """
    pairs = [pair for lease in leases if (pair := _read(contract, lease))]
    batch = contract.batch_max > 1
    if batch and len(pairs) > 1 and copy_context().run(_done_together, function, pairs):
        return [lease for _, lease in pairs]
    done = _done_of_batch if batch else _done
    return [pair[1] for pair in pairs if copy_context().run(done, function, pair, held)]


def _read(contract: type[Contract], lease: Lease) -> Pair | None:
    try:
        return forks.calling(contract.from_payload, lease.payload, lease.schema_version), lease
    except PayloadRefused as error:
        copy_context().run(_refuse, lease, error)
        return None


def _refuse(lease: Lease, error: PayloadRefused) -> None:
    with tracing.attempt([lease]) as attempt:
        _begin([lease], attempt)
        _fail(lease, error, attempt)


def _done_of_batch(function: Callable[..., None], pair: Pair, held: HeldLeases) -> bool:
    return _done(lambda *one: function([one]), pair, held)


def _done(function: Callable[..., None], pair: Pair, held: HeldLeases) -> bool:
    job, lease = pair
    with tracing.attempt([lease]) as attempt:
        _begin([lease], attempt)
        try:
            forks.calling(function, job, lease)
        except Overdue as overdue:
            now = held.now(lease)
            late = TimeLimitExceeded(f"stopped after {_limit_s(type(job), now):g} seconds")
            late.__cause__ = overdue  # its frames are where the job was
            _fail(now, late, attempt)
            return False
        except BaseException as error:  # a SystemExit ends a job, not a worker's thread
            _fail(held.now(lease), error, attempt)
            return False
    return True


def _done_together(function: Callable[..., None], pairs: list[Pair]) -> bool:
    """Run a batch as one. If it fails, nothing was written and each job is run by itself."""
    leases = [lease for _, lease in pairs]
    with tracing.attempt(leases) as attempt:
        _begin(leases, attempt)
        try:
            forks.calling(function, pairs)
        except BaseException as error:
            why = db.sentence(error)
            attempt.failed(error, why)
            log.warning("batch.split", jobs=len(pairs), error=why)
            return False
    return True


def _begin(leases: Sequence[Lease], attempt: tracing.Attempt) -> None:
    """Bind the job to everything that this thread logs and publishes from here on."""
    first = leases[0]
    current_job.set(first.job_id)
    several: dict[str, object] = (
        {"job_ids": [lease.job_id for lease in leases]} if len(leases) > 1 else {}
    )
    telemetry.doing.set(
        {
            "job_id": first.job_id,
            "job": first.job,
            "tenant_id": first.tenant_id,
            "attempt": first.attempt,
            "trace_id": attempt.trace.trace_id,
            "span_id": attempt.trace.span_id,
            **several,
        }
    )


def _fail(lease: Lease, error: BaseException, attempt: tracing.Attempt) -> None:
    settlement.settle(lease, error)  # first: a trace that cannot be written loses no outcome
    attempt.failed(error, db.sentence(error))
