"""API keys as services use them: made, refused, rotated, revoked, and what they may reach."""

import time

import pytest

from producers.web.principals import KNOWN_S
from shared import db
from shared.db import Role
from tests.support.commands import document, refused
from tests.support.factories import make_tenant, make_user, publish_probe, rows
from tests.support.http_api import PEPPERS, make_key
from tests.support.patience import until

UNKNOWN = "aly_AAAAAAAA_" + "A" * 43 + "kUSdgc"  # its checksum may be right or wrong: nobody has it


@pytest.fixture
def bob(acme):
    """An administrator of acme. Returns his id."""
    return make_user(acme, "bob", role="ADMIN")


def _create(run, *options):
    arguments = ("keys", "create", "crm", "--tenant", "acme", "--owner", "bob", *options)
    return document(run(*arguments, "--json"))


def test_a_key_is_shown_once_and_stored_as_a_hash(run, bob):
    made = _create(run, "--scope", "jobs:write", "--scope", "jobs:read", "--expires", "90d")
    [listed] = document(run("keys", "list", "--tenant", "acme", "--json"))
    [(stored,)] = rows('SELECT "keyHash" FROM "ApiKey"')

    assert made["key"].startswith(made["prefix"])
    assert made["key"] not in stored
    assert "key" not in listed
    assert listed["scopes"] == ["jobs:read", "jobs:write"]
    assert (listed["state"], listed["owner"]) == ("live", "bob@example.org")
    [(action, what)] = rows('SELECT "action", "metadata"::text FROM "AuditLog"')
    assert action == "key.create"
    assert made["key"] not in what


@pytest.mark.parametrize(
    ("scope", "words"),
    [("jobs:writ", "Unknown scope"), ("queues:write", "The role ADMIN of the key's owner")],
)
def test_a_key_that_could_do_nothing_is_not_made(run, bob, scope, words):
    arguments = ("--tenant", "acme", "--owner", "bob", "--scope", scope)
    assert words in refused(run("keys", "create", "crm", *arguments))


def test_a_rotated_key_goes_on_for_its_overlap_and_has_one_successor(run, bob):
    old = _create(run, "--scope", "jobs:read")
    new_key = document(run("keys", "rotate", old["prefix"], "--tenant", "acme", "--json"))
    states = {one["prefix"]: one for one in document(run("keys", "list", "--json"))}

    assert states[old["prefix"]]["state"] == states[new_key["prefix"]]["state"] == "live"
    assert states[old["prefix"]]["expiresAt"] is not None
    assert states[new_key["prefix"]]["expiresAt"] is None
    assert new_key["scopes"] == ["jobs:read"]
    assert "has 2 live keys" in refused(run("keys", "rotate", old["prefix"], "--tenant", "acme"))


def test_a_key_of_another_tenant_is_not_found(run, bob):
    make_tenant("other")
    made = _create(run, "--scope", "jobs:read")

    assert "No API key" in refused(run("keys", "revoke", made["prefix"], "--tenant", "other"))


@pytest.mark.parametrize("key", [None, "aly_", UNKNOWN, "Bearer", "é" * 40, "x" * 5_000])
def test_who_has_no_key_that_we_know_is_told_how_to_get_in(api, key):
    reply = api.ask("GET", "/v1/jobs", key=key and key.encode().decode("latin-1"))

    assert (reply.status, reply.code) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_scope_that_the_key_lacks_is_named(api, acme, bob):
    key = make_key(acme, bob, "jobs:read")
    reply = api.ask("POST", "/v1/jobs", key=key, body={"job": "probe", "payload": {}})

    assert (reply.status, reply.code) == (403, "scope_missing")
    assert "jobs:write" in reply.document["detail"]


