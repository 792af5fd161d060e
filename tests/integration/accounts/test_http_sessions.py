"""Sessions of people: logged in by the platform's passwords, seen, moved, and ended everywhere."""

import dataclasses
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import argon2
import bcrypt
import pytest

from producers.accounts import logins, passwords
from producers.accounts.client_addresses import Proxies
from producers.accounts.logins import OF_ADDRESS, OF_PERSON
from producers.accounts.request_rules import network
from producers.accounts.sessions import SessionPolicy
from shared import db
from shared.db import Role
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import PEPPERS, make_busy, make_key, serving
from tests.support.patience import patience, until

POLICY = SessionPolicy(PEPPERS)
PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(6)).decode()


def _person(tenant_id, name, *, role="USER", password_hash=HASH):
    make_user(tenant_id, name, role=role)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "User" SET "passwordHash" = %s WHERE "id" = %s', [password_hash, name])
    return name


@pytest.fixture
def ann(acme):
    """An administrator of acme."""
    return _person(acme, "ann", role="ADMIN")


def _log_in(api, name, password=PASSWORD, **headers):
    body = {"email": f"{name}@example.org", "password": password}
    return api.ask("POST", "/v1/sessions", body=body, **headers)


def _change(api, login, method="DELETE", path="/v1/sessions/none", **headers):
    csrf = {"X_CSRF_Token": login.document["csrfToken"]} | headers
    return api.ask(method, path, Cookie=login.cookies, **{k: v for k, v in csrf.items() if v})


@pytest.mark.parametrize(
    "stored",
    [
        HASH,
        HASH.replace("$2b$", "$2a$"),
        HASH.replace("$2b$", "$2y$"),
        argon2.PasswordHasher(time_cost=1, memory_cost=1_024).hash(PASSWORD),
    ],
    ids=["2b", "2a", "2y", "argon2"],
)
def test_the_platforms_passwords_log_in_and_nothing_is_stored_that_could(api, acme, stored):
    _person(acme, "ann", password_hash=stored)
    login = _log_in(api, "ANN")
    [(token, address)] = rows('SELECT "token", "ipAddress" FROM "Session"')
    sent = login.set_cookies["ailydian_session"].split(";")[0]

    assert login.status == 201
    assert sent not in token
    assert sent not in login.body.decode()
    assert address == "127.0.0.1"
    assert api.ask("GET", "/v1/jobs", Cookie=login.cookies).status == 200
    assert api.ask("GET", "/v1/jobs", key=sent).status == 200
    assert api.ask("GET", "/v1/jobs", key=token).status == 401
    assert _log_in(api, "ann", "wrong").code == "login_wrong"


def test_cookies_are_hidden_from_scripts_and_other_sites_and_secure_off_loopback(api, ann):
    here = _log_in(api, "ann").set_cookies
    there = _log_in(api, "ann", Host="console.example.org").set_cookies
    proxied = _log_in(api, "ann", X_Forwarded_For="203.0.113.9").set_cookies

    assert here.keys() == {"ailydian_session", "ailydian_csrf"}
    assert "HttpOnly" in here["ailydian_session"]
    assert "SameSite=lax" in here["ailydian_session"]
    assert "Secure" not in here["ailydian_session"]
    assert there.keys() == proxied.keys() == {"__Host-ailydian_session", "__Host-ailydian_csrf"}
    assert all("Secure" in one and "Path=/" in one for one in there.values())
    assert not any("Domain" in one for one in there.values())
    plain = f"ailydian_session={there['__Host-ailydian_session'].split(';')[0]}"
    assert api.ask("GET", "/v1/jobs", Cookie=plain, Host="console.example.org").status == 401


def test_a_change_by_cookie_needs_the_token_of_its_own_session(api, ann):
    login, other = _log_in(api, "ann"), _log_in(api, "ann")
    bearer = login.set_cookies["ailydian_session"].split(";")[0]
    host = f"127.0.0.1:{api.port}"

    assert _change(api, login).code == "session_not_found"
    assert _change(api, login, Origin=f"http://{host}").code == "session_not_found"
    assert _change(api, login, X_CSRF_Token=None).code == "csrf_refused"
    assert _change(api, login, X_CSRF_Token="é").code == "csrf_refused"
    assert _change(api, login, X_CSRF_Token=other.document["csrfToken"]).code == "csrf_refused"
    assert _change(api, login, Origin="http://evil.example").code == "csrf_refused"
    for foreign in ("null", "http://[", f"http://{host}.evil.example"):
        assert _change(api, login, Origin=foreign).code == "csrf_refused"
    assert _change(api, login, Sec_Fetch_Site="cross-site").code == "csrf_refused"
    assert api.ask("GET", "/v1/jobs", Cookie=login.cookies).status == 200
    assert api.ask("DELETE", "/v1/sessions/none", key=bearer).code == "session_not_found"
    assert _log_in(api, "ann", Origin="http://evil.example").code == "csrf_refused"


