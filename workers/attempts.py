"""One attempt, from lease to ending: read the payload, call the actor, settle what came of it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from shared.contracts import Contract
from shared.errors import PayloadRefused, TimeLimitExceeded
from shared.outbox import Lease, current_job
from workers import endings
from workers.endings import Completion
from workers.holding import Holding, Overdue

if TYPE_CHECKING:
    from workers.consumer import Unit

Pair = tuple[Contract, Lease]
log = structlog.get_logger()


def run(
    function: Callable[..., None],
    contract: type[Contract],
    unit: "Unit",
    holding: Holding,
    completion: Completion,
) -> None:
    """Do a unit of work. No exception leaves: each job ends completed, retried or buried.

    Args:
        function: The actor's function.
        contract: What it does.
        unit: The leases, claimed and held.
        holding: Where this process notes what it holds.
        completion: Completes the jobs whose actor claimed no receipt itself.
    """
    started = time.monotonic()
    to_complete: list[Lease] = []
    try:
        with holding.doing(unit.leases, limit_s=contract.time_limit_s):
            done = _do(function, contract, unit.leases)
            to_complete = [lease for lease in done if not lease.receipted]
    finally:
        # What is not held is not renewed: should an ending itself have failed, the lease lapses.
        holding.drop([lease for lease in unit.leases if lease not in to_complete])
        unit.took_s = time.monotonic() - started
    for lease in to_complete:
        completion.add(lease)


def _do(
    function: Callable[..., None], contract: type[Contract], leases: list[Lease]
) -> list[Lease]:
    """Call the actor. Returns the leases whose jobs it did; the others are settled."""
    pairs = [pair for lease in leases if (pair := _read(contract, lease))]
    batch = contract.batch_max > 1
    if batch and len(pairs) > 1 and _done_together(function, pairs):
        return [lease for _, lease in pairs]
    return [pair[1] for pair in pairs if _done(function, pair, batch=batch)]


def _read(contract: type[Contract], lease: Lease) -> Pair | None:
    try:
        return contract.from_payload(lease.payload, lease.schema_version), lease
    except PayloadRefused as error:
        endings.settle(lease, error)
        return None


def _done(function: Callable[..., None], pair: Pair, *, batch: bool) -> bool:
    job, lease = pair
    token = current_job.set(lease.job_id)
    try:
        if batch:
            function([pair])
        else:
            function(job, lease)
    except Overdue:
        endings.settle(lease, TimeLimitExceeded(f"stopped after {job.time_limit_s} seconds"))
        return False
    except Exception as error:
        endings.settle(lease, error)
        return False
    finally:
        current_job.reset(token)
    return True


def _done_together(function: Callable[..., None], pairs: list[Pair]) -> bool:
    """Do a batch as one. When it fails nothing was written, and each job is tried by itself."""
    token = current_job.set(pairs[0][1].job_id)
    try:
        function(pairs)
    except (Exception, Overdue) as error:
        log.warning("batch.split", job=pairs[0][1].job, jobs=len(pairs), error=str(error))
        return False
    finally:
        current_job.reset(token)
    return True
