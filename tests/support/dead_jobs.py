"""Dead jobs for tests, and the states of jobs."""

from shared.errors import DocumentRefused
from shared.ids import JobId, TenantId
from tests.support.factories import claim, job, publish_probe
from workers.process import settlement


def kill(*job_ids: JobId, error: str = "No text in 'a.pdf'.") -> None:
    """Let jobs die of a permanent error."""
    for lease in claim(*job_ids):
        settlement.settle(lease, DocumentRefused("no_text", error))


def dead(tenant_id: TenantId, count: int = 1, **fields: object) -> list[JobId]:
    """Probes of a tenant that have died. Returns their ids."""
    ids = [publish_probe(tenant_id, **fields) for _ in range(count)]
    kill(*ids)
    return ids


def states(ids: list[JobId]) -> list[str]:
    """The states of jobs, in the order given."""
    return [job(job_id)["state"] for job_id in ids]