def test_a_key_for_repeating_a_log_out_is_of_one_session(api, acme, ann):
    _person(acme, "eve")
    asked = {"Idempotency_Key": "log-out"}
    ended = []
    for name in ("ann", "eve", "ann"):
        login = _log_in(api, name)
        token = login.document["csrfToken"]
        ended.append(
            api.ask(
                "DELETE",
                "/v1/sessions/current",
                Cookie=login.cookies,
                X_CSRF_Token=token,
                **asked,
            )
        )

    assert [one.status for one in ended] == [200, 422, 422]
    assert {one.code for one in ended[1:]} == {"idempotency_key_reused"}


def test_a_login_makes_another_session_and_ends_the_one_before(api, ann):
    first = _log_in(api, "ann")
    planted = "als_" + "A" * 43
    second = _log_in(api, "ann", Cookie=first.cookies)
    third = _log_in(api, "ann", Cookie=f"ailydian_session={planted}")

    assert planted not in third.cookies
    assert second.cookies != first.cookies
    assert api.ask("GET", "/v1/jobs", Cookie=first.cookies).status == 401
    assert api.ask("GET", "/v1/jobs", Cookie=second.cookies).status == 200


def test_a_session_that_is_ended_is_refused_by_every_process_within_a_second(api, ann, redis_url):
    one, two = _log_in(api, "ann"), _log_in(api, "ann")
    with serving(redis_url) as other:
        for login in (one, two):
            assert other.ask("GET", "/v1/jobs", Cookie=login.cookies).status == 200
        ended = _change(api, two, path=f"/v1/sessions/{one.document['id']}")
        took_s = until(lambda: other.ask("GET", "/v1/jobs", Cookie=one.cookies).status == 401, 10)
        assert other.ask("GET", "/v1/jobs", Cookie=two.cookies).status == 200
        out = _change(api, two, path="/v1/sessions/current")
        assert api.ask("GET", "/v1/jobs", Cookie=two.cookies).status == 401
        until(lambda: other.ask("GET", "/v1/jobs", Cookie=two.cookies).status == 401, 10)

    assert (ended.status, ended.document["state"], out.document["state"]) == (
        200,
        "revoked",
        "revoked",
    )
    assert took_s < patience(2.0)
    assert set(out.set_cookies) == {"ailydian_session", "ailydian_csrf"}
    acts = rows("""SELECT DISTINCT "userId" FROM "AuditLog" WHERE "action" LIKE 'session.%' """)
    assert acts == [("user:ann",)]


def test_a_person_does_what_the_role_allows_in_their_own_name(api, acme, ann):
    _person(acme, "uli")
    _person(make_tenant("other"), "eve", role="ADMIN")
    admin, user, other = (_log_in(api, one) for one in ("ann", "uli", "eve"))
    probe = {"job": "probe"}

    assert _ask_as(api, admin, "POST", "/v1/jobs", probe).status == 202
    assert _ask_as(api, user, "POST", "/v1/jobs", probe).code == "scope_missing"
    assert _ask_as(api, user, "GET", "/v1/jobs").status == 200
    assert _ask_as(api, user, "GET", "/v1/users").code == "scope_missing"
    assert rows('SELECT "producer" FROM "Job"') == [("user:ann",)]
    assert [one["user"] for one in _items(api, user)] == ["uli@example.org"]
    assert {one["user"] for one in _items(api, admin)} == {"ann@example.org", "uli@example.org"}
    assert [one["user"] for one in _items(api, other)] == ["eve@example.org"]
    assert _ask_as(api, user, "GET", "/v1/sessions?user=ann").code == "role_refused"
    path = f"/v1/sessions/{admin.document['id']}"
    assert _change(api, user, path=path).code == "session_not_found"
    assert _change(api, other, path=path).code == "session_not_found"
    assert _change(api, admin, path="/v1/sessions?user=uli").document == {"revoked": 1}
    assert _ask_as(api, user, "GET", "/v1/jobs").status == 401


