"""Who keeps vacuum from removing dead rows: transactions and replication slots that stay open."""

from dataclasses import dataclass, replace
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Pin:
    """What holds back the horizon, below which dead rows can be removed.

    Attributes:
        kind: `transaction`, `prepared`, `slot`, or `unknown`: the login may not see who it is.
        name: The application, the prepared transaction, or the slot.
        pid: The process of the server; None of what none holds.
        database: Its database; None of a slot for the whole server.
        state: Of a transaction, such as `idle in transaction`.
        age_s: For how long; of a slot and of the unknown by the first events folded since.
        transactions: How many transactions have begun since.
    """

    kind: str
    name: str
    pid: int | None
    database: str | None
    state: str | None
    age_s: float
    transactions: int


# The roles of the ledger see nobody's transactions but their own. The login sees those of roles
# that it has, and with pg_read_all_stats or as a superuser everybody's.
BE_THE_LOGIN: Final = """
    SET LOCAL ROLE NONE
"""

BE_THE_RELAY: Final = """
    SET LOCAL ROLE ailydian_relay
"""

# A writer of any database, for a snapshot of ours lies below it; a reader of this one alone. Vacuum
# itself and this transaction hold nothing back.
SELECT_OPEN: Final = """
    SELECT 'transaction' AS "kind", coalesce(nullif(a.application_name, ''), a.backend_type)
               AS "name", a.pid, a.datname::text AS "database", a.state,
           coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), -1)::float8
               AS "age_s",
           greatest(age(a.backend_xid), age(a.backend_xmin)) AS "transactions"
    FROM pg_stat_activity a
    WHERE a.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker'
      AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL
           AND coalesce(a.datname, current_database()) = current_database())
    UNION ALL
    SELECT 'prepared', p.gid, NULL, p.database::text, NULL,
           extract(epoch FROM clock_timestamp() - p.prepared)::float8, age(p.transaction)
    FROM pg_prepared_xacts p
    UNION ALL
    SELECT 'slot', s.slot_name::text, s.active_pid, s.database::text, NULL, -1,
           greatest(age(s.xmin), age(s.catalog_xmin))
    FROM pg_replication_slots s WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
    UNION ALL
    SELECT 'unknown', 'a role that ' || current_user || ' may not see: GRANT pg_read_all_stats',
           NULL, NULL, NULL, -1, (pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                              - pg_snapshot_xmin(pg_current_snapshot())::text::bigint)::int
"""

SELECT_FOLD_AGES: Final = """
    SELECT coalesce((
        SELECT extract(epoch FROM clock_timestamp() - f."foldedAt") FROM "EventFold" f
        WHERE f."fold" > greatest(
            0, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - x.n)::text::xid8
        ORDER BY f."fold" LIMIT 1), 0)::float8 AS "age_s"
    FROM unnest(%(transactions)s::bigint[]) WITH ORDINALITY AS x(n, place) ORDER BY x.place
"""


def select_pins(conn: Connection, *, older_s: float, limit: int) -> list[Pin]:
    """Return what has held the horizon back for longer than `older_s`, the oldest first.

    Args:
        conn: A connection in the relay's role.
        older_s: Their least age, in seconds.
        limit: Maximum rows.
    """
    conn.execute(BE_THE_LOGIN)
    pins = [Pin(*row) for row in conn.execute(SELECT_OPEN)]
    conn.execute(BE_THE_RELAY)
    begun = [pin.transactions for pin in pins]
    ages = [age_s for (age_s,) in conn.execute(SELECT_FOLD_AGES, {"transactions": begun})]
    pins = [
        replace(pin, age_s=fold_s) if pin.age_s < 0 else pin
        for pin, fold_s in zip(pins, ages, strict=True)
    ]
    old = [pin for pin in pins if pin.age_s >= older_s]
    named = [pin for pin in old if pin.kind != "unknown"]
    # One that is named, or another at the same place, explains how old the snapshots are.
    found = named or [pin for pin in old if pin.transactions > 0]
    return sorted(found, key=lambda pin: -pin.age_s)[:limit]
