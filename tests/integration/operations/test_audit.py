"""The audit log: written in the act's own transaction, read by its reader alone."""

import psycopg
import pytest

from shared import db
from shared.db import Role
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import ActFilters, AuditEntry
from tests.support.factories import make_tenant


def note(tenant_id, *actions, role=Role.RELAY):
    for action in actions:
        with db.transaction(tenant_id, role=role) as conn:
            act = AuditEntry(tenant_id, "cli:ada", action, "Job", "j1", {"count": 1})
            audit_logs.insert_acts(conn, [act])


def tail(tenant_id, limit=10):
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        latest = audit_logs.select_latest(conn, ActFilters(tenant_id), limit=limit)
    return latest[::-1]


def test_the_tail_is_a_tenants_own_latest_acts_newest_last(pool):
    tenant, other = make_tenant(), make_tenant()
    note(tenant, "one", "two", "three")
    note(other, "theirs")
    note(None, "the system's")

    assert [row.action for row in tail(tenant)] == ["one", "two", "three"]
    assert [row.action for row in tail(tenant, limit=2)] == ["two", "three"]
    assert [row.action for row in tail(None)] == ["the system's"]
    assert (tail(other)[0].actor, tail(other)[0].what) == ("cli:ada", {"count": 1})
    assert tail(other)[0].created_at.utcoffset() is not None


def test_a_tenants_own_role_may_note_its_acts_and_nobody_elses(pool):
    tenant, other = make_tenant(), make_tenant()

    note(tenant, "mine", role=Role.APP)
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        db.transaction(tenant) as conn,
    ):
        audit_logs.insert_acts(conn, [AuditEntry(other, "cli:ada", "forged", "Job", None, {})])

    assert [row.action for row in tail(tenant)] == ["mine"]
    assert tail(other) == []


@pytest.mark.parametrize("statement", ['DELETE FROM "AuditLog"', 'SELECT * FROM "AuditLog"'])
def test_the_relay_can_append_and_neither_read_nor_remove(pool, statement):
    note(None, "kept")

    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        db.transaction(None, role=Role.RELAY) as conn,
    ):
        conn.execute(statement)

    assert [row.action for row in tail(None)] == ["kept"]