def test_somebody_above_all_acts_for_every_tenant_by_name(api, acme):
    _person(None, "root", role="SUPER_ADMIN")
    login = _log_in(api, "root")

    assert _ask_as(api, login, "POST", "/v1/jobs", {"job": "probe"}).code == "tenant_missing"
    assert _ask_as(api, login, "POST", "/v1/jobs?tenant=acme", {"job": "probe"}).status == 202
    assert _ask_as(api, login, "PUT", "/v1/tenants/new", {}).status == 201
    assert rows("""SELECT "userId" FROM "AuditLog" WHERE "action" = 'tenant.create' """) == [
        ("user:root",)
    ]


def test_who_belongs_to_no_tenant_is_told_so(api, pool):
    _person(None, "nobody")
    assert (_log_in(api, "nobody").status, _log_in(api, "nobody").code) == (403, "login_refused")


def test_sessions_end_when_they_are_not_used_and_after_their_time(acme, ann, redis_url, pool):
    brief = SessionPolicy(PEPPERS, idle_s=600, lasts_s=3_600)
    with serving(redis_url, policy=brief) as api:
        idle, old, used = (_log_in(api, "ann") for _ in range(3))
        _move(idle, state="""  "seenAt" = now() - interval '601 s' """)
        _move(used, state="""  "seenAt" = now() - interval '599 s' """)
        _move(old, session=""" "expiresAt" = now() AT TIME ZONE 'UTC' """)
        answers = [api.ask("GET", "/v1/jobs", Cookie=one.cookies) for one in (idle, old, used)]
        seen = rows(
            'SELECT count(*) FROM "SessionState" WHERE "seenAt" > now() - interval \'60 s\''
        )

    assert [one.status for one in answers] == [401, 401, 200]
    assert answers[0].document["detail"] == "The session is idle: log in again."
    assert answers[1].document["detail"] == "The session is expired: log in again."
    assert seen == [(2,)]  # the one that was used, and the expired one that was just made


def test_another_address_or_agent_is_in_the_audit_log_once(acme, ann, redis_url, pool):
    with serving(redis_url, proxies=Proxies([network("127.0.0.0/8")])) as api:
        first = {"X_Forwarded_For": "203.0.113.1", "User_Agent": "Firefox"}
        login = _log_in(api, "ann", **first)
        for moved in (first, first | {"X_Forwarded_For": "203.0.113.2"}):
            for _ in range(2):
                assert api.ask("GET", "/v1/jobs", Cookie=login.cookies, **moved).status == 200

    [(who, address, what)] = rows(
        """SELECT "userId", "ipAddress", "metadata" FROM "AuditLog"
           WHERE "action" = 'session.move' """
    )
    assert (who, address) == ("user:ann", "203.0.113.2")
    assert what["before"]["address"] == "203.0.113.1"


