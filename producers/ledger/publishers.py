"""Who publishes at the Redis door: a name, and the tenants and jobs that it may publish.

The name is proven by the stream: a user of Redis who may write to `ailydian:publish:NAME` alone is
NAME. `ailydian:publish` is the stream of the publisher `default`, who needs no row: without one it
may publish every job that is open to publishers, for every tenant.
"""

from dataclasses import dataclass
from typing import Final

from producers.queries.ledger import publishers as queries
from shared.contracts import Contract
from shared.db import Connection
from shared.errors import PublisherRefused
from shared.ids import TenantId

DEFAULT: Final = "default"
PUBLISHERS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Rights:
    """What a publisher may publish; None is every tenant, or every job."""

    name: str
    tenant_ids: frozenset[str] | None = None
    jobs: frozenset[str] | None = None

    def check_job(self, job: Contract) -> None:
        """Check that the publisher may publish a job of this kind.

        Raises:
            PublisherRefused: It may not, or nobody outside may.
        """
        fault = job.outside_fault()
        if fault is not None:
            raise PublisherRefused(f"{fault}.")
        if self.jobs is not None and job.actor_name not in self.jobs:
            raise PublisherRefused(f"The publisher {self.name} may not publish {job.actor_name}.")

    def check_tenant(self, tenant_id: TenantId | None, slug: str) -> None:
        """Check that the publisher may publish for a tenant.

        Raises:
            PublisherRefused: It may not; one that exists is not told from one that does not.
        """
        if self.tenant_ids is not None and tenant_id not in self.tenant_ids:
            raise PublisherRefused(
                f"The publisher {self.name} may not publish for the tenant {slug[:256]!r}."
            )


def rights_of(conn: Connection, name: str) -> Rights:
    """Return what a publisher may publish; one that was removed may publish nothing."""
    rows = queries.select_publishers(conn, name=name, limit=1)
    if not rows:
        nothing: frozenset[str] = frozenset()
        return Rights(name) if name == DEFAULT else Rights(name, nothing, nothing)
    tenant_ids, jobs = rows[0].tenant_ids, rows[0].jobs
    return Rights(
        name,
        None if tenant_ids is None else frozenset(tenant_ids),
        None if jobs is None else frozenset(jobs),
    )
