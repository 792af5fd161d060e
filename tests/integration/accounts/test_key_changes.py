"""What becomes of a key that is rotated, revoked or limited, and of those of a deleted tenant."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from producers.accounts import api_keys, request_rules, tenants
from producers.accounts.api_keys import KeyRefused
from producers.accounts.request_rules import Rate, Subject
from producers.accounts.scopes import Scope
from shared import db
from shared.db import Role
from tests.support.commands import document
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import PEPPERS, make_key
from tests.support.patience import until

RULES = 'SELECT "ratePerS", "burst", "addresses" FROM "RequestRule" WHERE "keyId" = %s'


@pytest.fixture
def key(acme):
    """A key of an administrator of acme."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read", "keys:write")


@pytest.fixture
def root(acme):
    """A key of all tenants."""
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *Scope)


def test_a_key_with_bounds_makes_no_key_and_changes_no_rule(api, acme, key, root):
    wanted = {"name": "more", "owner": "bob@example.org", "scopes": ["jobs:read"]}
    bounded = wanted | {"scopes": ["jobs:read", "keys:write"], "expiresSeconds": 600}
    made = api.ask("POST", "/v1/keys", key=key, body=bounded).document
    asked = [("POST", "/v1/keys", wanted), ("PUT", f"/v1/keys/{made['prefix']}/rule", {})]
    for method, path, body in asked:
        reply = api.ask(method, path, key=made["key"], body=body)
        assert (reply.status, reply.code) == (403, "key_bounded")
    broad = make_key(acme, make_user(acme, "ann", role="ADMIN"), "dead:read")
    beyond = api.ask("PUT", f"/v1/keys/{broad[:12]}/rule", key=key, body={"ratePerS": 1})
    assert (beyond.status, beyond.code) == (403, "scope_missing")
    assert api.ask("PUT", f"/v1/keys/{made['prefix']}/rule", key=root, body={}).status == 200


def _waiting(database_url):
    # On a connection of its own: those of the pool are in transactions.
    with psycopg.connect(database_url) as conn:
        [(count,)] = conn.execute(
            """SELECT count(*) FROM pg_stat_activity
               WHERE "wait_event_type" = 'Lock' AND "datname" = current_database()"""
        )
    return count


def _meanwhile(database_url, do, first):
    """Do something in a transaction, while another one waits for it; return what that one makes."""
    with ThreadPoolExecutor(1) as pool:
        with db.transaction(None, role=Role.OWNER) as conn:
            do(conn)
            second = pool.submit(first)
            until(lambda: second.done() or _waiting(database_url), 20)
        return second.result()


def test_a_rotated_key_is_held_to_the_rule_of_the_one_before(api, acme, key, root):
    request_rules.limit(request_rules.of_key(acme, key[:12]), Rate(5, 7))
    request_rules.allow(request_rules.of_key(acme, key[:12]), ["127.0.0.0/8", "10.0.0.0/8"])
    body = {"overlapSeconds": 60}
    made = api.ask("POST", f"/v1/keys/{key[:12]}/rotate", key=root, body=body).document

    assert rows(RULES, made["id"]) == [(5.0, 7.0, ["10.0.0.0/8", "127.0.0.0/8"])]
    assert api.ask("GET", "/v1/jobs", key=made["key"]).headers["ratelimit-limit"] == "7"


def test_a_key_of_all_tenants_is_managed_from_the_terminal(run, root):
    name = root[:12]
    limited = document(run("keys", "limit", name, "--rate", "5/s", "--json"))
    allowed = document(run("keys", "allow", name, "--address", "10.0.0.0/8", "--json"))
    successor = document(run("keys", "rotate", name, "--json"))
    revoked = document(run("keys", "revoke", name, "--json"))

    assert (limited["ratePerS"], allowed["addresses"]) == (5.0, ["10.0.0.0/8"])
    assert revoked["state"] == "revoked"
    assert rows(RULES, successor["id"]) == [(5.0, 50.0, ["10.0.0.0/8"])]


def test_the_keys_of_a_deleted_tenant_are_revoked(api, pool):
    gone, home = make_tenant("gone"), make_tenant("home")
    bound = make_key(gone, make_user(home, "root", role="SUPER_ADMIN"), "jobs:read")
    tenants.delete(gone, "gone")

    assert api.ask("GET", "/v1/jobs?tenant=home", key=bound).status == 401
    assert rows('SELECT "tenantId" FROM "RevokedKey"') == [(gone,)]
    [(what,)] = rows("""SELECT "metadata" FROM "AuditLog" WHERE "action" = 'tenant.delete' """)
    assert what["keysRevoked"] == 1


