"""Nobody comes to more than they have: by keys of those above, or by the case of an address."""

import pytest

from producers.accounts import logins
from producers.accounts.scopes import Scope, of_role
from producers.accounts.sessions import ClientPlace, SessionPolicy
from shared import db
from shared.db import Role
from shared.errors import AilydianError
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import PEPPERS, make_key


@pytest.fixture
def root(acme):
    """A SUPER_ADMIN whose home is acme."""
    return make_user(acme, "root", role="SUPER_ADMIN")


@pytest.fixture
def key(acme):
    """A key of an administrator of acme with every scope that the role allows."""
    bob = make_user(acme, "bob", role="ADMIN")
    return make_key(acme, bob, "keys:write", "users:write", "sessions:write", "jobs:write")


def test_a_key_bound_to_a_tenant_is_at_most_its_administrators(api, key, root):
    wanted = {"name": "more", "owner": "root@example.org", "scopes": ["keys:write", "users:write"]}
    more = api.ask("POST", "/v1/keys", key=key, body=wanted).document["key"]
    evil = {"email": "evil@example.org", "role": "SUPER_ADMIN"}

    assert api.ask("POST", "/v1/users", key=more, body=evil).code == "role_refused"
    beyond = wanted | {"scopes": ["tenants:write"]}
    assert api.ask("POST", "/v1/keys", key=key, body=beyond).status in {403, 409, 422}
    job = {"job": "flip_model", "payload": {"model": "x"}}
    assert api.ask("POST", "/v1/jobs", key=more, body=job).status == 403


def test_a_stored_key_of_a_tenant_has_no_scope_of_all_tenants(api, acme, root):
    key = make_key(acme, root, "jobs:read")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "ApiKey" SET "scopes" = %s', [[str(one) for one in Scope]])

    for path in ("/v1/tenants", "/v1/quarantine"):
        assert api.ask("GET", path, key=key).status == 403
    assert api.ask("PUT", "/v1/tenants/new", key=key, body={"name": "New"}).status == 403
    assert rows("""SELECT FROM "Tenant" WHERE "slug" = 'new'""") == []


def test_a_key_of_all_tenants_is_a_super_admins(api, run, acme, key, root):
    everywhere = make_key(None, root, *Scope)
    body = {"name": "ops", "owner": "root@example.org", "scopes": ["tenants:read"]}
    made = api.ask("POST", "/v1/keys", key=everywhere, body=body).document["key"]

    assert api.ask("GET", "/v1/tenants", key=made).status == 200
    of_bob = api.ask("POST", "/v1/keys", key=everywhere, body=body | {"owner": "bob@example.org"})
    assert of_bob.code == "key_owner_refused"
    code, printed = run(
        *("keys", "create", "ops", "--owner", "root@example.org", "--scope", "queues:write")
    )
    assert code == 0, printed


def test_who_makes_users_gives_them_no_more_than_they_have(api, acme, key, root):
    small = make_key(acme, "bob", "users:write")
    everything = make_key(acme, "bob", *of_role("ADMIN"))
    admin = {"email": "new@example.org", "role": "ADMIN"}

    assert api.ask("POST", "/v1/users", key=small, body=admin).code == "scope_missing"
    assert rows("""SELECT FROM "User" WHERE "email" = 'new@example.org'""") == []
    assert api.ask("POST", "/v1/users", key=small, body={"email": "uli@example.org"}).status == 201
    assert api.ask("POST", "/v1/users", key=everything, body=admin).status == 201
    some = make_key(None, root, "users:write", *of_role("ADMIN"))
    above = {"email": "above@example.org", "role": "SUPER_ADMIN"}
    assert api.ask("POST", "/v1/users?tenant=acme", key=some, body=above).code == "scope_missing"


def test_an_address_is_one_persons_whatever_its_case(api, acme, key):
    other = make_tenant("other")
    rival = make_key(other, make_user(other, "eve", role="ADMIN"), "users:write")
    mine = {"email": "Mixed@example.org"}

    assert api.ask("POST", "/v1/users", key=key, body=mine).status == 201
    taken = api.ask("POST", "/v1/users", key=rival, body={"email": "mixed@example.org"})
    assert (taken.status, taken.code) == (409, "user_taken")
    assert "acme" not in taken.document["detail"]
    assert api.ask("POST", "/v1/users", key=key, body={"email": "mixed@example.org"}).status == 200


def test_two_people_of_one_address_log_in_by_none(acme, root):
    make_user(acme, "ann", role="USER")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "User" SET "email" = 'ROOT@example.org' WHERE "id" = 'ann'""")

    with pytest.raises(AilydianError):
        logins.make_link(SessionPolicy(PEPPERS), "root@example.org")


def test_an_administrator_neither_sees_nor_ends_sessions_of_those_above(api, acme, key, root):
    policy = SessionPolicy(PEPPERS)
    token, _ = logins.make_link(policy, "root@example.org")
    logins.by_link(policy, token, ClientPlace("10.0.0.1", "curl"))

    ended = api.ask("DELETE", "/v1/sessions?user=root@example.org", key=key)
    assert ended.document == {"revoked": 0}


def test_changing_the_agent_all_the_time_does_not_fill_the_audit_log(api, acme):
    make_user(acme, "ann", role="USER")
    policy = SessionPolicy(PEPPERS)
    token, _ = logins.make_link(policy, "ann@example.org")
    session = logins.by_link(policy, token, ClientPlace(None, None))
    for n in range(40):
        api.ask("GET", "/v1/sessions/current", key=session.token, User_Agent=f"agent {n}")

    [(moves,)] = rows("""SELECT count(*) FROM "AuditLog" WHERE "action" = 'session.move'""")
    assert 0 < moves <= 10
