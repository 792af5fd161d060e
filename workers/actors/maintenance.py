"""Queue `maintenance`: pruning, and probes that show that a worker works and a job's cost."""

import json
from collections.abc import Sequence
from typing import Final

from shared.contracts import Probe, ProbeBatch, PruneCache
from shared.errors import TransientError
from shared.ledger.outbox import Lease, effect, effects
from shared.queries.ledger import outbox
from shared.queries.messages import semantic_entries
from shared.settings import settings
from workers.process.broker import actor
from workers.queries.operations import probes

PRUNED_MAX: Final = 10_000  # entries of one job, so that its transaction stays short


@actor(PruneCache)
def prune_cache(job: PruneCache, lease: Lease) -> None:  # noqa: ARG001 - the day names the fact
    """Delete a tenant's expired answers and, above the limit, the least recently used."""
    with effect(lease) as conn:
        entries_max = settings().cache_entries_max
        removed = semantic_entries.prune(conn, entries_max=entries_max, limit=PRUNED_MAX)
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps({"removed": removed}))


@actor(Probe)
def probe(job: Probe, lease: Lease) -> None:
    """Do nothing: in a group, in a transaction of its own, or in one with a statement."""
    if job.mode == "group":
        return
    with effect(lease) as conn:
        if job.mode == "statement":
            probes.insert_entry(conn, lease.job_id, job.n)


@actor(ProbeBatch)
def probe_batch(jobs: Sequence[tuple[ProbeBatch, Lease]]) -> None:
    """Write one row a job, all in one transaction; a bad one refuses the whole batch."""
    with effects([lease for _, lease in jobs]) as conn:
        probes.insert_entries(conn, [(lease.job_id, job.n) for job, lease in jobs])
        for job, _ in jobs:
            if job.bad:
                raise TransientError(f"probe {job.n} fails on request")