@pytest.mark.parametrize("of", ["key", "tenant"])
def test_a_rate_and_a_list_that_are_set_at_once_are_both_there(acme, key, database_url, of):
    subject = Subject(acme) if of == "tenant" else request_rules.of_key(acme, key[:12])

    def allow(conn):
        before = request_rules.lock(conn, subject)
        rule = request_rules.RequestRule(addresses=["10.0.0.0/8"])
        request_rules.put(conn, before, rule)

    _meanwhile(database_url, allow, lambda: request_rules.limit(subject, Rate(5, 7)))

    rule = request_rules.show(subject)
    assert (rule.rate_per_s, rule.addresses) == (5.0, ["10.0.0.0/8"])


def test_a_key_that_is_being_revoked_gets_no_successor(acme, key, database_url):
    def rotate():
        with suppress(KeyRefused):
            api_keys.rotate(PEPPERS, acme, key[:12], overlap_s=60)

    _meanwhile(database_url, lambda conn: api_keys.revoke(conn, acme, key[:12]), rotate)

    assert rows('SELECT count(*) FROM "ApiKey"') == [(1,)]


def test_of_rotations_at_once_one_makes_a_successor(acme, key, database_url):
    def rotate(_=None):
        with suppress(KeyRefused):
            api_keys.rotate(PEPPERS, acme, key[:12], overlap_s=60)

    with ThreadPoolExecutor(2) as pool:
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute('SELECT FROM "ApiKey" FOR NO KEY UPDATE')
            both = [pool.submit(rotate) for _ in range(2)]
            until(lambda: _waiting(database_url) == 2, 20)
        for one in both:
            one.result()

    assert rows('SELECT count(*) FROM "ApiKey"') == [(2,)]


def test_what_somebody_above_does_to_a_key_is_in_the_audit_log_of_its_tenant(api, acme, key, root):
    name = key[:12]
    api.ask("PUT", f"/v1/keys/{name}/rule", key=root, body={"ratePerS": 100})
    api.ask("POST", f"/v1/keys/{name}/rotate", key=root, body={})
    api.ask("POST", f"/v1/keys/{name}/revoke", key=root)

    acts = rows("""SELECT "action", "tenantId" FROM "AuditLog" WHERE "action" NOT LIKE '%.create'
                   ORDER BY "action" """)
    assert acts == [("key.revoke", acme), ("key.rotate", acme), ("requests.rule", acme)]


@pytest.mark.parametrize("of", ["key", "tenant"])
def test_a_rule_is_put_in_the_state_that_was_read_alone(api, acme, key, root, of):
    path = f"/v1/keys/{key[:12]}/rule" if of == "key" else "/v1/tenants/acme/rule"
    read = api.ask("GET", path, key=root).headers["etag"]
    mine = api.ask("PUT", path, key=root, body={"addresses": ["127.0.0.0/8"]}, If_Match=read)
    late = api.ask("PUT", path, key=root, body={"ratePerS": 100}, If_Match=read)
    again = {"ratePerS": 100, "addresses": ["127.0.0.0/8"]}

    assert (mine.status, late.status, late.code) == (200, 412, "precondition_failed")
    assert api.ask("GET", path, key=root).document["addresses"] == ["127.0.0.0/8"]
    tag = mine.headers["etag"]
    assert api.ask("PUT", path, key=root, body=again, If_Match=tag).status == 200


@pytest.mark.parametrize("rate", [{"ratePerS": 0.01, "burst": 865}, {"ratePerS": 0.00001}])
def test_a_burst_that_takes_more_than_a_day_to_fill_is_refused(api, acme, root, rate):
    assert api.ask("PUT", "/v1/tenants/acme/rule", key=root, body=rate).code == "rate_refused"


@pytest.mark.parametrize("columns", ['"tenantId", "keyId"', '"id"'])
def test_a_rule_of_two_or_of_nobody_is_not_stored(acme, key, columns):
    values = {'"tenantId", "keyId"': '"tenantId", "id"', '"id"': '"id"'}[columns]
    statement = f"""INSERT INTO "RequestRule" ({columns}, "setBy")
                    SELECT {values}, 'test' FROM "ApiKey" """
    with (
        pytest.raises(psycopg.errors.CheckViolation),
        db.transaction(None, role=Role.OWNER) as conn,
    ):
        conn.execute(statement)
