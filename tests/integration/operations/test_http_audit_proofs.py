"""The sealed audit log over HTTP: a tenant verifies and exports its own chain."""

import pytest

from producers.operations import audit_keys, audit_log, audit_verifier
from producers.web.operations import audit_proofs
from shared import db
from shared.db import Role
from shared.settings import settings
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import make_key
from tests.support.sealed_log import note, seal


@pytest.fixture
def key(pool):
    """A key of a tenant with two entries; another tenant and the system have one each."""
    tenant, other = make_tenant("acme"), make_tenant("other")
    note(tenant, "a", "b")
    note(other, "c")
    note(None, "d")
    made = make_key(tenant, make_user(tenant, role="ADMIN"), "audit:read")
    seal(audit_keys.audit_keys(settings()))
    return made


def test_a_tenant_verifies_its_own_entries(api, key):
    found = api.ask("GET", "/v1/audit/verification", key=key).document

    own = rows("""SELECT count(*) FROM "AuditSeal" WHERE "chain" = 'acme'""")
    assert (found["ok"], found["entries"], found["firstBroken"]) == (True, own[0][0], None)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "AuditLog" SET "action" = 'x' WHERE "action" IN ('b', 'c')""")

    found = api.ask("GET", "/v1/audit/verification", key=key).document
    assert (found["ok"], [fault["chain"] for fault in found["faults"]]) == (False, ["acme"])
    assert (found["firstBroken"]["seq"], found["firstBroken"]["why"]) == (
        2,
        "the entry was changed",
    )


def test_an_export_has_the_tenants_entries_alone_and_is_noted(api, key):
    reply = api.ask("GET", "/v1/audit/export", key=key)

    assert reply.headers["content-type"] == "application/jsonl"
    report = audit_verifier.verify_export(reply.body.splitlines(keepends=True), [])
    assert set(report.heads) == {"acme"}
    assert b'"other"' not in reply.body
    [(who,)] = rows("""SELECT "userId" FROM "AuditLog" WHERE "action" = 'audit.export'""")
    assert who.startswith("key:")
    early = api.ask("GET", "/v1/audit/export?until=2020-01-01T00:00:00Z", key=key)
    assert (early.status, early.code) == (409, "nothing_sealed")


def test_entries_that_lost_a_living_tenant_are_told_of(api, key):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "AuditLog" SET "tenantId" = NULL WHERE "action" = 'a'""")

    [fault] = api.ask("GET", "/v1/audit/verification", key=key).document["faults"]
    assert (fault["seq"], fault["why"]) == (1, "its tenant was removed")


def test_a_tenant_is_told_nothing_of_another_ones_chain(api, key):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "AuditChain" SET "hash" = '\\x00' WHERE "chain" = 'other'""")
        conn.execute("""UPDATE "AuditLog" SET "action" = 'x' WHERE "action" = 'c'""")

    reply = api.ask("GET", "/v1/audit/verification", key=key)
    assert reply.document["ok"]
    assert b"other" not in reply.body
    assert not audit_log.verify_audit(settings()).ok


def test_checkpoints_come_in_pages(api, key):
    note(None, "e")
    seal(audit_keys.audit_keys(settings()))

    first = api.ask("GET", "/v1/audit/checkpoints?limit=1", key=key).document
    second = api.ask(
        "GET", f"/v1/audit/checkpoints?limit=1&after={first['next']}", key=key
    ).document

    assert [one["number"] for one in (*first["items"], *second["items"])] == [1, 2]
    assert api.ask("GET", "/v1/audit/checkpoints?after=eA", key=key).code == "invalid_cursor"


def test_a_log_that_is_too_long_or_read_by_another_is_refused(api, key, monkeypatch):
    monkeypatch.setattr(audit_proofs, "ENTRIES_MAX", 1)
    for path in ("verification", "export"):
        reply = api.ask("GET", f"/v1/audit/{path}", key=key)
        assert (reply.status, reply.code) == (413, "audit_too_large")
    monkeypatch.undo()
    with audit_proofs._alone():
        for path in ("verification", "export"):
            reply = api.ask("GET", f"/v1/audit/{path}", key=key)
            assert (reply.status, reply.code) == (503, "audit_busy")
            assert reply.headers["retry-after"] == "2"
    assert api.ask("GET", "/v1/audit/verification", key=key).status == 200
