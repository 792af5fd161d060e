"""/v1/keys, tenants, users, preferences: what is done, and what nobody may give away."""

import pytest

from producers.accounts import logins
from producers.accounts.scopes import Scope, of_role
from producers.accounts.sessions import ClientPlace, SessionPolicy
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import PEPPERS, make_key


@pytest.fixture
def bob(acme):
    """A key of an administrator of acme with all that the role allows."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *of_role("ADMIN"))


@pytest.fixture
def root(pool):
    """A key of somebody who may act for all tenants."""
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *Scope)


def test_a_key_made_over_http_works_and_one_revoked_does_not(api, bob):
    body = {"name": "crm", "owner": "bob@example.org", "scopes": ["jobs:read", "keys:write"]}
    made = api.ask("POST", "/v1/keys", key=bob, body=body)
    successor = api.ask(
        "POST", f"/v1/keys/{made.document['prefix']}/rotate", key=bob, body={"overlapSeconds": 60}
    )
    revoked = api.ask("POST", f"/v1/keys/{made.document['id']}/revoke", key=bob)
    listed = api.ask("GET", "/v1/keys", key=bob).document["items"]

    assert (made.status, successor.status, revoked.status) == (201, 201, 200)
    assert api.ask("GET", "/v1/jobs", key=successor.document["key"]).status == 200
    assert api.ask("GET", "/v1/jobs", key=made.document["key"]).status == 401
    states = {one["prefix"]: one["state"] for one in listed}
    assert states[made.document["prefix"]] == "revoked"
    assert states[successor.document["prefix"]] == "live"
    assert "key" not in listed[0]


def test_no_key_gives_more_than_it_has(api, acme, bob):
    small = make_key(acme, "bob", "keys:write", "jobs:read")
    strong = {"name": "x", "owner": "bob", "scopes": ["jobs:write"]}
    prefix = bob[:12]

    assert api.ask("POST", "/v1/keys", key=small, body=strong).code == "scope_missing"
    assert api.ask("POST", f"/v1/keys/{prefix}/rotate", key=small, body={}).code == "scope_missing"


def test_a_key_is_never_kept_for_a_repetition(api, bob):
    body = {"name": "crm", "owner": "bob", "scopes": ["jobs:read"]}
    reply = api.ask("POST", "/v1/keys", key=bob, body=body, Idempotency_Key="one")

    assert (reply.status, reply.code) == (400, "idempotency_unsupported")
    assert rows('SELECT * FROM "HttpAnswer"') == []


def test_keys_and_users_of_another_tenant_are_not_there(api, acme, bob):
    other = make_tenant("other")
    eve = make_user(other, "eve", role="ADMIN")
    foreign = make_key(other, eve, "jobs:read")
    body = {"name": "x", "owner": "eve", "scopes": ["jobs:read"]}

    assert api.ask("POST", f"/v1/keys/{foreign[:12]}/revoke", key=bob).code == "key_not_found"
    assert api.ask("POST", "/v1/keys", key=bob, body=body).code == "user_not_found"
    assert api.ask("GET", "/v1/preferences/eve", key=bob).code == "user_not_found"
    users = api.ask("GET", "/v1/users", key=bob).document["items"]
    assert [one["email"] for one in users] == ["bob@example.org"]


def test_an_administrator_of_a_tenant_makes_nobody_who_stands_above(api, bob, root):
    body = {"email": "new@example.org", "role": "SUPER_ADMIN"}

    assert api.ask("POST", "/v1/users", key=bob, body=body).code == "role_refused"
    assert api.ask("POST", "/v1/users?tenant=acme", key=root, body=body).status == 201


def test_a_user_is_created_once_and_belongs_to_one_tenant(api, acme, bob, root):
    make_tenant("other")
    body = {"email": "new@example.org", "name": "New"}
    statuses = [api.ask("POST", "/v1/users", key=bob, body=body).status for _ in range(2)]
    taken = api.ask("POST", "/v1/users?tenant=other", key=root, body=body)

    assert statuses == [201, 200]
    assert (taken.status, taken.code) == (409, "user_taken")


def test_a_user_who_exists_with_another_role_is_told_of(api, bob):
    body = {"email": "cy@example.org", "role": "USER"}
    assert api.ask("POST", "/v1/users", key=bob, body=body).status == 201

    other = api.ask("POST", "/v1/users", key=bob, body=body | {"role": "ADMIN"})
    assert (other.status, other.code) == (409, "user_exists")
    assert other.document["detail"] == "cy@example.org exists, as USER: nothing was changed."
    unsaid = api.ask("POST", "/v1/users", key=bob, body={"email": "cy@example.org"})
    assert (unsaid.status, unsaid.document["role"]) == (200, "USER")


def test_tenants_are_for_those_who_may_act_for_all(api, bob, root):
    made = api.ask("PUT", "/v1/tenants/new", key=root, body={"tier": "PRO"})
    again = api.ask("PUT", "/v1/tenants/new", key=root, body={"name": "New"})
    slugs = [one["slug"] for one in api.ask("GET", "/v1/tenants", key=root).document["items"]]

    assert (made.status, again.status) == (201, 200)
    assert (again.document["name"], again.document["tier"]) == ("New", "PRO")
    assert slugs == ["acme", "new"]
    assert api.ask("GET", "/v1/tenants", key=bob).code == "scope_missing"
    assert api.ask("PUT", "/v1/tenants/NEW", key=root, body={}).code == "invalid_request"
    assert rows("""SELECT DISTINCT "userId" FROM "AuditLog" WHERE "resource" = 'Tenant' """) == [
        (f"key:{root[:12]}",)
    ]


def test_preferences_are_what_was_put_last(api, bob):
    path = "/v1/preferences/bob@example.org"
    api.ask("PUT", path, key=bob, body={"model": "local-extractive", "tokensMax": 200})
    put = api.ask("PUT", path, key=bob, body={"temperature": 0.5})
    unknown = api.ask("PUT", path, key=bob, body={"model": "none"})

    assert put.document == api.ask("GET", path, key=bob).document
    assert put.document["temperature"] == 0.5
    assert put.document["model"] is put.document["tokensMax"] is None
    assert (unknown.status, unknown.code) == (422, "model_unknown")


def test_a_change_that_is_sent_again_with_its_key_is_answered_the_same(api, acme, bob, root):
    user = {"email": "new@example.org"}
    rule = {"ratePerS": 100}
    changes = [
        ("PUT", "/v1/tenants/new", root, {}, 201),
        ("POST", "/v1/users", bob, user, 201),
        ("PUT", "/v1/tenants/acme/rule", root, rule, 200),
        ("PUT", f"/v1/keys/{bob[:12]}/rule", bob, rule, 200),
        ("DELETE", "/v1/sessions?user=bob", bob, None, 200),
        ("POST", f"/v1/keys/{make_key(acme, 'bob', 'jobs:read')[:12]}/revoke", bob, None, 200),
    ]
    for number, (method, path, key, body, status) in enumerate(changes):
        asked = {"key": key, "body": body, "Idempotency_Key": f"change-{number}"}
        first, second = (api.ask(method, path, **asked) for _ in range(2))
        assert (first.status, second.status) == (status, status), path
        assert second.body == first.body
        assert second.headers["idempotent-replayed"] == "true"
    assert api.ask("PUT", "/v1/tenants/other", key=bob, body={}).code == "scope_missing"


@pytest.mark.parametrize("kind", ["keys", "users", "sessions", "tenants"])
def test_a_list_is_read_to_its_end_page_by_page(api, acme, root, kind):
    for n in range(4):
        make_tenant(f"t{n}")
        make_key(acme, make_user(acme, f"u{n}", role="ADMIN"), "jobs:read")
        policy = SessionPolicy(PEPPERS)
        token, _ = logins.make_link(policy, f"u{n}@example.org")
        logins.by_link(policy, token, ClientPlace(None, None))
    whole = api.ask("GET", f"/v1/{kind}", key=root).document
    found, after = [], ""
    while after is not None:
        page = api.ask("GET", f"/v1/{kind}?limit=2{after}", key=root).document
        found += page["items"]
        assert len(found) <= len(whole["items"])
        after = page["next"] and f"&after={page['next']}"

    assert len(found) >= 4
    assert (found, whole["next"]) == (whole["items"], None)
