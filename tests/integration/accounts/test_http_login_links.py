"""Links that sign in once: printed in the terminal, stored as a hash, opened in a browser."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import db
from shared.db import Role
from tests.support.commands import document, refused
from tests.support.factories import environment, make_user, rows
from tests.support.http_api import PEPPERS, serving


@pytest.fixture
def link(run, acme):
    """Print a link for somebody, hashed as the test's server hashes. Returns its path."""
    pepper = PEPPERS.secrets[0].decode()

    def made(*arguments):
        with environment(AILYDIAN_KEY_PEPPER=pepper):
            told = document(run("console", "login", *arguments, "--json"))
        assert told["url"].startswith("http://127.0.0.1:8080/login?token=")
        return told["url"].removeprefix("http://127.0.0.1:8080"), told["user"]

    return made


def test_a_link_signs_in_once_and_is_stored_as_a_hash(api, acme, link):
    make_user(acme, "ann", role="ADMIN")
    path, user = link("--email", "Ann@example.org")
    [(stored,)] = rows('SELECT "hash" FROM "LoginLink"')
    first = api.ask("GET", path)
    shown = api.ask("GET", first.headers["location"], Cookie=first.cookies)
    second = api.ask("GET", path)

    assert path.partition("=")[2] not in stored
    assert (first.status, first.headers["location"]) == (303, "/login")
    assert "ann@example.org (ADMIN)" in shown.body.decode()
    assert api.ask("GET", "/v1/jobs", Cookie=first.cookies).status == 200
    assert (second.status, second.code, second.set_cookies) == (401, "login_wrong", {})
    assert user == "ann@example.org"
    acts = rows("""SELECT "action", "userId" FROM "AuditLog" ORDER BY "createdAt", "id" """)
    assert [one[0] for one in acts] == ["login.link", "session.create"]
    assert (acts[0][1].split(":")[0], acts[1][1]) == ("cli", "user:ann")


def test_of_many_who_open_a_link_at_once_one_is_signed_in(api, acme, link, redis_url):
    make_user(acme, "ann", role="ADMIN")
    path, _ = link("--email", "ann@example.org")
    with serving(redis_url) as other, ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda one: one.ask("GET", path).status, [api, other] * 4)]

    assert sorted(answers) == [303] + [401] * 7


def test_a_link_ends_after_ten_minutes(api, acme, link):
    make_user(acme, "ann", role="ADMIN")
    path, _ = link("--email", "ann@example.org")
    [(left_s,)] = rows('SELECT extract(epoch FROM "expiresAt" - now())::float FROM "LoginLink"')
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "LoginLink" SET "expiresAt" = now()""")

    assert 500 < left_s <= 600
    assert api.ask("GET", path).code == "login_wrong"


def test_a_page_of_another_site_and_a_prefetch_do_not_use_it(api, acme, link):
    make_user(acme, "ann", role="ADMIN")
    path, _ = link("--email", "ann@example.org")

    assert api.ask("GET", path, Sec_Fetch_Site="cross-site").code == "csrf_refused"
    assert api.ask("GET", path, Sec_Purpose="prefetch;prerender").code == "prefetch_refused"
    assert api.ask("HEAD", path).set_cookies == {}
    assert api.ask("GET", path, Sec_Fetch_Site="none").status == 303
    assert "not signed in" in api.ask("GET", "/login").body.decode()


def test_without_an_address_it_is_the_operators_who_is_created_once(api, link):
    [first, second] = [link() for _ in range(2)]
    login = api.ask("GET", second[0])

    assert first[1] == second[1] == "operator@localhost"
    assert rows('SELECT "email", "role"::text, "tenantId" FROM "User"') == [
        ("operator@localhost", "SUPER_ADMIN", None)
    ]
    assert api.ask("GET", "/v1/tenants", Cookie=login.cookies).status == 200


def test_nobodys_link_is_not_made(run, acme):
    assert "No user has the e-mail 'no@example.org'" in refused(
        run("console", "login", "--email", "no@example.org")
    )
