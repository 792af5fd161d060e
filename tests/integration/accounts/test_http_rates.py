"""Rates of requests: what passes is what the rate allows, over all processes, and no more."""

import time

import pytest

from producers.accounts import request_rules
from producers.accounts.request_rules import Rate, Subject
from producers.accounts.scopes import Scope
from tests.support import floods
from tests.support.factories import make_tenant, make_user, rows
from tests.support.floods import flood
from tests.support.http_api import make_key, serving
from tests.support.patience import patience, until

EXACT = 0.02


@pytest.fixture
def key(acme):
    """A key of an administrator of acme."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read", "keys:write")


@pytest.fixture
def root(pool):
    """A key of somebody who may act for all tenants."""
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *Scope)


def test_two_servers_let_through_what_one_rate_allows(api, acme, key, redis_url):
    request_rules.limit(Subject(acme), Rate(40, 100))
    with serving(redis_url) as other:
        ports = [api.port, other.port]
        flood(ports, key, seconds=2.0)  # the burst is gone
        began = time.monotonic()
        found = flood(ports, key, seconds=8.0)
        allowed = 40 * (time.monotonic() - began)

    assert found.keys() == {404, 429}
    assert found[404] == pytest.approx(allowed, rel=EXACT)
    assert found[429] > found[404]


def test_what_one_server_does_not_use_another_finds(api, acme, key, redis_url):
    with serving(redis_url) as other:
        request_rules.limit(Subject(acme), Rate(0.002, 100))
        first = flood([other.port], key, seconds=0.3, threads=1)
        until(lambda: flood([api.port], key, seconds=0.5)[404] == 0, 10)
        left = rows('SELECT "tokens" FROM "RequestBucket"')

    assert first[404] > 0
    assert left[0][0] < 1


def test_an_answer_tells_what_is_left_and_a_refusal_when_to_ask_again(api, acme, key):
    request_rules.limit(Subject(acme), Rate(0.5, 2))
    first, second, third = (api.ask("GET", "/v1/jobs/none", key=key) for _ in range(3))

    assert (first.status, second.status) == (404, 404)
    assert first.headers["ratelimit-limit"] == "2"
    assert [one.headers["ratelimit-remaining"] for one in (first, second, third)] == ["1", "0", "0"]
    assert int(second.headers["ratelimit-reset"]) in {3, 4}
    assert (third.status, third.code) == (429, "rate_limited")
    assert third.document["detail"] == "The tenant makes more than 0.5 requests a second."
    assert third.headers["retry-after"] in {"1", "2"}


def test_a_key_has_a_rate_of_its_own_beside_its_tenants(api, acme, key):
    other = make_key(acme, "bob", "jobs:read")
    request_rules.limit(request_rules.of_key(acme, other[:12]), Rate(0.001, 1))
    statuses = [api.ask("GET", "/v1/jobs/none", key=other).status for _ in range(2)]
    refused_again = api.ask("GET", "/v1/jobs/none", key=other)

    assert statuses == [404, 429]
    assert refused_again.document["detail"].startswith("The key makes more than")
    assert api.ask("GET", "/v1/jobs/none", key=key).status == 404


def test_a_tier_sets_the_rate_and_a_change_is_followed_within_a_second(api, acme, key, run, root):
    limits = {}
    for tier in ("FREE", "PRO", "ENTERPRISE"):
        api.ask("PUT", "/v1/tenants/acme", key=root, body={"tier": tier})
        wanted = str(int(request_rules.TIER_RATES[tier].burst))
        took_s = until(
            lambda wanted=wanted: (
                wanted == api.ask("GET", "/v1/jobs/none", key=key).headers["ratelimit-limit"]
            ),
            5,
        )
        limits[tier] = took_s

    assert max(limits.values()) < patience(2.0)
    assert "ratelimit-limit" not in api.ask("GET", "/v1/tenants", key=root).headers


def test_a_flood_of_one_tenant_leaves_the_others_their_time(api, acme, key):
    other = make_tenant("other")
    theirs = make_key(other, make_user(other, "eve", role="ADMIN"), "jobs:read")
    request_rules.limit(Subject(other), Rate(10_000, 100_000))
    quiet_s = floods.ended(floods.start("p99_s", api.port, theirs))

    request_rules.limit(Subject(acme), Rate(20, 20))
    flooding = floods.start("flood", api.port, key, seconds=patience(5), threads=8)
    until(lambda: api.ask("GET", "/v1/jobs/none", key=key).status == 429, 20)
    beside_s = floods.ended(floods.start("p99_s", api.port, theirs))
    statuses = floods.ended(flooding)

    assert statuses["429"] > 10 * statuses["404"]
    assert beside_s < 0.005 + 2 * quiet_s
