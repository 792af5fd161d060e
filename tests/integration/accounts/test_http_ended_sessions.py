"""Whose sessions are ended, by whom, and where that is noted."""

import pytest

from producers.accounts import logins, sessions
from producers.accounts.scopes import Scope
from producers.accounts.sessions import ClientPlace, SessionPolicy
from producers.queries.accounts.sessions import SessionFilters
from shared import db
from shared.db import Role
from tests.support.factories import make_user, rows
from tests.support.http_api import PEPPERS, make_key

POLICY = SessionPolicy(PEPPERS)
ENDED = """SELECT "userId", "tenantId" FROM "AuditLog" WHERE "action" = 'session.revoke' """


def _log_in(name, before=None):
    token, _ = logins.make_link(POLICY, f"{name}@example.org")
    return logins.by_link(POLICY, token, ClientPlace(None, None), before=before)


@pytest.fixture
def root(acme):
    """A key of all tenants."""
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *Scope)


def test_a_session_that_ends_is_in_the_audit_log_of_its_persons_tenant(api, acme, root):
    make_user(acme, "ann")
    first = _log_in("ann")
    second = _log_in("ann", first.token)
    assert api.ask("DELETE", "/v1/sessions/current", key=second.token).status == 200
    third = _log_in("ann")
    assert api.ask("DELETE", f"/v1/sessions/{third.id}", key=root).status == 200
    _log_in("ann")
    assert api.ask("DELETE", "/v1/sessions?user=ann", key=root).document == {"revoked": 1}

    by_root = (f"key:{root[:12]}", acme)
    assert sorted(rows(ENDED)) == [by_root, by_root, ("user:ann", acme), ("user:ann", acme)]


def test_a_key_of_all_tenants_names_whose_sessions_it_ends(api, acme, root):
    make_user(acme, "ann")
    here, there = _log_in("ann"), _log_in("root")
    unnamed = api.ask("DELETE", "/v1/sessions", key=root)

    assert (unnamed.status, unnamed.code) == (422, "tenant_missing")
    assert api.ask("DELETE", "/v1/sessions?tenant=acme", key=root).document == {"revoked": 1}
    assert api.ask("GET", "/v1/jobs", key=here.token).status == 401
    assert api.ask("GET", "/v1/jobs", key=there.token).status == 200


def test_one_ends_ones_own_session_whatever_tenant_is_named(api, acme, root):
    by_id, current = _log_in("root"), _log_in("root")
    for name, session in ((by_id.id, by_id), ("current", current)):
        ended = api.ask("DELETE", f"/v1/sessions/{name}?tenant=acme", key=session.token)
        assert (ended.status, ended.document["id"]) == (200, session.id)
        assert api.ask("GET", "/v1/jobs", key=session.token).status == 401


def test_many_sessions_are_ended_in_pages(acme, root, monkeypatch):
    make_user(acme, "ann")
    for _ in range(5):
        _log_in("ann")
    monkeypatch.setattr(sessions, "PAGE_ROWS", 2)
    with db.transaction(None, role=Role.OWNER) as conn:
        assert sessions.revoke_all(conn, SessionFilters(acme)) == 5
        assert sessions.revoke_all(conn, SessionFilters(acme)) == 0
    assert len(rows(ENDED)) == 5