def test_the_role_of_the_owner_bounds_the_key_at_once(api, acme, bob):
    key = make_key(acme, bob, "jobs:write")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "User" SET "role" = 'USER' WHERE "id" = 'bob'""")
    reply = api.ask("POST", "/v1/jobs", key=key, body={"job": "probe", "payload": {}})

    assert (reply.status, reply.code) == (403, "scope_missing")


@pytest.mark.parametrize(
    ("end", "word"),
    [
        ("""INSERT INTO "RevokedKey" ("keyId", "revokedBy") SELECT "id", 'test' FROM "ApiKey" """,
         "revoked"),
        ("""UPDATE "ApiKey" SET "expiresAt" = now() AT TIME ZONE 'UTC' """, "expired"),
    ],
)  # fmt: skip
def test_a_key_that_has_ended_works_no_longer_than_a_second(api, acme, bob, end, word):
    key = make_key(acme, bob, "jobs:read")
    assert api.ask("GET", "/v1/jobs", key=key).status == 200
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(end)
    began = time.monotonic()
    until(lambda: api.ask("GET", "/v1/jobs", key=key).status == 401, 10)
    took_s = time.monotonic() - began

    assert word in api.ask("GET", "/v1/jobs", key=key).document["detail"]
    assert took_s < KNOWN_S + until(lambda: api.ask("GET", "/health").status == 200) + 1


def test_a_key_of_one_tenant_reaches_nothing_of_another(api, acme, bob):
    other = make_tenant("other")
    foreign = publish_probe(other)
    key = make_key(acme, bob, "jobs:read", "jobs:write")

    assert api.ask("GET", "/v1/jobs", key=key).document["items"] == []
    assert api.ask("GET", f"/v1/jobs/{foreign}", key=key).code == "job_not_found"
    assert api.ask("POST", f"/v1/jobs/{foreign}/cancel", key=key).code == "job_not_found"
    named = api.ask("GET", "/v1/jobs?tenant=other", key=key)
    unknown = api.ask("GET", "/v1/jobs?tenant=nobody", key=key)
    assert named.code == unknown.code == "tenant_not_found"
    assert api.ask("GET", "/v1/jobs?tenant=acme", key=key).status == 200


def test_a_key_for_all_tenants_names_the_one_it_writes_for(api, acme):
    publish_probe(acme)
    root = make_user(None, "root", role="SUPER_ADMIN")
    key = make_key(None, root, "jobs:read", "jobs:write")
    body = {"job": "probe", "payload": {"n": 1}}

    assert len(api.ask("GET", "/v1/jobs", key=key).document["items"]) == 1
    assert api.ask("POST", "/v1/jobs", key=key, body=body).code == "tenant_missing"
    assert api.ask("POST", "/v1/jobs?tenant=acme", key=key, body=body).status == 202


def test_what_a_key_is_used_for_is_noted_without_a_write_a_request(api, acme, bob):
    key = make_key(acme, bob, "jobs:read")
    for _ in range(20):
        api.ask("GET", "/v1/jobs", key=key)
    [(used,)] = rows('SELECT "lastUsedAt" IS NOT NULL FROM "ApiKey"')
    [(writes,)] = rows("""SELECT "xmin"::text::bigint FROM "ApiKey" """)
    api.ask("GET", "/v1/jobs", key=key)

    assert used
    assert rows("""SELECT "xmin"::text::bigint FROM "ApiKey" """) == [(writes,)]


def test_a_key_that_the_platform_stored_is_accepted_by_its_own_hash(acme, bob):
    from producers.accounts import api_keys  # noqa: PLC0415 - the lookup alone

    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "ApiKey" ("userId", "tenantId", "name", "prefix", "keyHash", "scopes")
               VALUES ('bob', %s, 'theirs', 'pk', encode(sha256('pk_theirs'), 'hex'), '{jobs:read}')
            """,
            [acme],
        )

    assert api_keys.look_up(PEPPERS, "pk_theirs", platform_hash=None) is None
    assert api_keys.look_up(PEPPERS, "pk_theirs", platform_hash="plain") is None
    found = api_keys.look_up(PEPPERS, "pk_theirs", platform_hash="sha256")
    assert found is not None
    assert found[0].scopes == ["jobs:read"]


def test_a_stored_hash_is_not_a_key(acme, bob):
    from producers.accounts import api_keys  # noqa: PLC0415 - the lookup alone

    made = make_key(acme, bob, "jobs:read")
    [(stored,)] = rows('SELECT "keyHash" FROM "ApiKey"')

    assert api_keys.look_up(PEPPERS, made, platform_hash="plain") is not None
    assert api_keys.look_up(PEPPERS, stored, platform_hash="plain") is None
