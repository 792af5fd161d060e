"""Sealing and verifying the audit log, a million entries of 20 tenants."""

import threading
import time

from producers.operations import audit_keys, audit_log, audit_sealing
from shared.settings import Settings
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure

TENANTS = 20
SETTINGS = Settings(audit_key="a key of the benchmark that is long enough")
WRITE = """
    INSERT INTO "AuditLog" ("tenantId", "userId", "action", "resource", "resourceId", "metadata")
    SELECT 't' || n % {tenants}, 'cli:root', 'dead.replay', 'Job', '01a22cd1-b3ce-72e2-9784-' || n,
           jsonb_build_object('count', n, 'before', jsonb_build_object('state', 'DEAD'))
    FROM generate_series(1, {entries}) n
"""


def main() -> None:
    """Write, seal and verify."""
    parser = harness.options(__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with harness.world(tenants=TENANTS) as here:
        write = WRITE.format(tenants=TENANTS, entries=chosen.entries)
        harness.owner_sql(here.database_url, write)
        harness.owner_sql(here.database_url, 'ANALYZE "AuditLog"')
        figures = [*_sealed(here, chosen.entries), *_verified(here, chosen.entries)]
    harness.report("audit", figures, as_json=chosen.json)


def _sealed(here: harness.World, entries: int) -> list[Figure]:
    postgres, began, mine = here.cpu_s()["postgres"], time.monotonic(), time.process_time()
    done = audit_sealing.sweep(audit_keys.audit_keys(SETTINGS), threading.Event())
    assert done == entries, f"{done} sealed"
    took_s = time.monotonic() - began
    spent = time.process_time() - mine + here.cpu_s()["postgres"] - postgres
    return [
        Figure("sealed", entries / took_s, "entries/s", bar=10_000, gates=True),
        Figure("CPU of sealing, with Postgres", 1e6 * spent / entries, "us an entry"),
    ]


def _verified(here: harness.World, entries: int) -> list[Figure]:
    postgres, began, mine = here.cpu_s()["postgres"], time.monotonic(), time.process_time()
    found = audit_log.verify_audit(SETTINGS)
    assert found.ok, found.faults
    assert found.entries == entries, f"{found.entries} verified"
    spent = time.process_time() - mine + here.cpu_s()["postgres"] - postgres
    per_million = 1_000_000 / entries
    return [
        Figure("verified a million", (time.monotonic() - began) * per_million, "s"),
        Figure(
            "CPU of verifying it, with Postgres",
            *(spent * per_million, "s"),
            bar=30,
            at_most=True,
            gates=True,
        ),
    ]


if __name__ == "__main__":
    main()
