"""Queue `maintenance`: probes that show a worker works, and what a job costs."""

from collections.abc import Sequence

from shared.contracts import Probe, ProbeBatch
from shared.errors import TransientError
from shared.outbox import Lease, effect, effects
from shared.queries import probes
from workers.broker import actor


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
                raise TransientError(f"probe {job.n} was asked to fail")
