"""Requests of those who may not ask: answered before their body is read, and others meanwhile."""

import threading
import time

import pytest

from producers.accounts.sessions import ClientPlace, SessionPolicy
from producers.web.access import Keys
from producers.web.bounds import LOGIN_BYTES_MAX
from producers.web.principals import PRESENTED_CHARS_MAX, Recent
from producers.web.sessions_seen import Sessions
from tests.support.factories import make_user
from tests.support.http_api import PEPPERS, make_key
from tests.support.patience import patience, until

# Sixteen megabytes of empty lists, which are slow to make and to walk through.
HEAVY = b'{"query":[' + b"[]," * 5_500_000 + b"[]]}"
JSON = "application/json"


@pytest.mark.parametrize("path", ["/v1/search", "/v1/jobs", "/v1/schedules/x", "/v1/webhooks"])
@pytest.mark.parametrize("body", [b"{bad", HEAVY], ids=["bad", "heavy"])
def test_an_outsider_is_told_so_before_the_body_is_read(api, acme, path, body):
    method = "PUT" if path == "/v1/schedules/x" else "POST"
    began = time.monotonic()
    reply = api.ask(method, path, body=body, Content_Type=JSON)
    more = {"Content_Type": JSON, "Idempotency_Key": "x"}
    unknown = api.ask(method, path, key="aly_none", body=body, **more)

    assert (reply.status, reply.code) == (401, "unauthorized")
    assert (unknown.status, unknown.code) == (401, "unauthorized")
    assert time.monotonic() - began < patience(2)


def test_what_is_longer_than_all_keys_and_tokens_is_neither_looked_up_nor_kept():
    place = ClientPlace(None, None)
    keys, sessions = Keys(PEPPERS, None), Sessions(SessionPolicy(PEPPERS))
    key, token = "aly_" + "A" * PRESENTED_CHARS_MAX, "als_" + "A" * PRESENTED_CHARS_MAX

    assert keys.look_up(key) == "Unknown API key."  # there is no pool to ask Postgres with
    assert keys.recent.get(key) is None
    assert sessions.look_up(token, place) == "Unknown session: log in again."
    assert sessions.recent.get((token, place)) is None


def test_who_is_not_believed_any_more_is_forgotten_when_others_come():
    recent = Recent()
    for n in range(100):
        recent.keep(f"key {n}", "Unknown API key.")
    until(lambda: recent.get("key 99") is None, 10)
    recent.keep("another", "Unknown API key.")

    assert list(recent._seen) == ["another"]


def test_a_login_is_refused_what_no_login_weighs(api):
    reply = api.ask("POST", "/v1/sessions", body=b'{"email":"' + b"a" * LOGIN_BYTES_MAX + b'"}')

    assert (reply.status, reply.code) == (413, "body_too_large")


def test_a_heavy_body_keeps_nobody_waiting(api, acme):
    key = make_key(acme, make_user(acme, "bob", role="ADMIN"), "search:read")
    found = []
    sender = threading.Thread(
        target=lambda: found.append(
            api.ask("POST", "/v1/search", key=key, body=HEAVY, Content_Type=JSON)
        )
    )
    slowest = 0.0
    sender.start()
    while sender.is_alive():
        began = time.monotonic()
        assert api.ask("GET", "/health").status in {200, 503}
        slowest = max(slowest, time.monotonic() - began)
    sender.join()

    assert (found[0].status, found[0].code) == (422, "invalid_json")
    assert "more than 1,000,000 values" in found[0].document["detail"]
    assert slowest < patience(1)