def test_the_platforms_sessions_are_accepted_and_never_written(acme, ann, redis_url, pool):
    digest = hashlib.sha256(b"theirs").hexdigest()
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "Session" ("id", "userId", "token", "expiresAt")
               VALUES ('s1', 'ann', %s, now() + interval '1 day'),
                      ('s2', 'ann', 'plain one', now() + interval '1 day')""",
            [digest],
        )
    before = rows('SELECT "Session".*, "xmin"::text FROM "Session" ORDER BY "id"')
    answers = {}
    for platform_hash in (None, "sha256", "plain"):
        policy = dataclasses.replace(POLICY, platform_hash=platform_hash)
        with serving(redis_url, policy=policy) as api:
            answers[platform_hash] = [
                api.ask("GET", "/v1/jobs", key=one).status for one in ("theirs", "plain one")
            ]
            if platform_hash == "sha256":
                assert api.ask("DELETE", "/v1/sessions/s1", key="theirs").status == 200
                assert api.ask("GET", "/v1/jobs", key="theirs").status == 401

    assert answers == {None: [401, 401], "sha256": [200, 401], "plain": [401, 200]}
    assert rows('SELECT "Session".*, "xmin"::text FROM "Session" ORDER BY "id"') == before


def test_a_stored_hash_is_not_a_token(acme, ann, redis_url, pool):
    with serving(redis_url, policy=dataclasses.replace(POLICY, platform_hash="plain")) as api:
        _log_in(api, "ann")
        [(stored,)] = rows('SELECT "token" FROM "Session"')
        assert api.ask("GET", "/v1/jobs", key=stored).status == 401


def test_failures_of_a_person_are_counted_over_all_processes(api, ann, redis_url):
    with serving(redis_url) as other:
        found = [_log_in(one, "ann", "wrong").status for one in [api, other] * 6]
        right = _log_in(other, "ann")

    assert found == [401] * int(OF_PERSON.burst) + [429] * (12 - int(OF_PERSON.burst))
    assert (right.status, right.code) == (429, "login_throttled")
    assert 0 < int(right.headers["retry-after"]) <= 60


def test_failures_of_a_person_are_counted_however_their_address_is_written(api, acme):
    _person(acme, "jill")
    spelled = ["jill", "j\u0130ll", "JILL"] * 4
    found = [_log_in(api, name, "wrong").status for name in spelled]

    assert found.count(429) == len(spelled) - int(OF_PERSON.burst)


def test_failures_from_an_address_are_counted_whoever_is_tried(api, ann):
    found = [_log_in(api, f"no{n}", "wrong").status for n in range(int(OF_ADDRESS.burst) + 1)]

    assert found == [401] * int(OF_ADDRESS.burst) + [429]
    assert "no1" not in str(rows('SELECT "subject" FROM "RequestBucket"'))


def test_logins_that_succeed_are_not_counted(api, ann):
    assert {_log_in(api, "ann").status for _ in range(15)} == {201}


@pytest.mark.parametrize(
    "stored",
    [
        bcrypt.hashpw(b"x", bcrypt.gensalt(9)).decode(),
        argon2.PasswordHasher(time_cost=4).hash("x"),
    ],
    ids=["bcrypt", "argon2"],
)
def test_a_login_takes_as_long_for_nobody(acme, stored):
    def cpu_s(held, other):
        took = []
        for _ in range(5):
            began = time.process_time()
            assert not passwords.fits("wrong", held, other=other)
            took.append(time.process_time() - began)
        return min(took)

    known = cpu_s(stored, stored)
    assert cpu_s(None, stored) == pytest.approx(known, rel=0.25)
    assert cpu_s("!", stored) == pytest.approx(known, rel=0.25)
    assert known > 0.01


def test_nobodys_login_does_the_work_that_the_platform_asks_for(api, acme):
    _person(acme, "ann", password_hash=bcrypt.hashpw(b"x", bcrypt.gensalt(11)).decode())
    logins._any_hash = logins._AnyHash()

    def took_s(name):
        found = []
        for _ in range(4):
            began = time.monotonic()
            assert _log_in(api, name, "wrong").status == 401
            found.append(time.monotonic() - began)
        return min(found)

    known, unknown = took_s("ann"), took_s("nobody")
    assert unknown == pytest.approx(known, rel=0.5)
    assert unknown > 0.05


def test_logins_leave_the_loop_to_others(api, acme):
    make_busy(acme)
    _person(acme, "ann", password_hash=bcrypt.hashpw(b"x", bcrypt.gensalt(12)).decode())
    key = make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read")
    with ThreadPoolExecutor(6) as pool:
        tries = [pool.submit(_log_in, api, "ann", "wrong") for _ in range(6)]
        answered = 0
        while not all(one.done() for one in tries):
            assert api.ask("GET", "/v1/jobs", key=key).status == 200
            answered += 1
    assert {one.result().status for one in tries} == {401}
    assert answered > 6


def _ask_as(api, login, method, path, body=None):
    csrf = login.document["csrfToken"]
    return api.ask(method, path, body=body, Cookie=login.cookies, X_CSRF_Token=csrf)


def _items(api, login):
    return _ask_as(api, login, "GET", "/v1/sessions").document["items"]


def _move(login, *, session=None, state=None):
    with db.transaction(None, role=Role.OWNER) as conn:
        changes = ((session, "Session", "id"), (state, "SessionState", "sessionId"))
        for change, table, column in changes:
            if change:
                statement = f'UPDATE "{table}" SET {change} WHERE "{column}" = %s'
                conn.execute(statement, [login.document["id"]])
