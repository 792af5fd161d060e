"""Logging in at a provider: a browser goes there and comes back, and lies are noticed."""

import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from joserfc import jwk

from producers.accounts import openid
from producers.accounts.openid import OpenIdClient
from shared.egress.targets import EgressPolicy
from shared.errors import ConfigurationBroken
from shared.settings import Settings
from tests.support import openid_provider
from tests.support.factories import make_user, rows
from tests.support.http_api import PEPPERS, serving
from tests.support.openid_provider import CLIENT, SECRET

CALLBACK = "http://127.0.0.1/login/callback"


@pytest.fixture
def provider():
    with openid_provider.running("Ann@example.org") as found:
        yield found


@pytest.fixture
def api(acme, provider, pool, redis_url):
    """The API, for which the provider's address is exempt from the rules of egress."""
    make_user(acme, "ann", role="ADMIN")
    place = urlsplit(provider.issuer)
    egress = EgressPolicy(allow=frozenset({(place.hostname, place.port)}))
    client = OpenIdClient(provider.issuer, CLIENT, SECRET, CALLBACK, egress)
    with serving(redis_url, provider=client) as found:
        yield found


def _begin(api):
    """Where the browser is sent to, and the answer with its cookie."""
    begun = api.ask("GET", "/login/openid")
    assert begun.status == 303, begun.body
    return begun.headers["location"], begun


def _visit(address):
    """The path at our server to which the provider sends the browser back."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.netloc, timeout=20)
    connection.request("GET", f"{parts.path}?{parts.query}")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.getheader("Location").removeprefix("http://127.0.0.1")


def _log_in(api):
    address, begun = _begin(api)
    return api.ask("GET", _visit(address), Cookie=begun.cookies)


def test_a_person_of_the_provider_is_signed_in_as_the_user_with_that_address(api, provider):
    done = _log_in(api)
    again = _log_in(api)
    what = rows("""SELECT "metadata"->>'by' FROM "AuditLog" WHERE "action" = 'session.create' """)

    assert (done.status, done.headers["location"]) == (303, "/login")
    assert api.ask("GET", "/v1/jobs", Cookie=done.cookies).status == 200
    assert "ann@example.org" in api.ask("GET", "/login", Cookie=done.cookies).body.decode()
    assert again.status == 303
    assert what == [("openid",), ("openid",)]
    assert provider.asked.count("/keys") == 1


def test_a_browser_that_did_not_begin_the_login_does_not_end_it(api, provider):
    address, begun = _begin(api)
    _, other = _begin(api)
    back = _visit(address)

    assert api.ask("GET", back).code == "login_wrong"
    assert api.ask("GET", back, Cookie=other.cookies).code == "login_wrong"
    forged = begun.cookies.replace(".", "x.", 1)
    assert api.ask("GET", back, Cookie=forged).code == "login_wrong"
    assert "/token" not in provider.asked
    assert api.ask("GET", back, Cookie=begun.cookies).status == 303
    assert api.ask("GET", back, Cookie=begun.cookies).code == "login_wrong"
    assert rows('SELECT count(*) FROM "Session"') == [(1,)]


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "http://evil.example"},
        {"aud": "somebody else"},
        {"aud": [CLIENT, "somebody else"]},
        {"aud": [CLIENT, "somebody else"], "azp": "somebody else"},
        {"azp": "somebody else"},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"nonce": "another login's"},
        {"nonce": None},
        {"email_verified": False},
        {"email_verified": None},
        {"email": None},
        {"email": "nobody@example.org"},
    ],
)
def test_a_token_that_says_something_else_signs_nobody_in(api, provider, change):
    provider.change = change
    reply = _log_in(api)

    assert (reply.status, reply.code) == (401, "login_wrong")
    assert reply.set_cookies == {}
    assert rows('SELECT * FROM "Session"') == []


def test_a_token_that_is_not_signed_by_a_key_of_the_provider_signs_nobody_in(api, provider):
    right, published = provider.key, provider.published
    lies = [
        (jwk.ECKey.generate_key("P-256", {"kid": right.kid}), "ES256"),
        (right, "none"),
        (jwk.OctKey.import_key(SECRET * 3, {"kid": right.kid}), "HS256"),
    ]
    for key, algorithm in lies:
        provider.key, provider.algorithm = key, algorithm
        assert _log_in(api).code == "login_wrong"

    provider.key, provider.algorithm, provider.published = right, "ES256", published
    assert _log_in(api).status == 303


def test_keys_that_were_changed_are_fetched_again_and_not_for_each_forgery(
    api, provider, monkeypatch
):
    assert _log_in(api).status == 303
    provider.rotate()
    assert _log_in(api).code == "login_wrong"
    asked = provider.asked.count("/keys")
    monkeypatch.setattr(openid, "KEYS_AGAIN_S", 0.0)
    assert _log_in(api).status == 303

    assert asked == 1
    assert provider.asked.count("/keys") == 2


def test_a_provider_that_calls_itself_otherwise_is_not_asked(api, provider):
    provider.called = "http://evil.example"
    reply = api.ask("GET", "/login/openid")

    assert (reply.status, reply.code) == (502, "provider_refused")


def test_a_refusal_of_the_provider_is_told(api):
    reply = api.ask("GET", "/login/callback?error=access_denied&state=x")
    assert (reply.status, reply.code) == (401, "login_wrong")
    assert "access_denied" in reply.document["detail"]


def test_the_provider_is_asked_by_the_rules_of_egress(acme, provider, pool, redis_url):
    client = OpenIdClient(provider.issuer, CLIENT, SECRET, CALLBACK, EgressPolicy())
    with serving(redis_url, provider=client) as api:
        reply = api.ask("GET", "/login/openid")
    with serving(redis_url) as without:
        missing = without.ask("GET", "/login/openid")

    assert (reply.status, reply.code) == (503, "provider_unavailable")
    assert provider.asked == []
    assert (missing.status, missing.code) == (404, "provider_missing")


def test_a_login_that_was_begun_long_ago_is_over():
    flow = openid.LoginFlow("s", "n", "v", until=time.time() + 10)
    kept = openid.sealed(PEPPERS, flow)

    assert openid.opened(PEPPERS, kept, state="s", now=time.time()) == flow
    with pytest.raises(openid.LoginProviderRefused):
        openid.opened(PEPPERS, kept, state="s", now=time.time() + 11)


def test_settings_that_name_half_a_provider_are_refused():
    assert openid.client(Settings()) is None
    with pytest.raises(ConfigurationBroken, match="AILYDIAN_OIDC_ISSUER"):
        openid.client(Settings(oidc_issuer="https://id.example.org"))
