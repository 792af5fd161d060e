"""Allow lists of addresses: who may come from where, and what a forged header changes."""

import pytest

from producers.accounts.client_addresses import Proxies
from producers.accounts.request_rules import network
from producers.accounts.scopes import Scope
from tests.support.commands import document, refused
from tests.support.factories import make_user, rows
from tests.support.http_api import make_key, serving
from tests.support.patience import patience, until


@pytest.fixture
def key(acme):
    """A key of an administrator of acme."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read", "keys:write")


@pytest.fixture
def root(pool):
    """A key of somebody who may act for all tenants."""
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *Scope)


def _ask(api, key, **headers):
    return api.ask("GET", "/v1/jobs", key=key, **headers)


def test_a_key_is_accepted_from_its_networks_alone_and_within_a_second(api, key, run):
    assert _ask(api, key).status == 200
    document(
        run("keys", "allow", key[:12], "--tenant", "acme", "--address", "10.0.0.0/8", "--json")
    )
    took_s = until(lambda: _ask(api, key).status == 403, 10)
    reply = _ask(api, key, X_Forwarded_For="10.0.0.1", Forwarded="for=10.0.0.1")
    document(run("keys", "allow", key[:12], "--tenant", "acme", "--anywhere", "--json"))

    assert took_s < patience(2.0)
    assert (reply.status, reply.code) == (403, "address_not_allowed")
    assert reply.document["detail"] == (
        f"Requests of the key {key[:12]} are not accepted from 127.0.0.1."
    )
    until(lambda: _ask(api, key).status == 200, 10)


@pytest.mark.parametrize("mine", ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.0/104"])
def test_both_lists_must_have_the_address(api, key, root, mine):
    path = f"/v1/keys/{key[:12]}/rule"
    other_list = {"addresses": ["10.0.0.0/8", "2001:db8::/32"]}
    put = api.ask("PUT", path, key=root, body={"addresses": [mine, "10.0.0.0/8"]})

    assert put.status == 200
    assert _ask(api, key).status == 200
    assert api.ask("PUT", "/v1/tenants/acme/rule", key=root, body=other_list).status == 200
    until(lambda: _ask(api, key).status == 403, 10)
    assert api.ask("GET", path, key=root).document == put.document
    assert _ask(api, root).status == 200


def test_only_a_trusted_proxy_is_believed_and_only_its_last_word(acme, key, root, pool, redis_url):
    behind = Proxies([network("127.0.0.0/8")])
    with serving(redis_url, proxies=behind) as api:
        rule = {"addresses": ["203.0.113.0/24", "2001:db8::/32"]}
        assert api.ask("PUT", f"/v1/keys/{key[:12]}/rule", key=root, body=rule).status == 200

        assert _ask(api, key, X_Forwarded_For="203.0.113.9").status == 200
        assert _ask(api, key, X_Forwarded_For="::ffff:203.0.113.9").status == 200
        assert _ask(api, key, X_Forwarded_For="[2001:db8::7]:443").status == 200
        assert _ask(api, key, X_Forwarded_For="198.51.100.1, 203.0.113.9, 127.0.0.9").status == 200
        assert _ask(api, key, X_Forwarded_For="203.0.113.9, 198.51.100.1").status == 403
        assert _ask(api, key, X_Forwarded_For="203.0.113.9, nobody").status == 403
        assert _ask(api, key, Forwarded="for=203.0.113.9").status == 403
        assert _ask(api, key).status == 403


def test_rules_are_set_by_commands_and_routes_and_are_in_the_audit_log(api, key, run, root):
    told = document(run("tenant", "limit", "acme", "--rate", "90/m", "--burst", "5", "--json"))
    kept = document(run("tenant", "allow", "acme", "--address", "::ffff:10.1.0.0/112", "--json"))
    shown = api.ask("GET", "/v1/tenants/acme/rule", key=root).document
    document(run("keys", "limit", key[:12], "--tenant", "acme", "--rate", "2", "--json"))
    [(first, *_), *_] = acts = rows(
        """SELECT "userId", "action", "resource", "metadata"->'after' FROM "AuditLog"
           WHERE "action" = 'requests.rule' ORDER BY "createdAt", "id" """
    )

    assert told == {"ratePerS": 1.5, "burst": 5.0, "addresses": []}
    assert kept == shown == told | {"addresses": ["10.1.0.0/16"]}
    assert first.startswith("cli:")
    assert [one[2] for one in acts] == ["Tenant", "Tenant", "ApiKey"]
    assert acts[2][3] == {"ratePerS": 2.0, "burst": 20.0, "addresses": []}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"addresses": ["10.0.0.1/8"]}, "network_refused"),
        ({"addresses": ["example.org"]}, "network_refused"),
        ({"burst": 3}, "rate_refused"),
        ({"ratePerS": 0}, "invalid_request"),
    ],
)
def test_an_invalid_rule_is_refused_and_changes_nothing(api, key, root, body, code):
    reply = api.ask("PUT", "/v1/tenants/acme/rule", key=root, body=body)

    assert (reply.status, reply.code) == (422, code)
    assert rows('SELECT * FROM "RequestRule"') == []
    assert api.ask("PUT", "/v1/tenants/acme/rule", key=key, body={}).code == "scope_missing"


@pytest.mark.parametrize(
    "options", [(), ("--rate", "1", "--default"), ("--default", "--burst", "2")]
)
def test_options_that_say_two_things_or_none_are_bad_usage(run, key, options):
    code, words = run("tenant", "limit", "acme", *options)
    assert (code, "Give --rate N/s, or --default." in words) == (2, True)
    assert "invalid network" in refused(run("tenant", "allow", "acme", "--address", "there"))
