"""Live events of a person: they follow while the session lives, and no longer."""

from http.client import HTTPConnection

import pytest

from producers.accounts import logins, sessions
from producers.accounts.sessions import ClientPlace, SessionPolicy
from producers.queries.accounts.sessions import SessionFilters
from producers.web.streams import TICK_S
from shared import db
from shared.db import Role
from tests.support.factories import make_user
from tests.support.http_api import PEPPERS
from tests.support.patience import patience


def _follow(api, login, timeout=None):
    """Open a stream in the name of a session."""
    connection = HTTPConnection("127.0.0.1", api.port, timeout=timeout or patience(20))
    connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {login.token}"})
    return connection, connection.getresponse()


def test_a_stream_of_all_tenants_ends_when_its_person_is_no_super_admin(api):
    make_user(None, "root", role="SUPER_ADMIN")
    policy = SessionPolicy(PEPPERS)
    token, _ = logins.make_link(policy, "root@example.org")
    login = logins.by_link(policy, token, ClientPlace(None, None))
    connection, answer = _follow(api, login)
    first = answer.readline()
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "User" SET "role" = 'USER' WHERE "id" = 'root'""")
    answer.read()  # the server ends it
    connection.close()

    assert (answer.status, bool(first)) == (200, True)


def test_a_stream_ends_with_the_session_that_follows(api, acme):
    make_user(acme, "ann")
    policy = SessionPolicy(PEPPERS)
    token, _ = logins.make_link(policy, "ann@example.org")
    login = logins.by_link(policy, token, ClientPlace(None, None))
    connection, answer = _follow(api, login)
    first = answer.readline()
    other, going_on = _follow(api, login, timeout=3 * TICK_S)
    with pytest.raises(TimeoutError):  # it is looked at each second
        going_on.read()
    going_on.close()
    other.close()
    with db.transaction(None, role=Role.OWNER) as conn:
        sessions.revoke(conn, policy, SessionFilters(None, id=login.id))
    rest = answer.read()  # the server ends it
    connection.close()

    assert answer.status == 200
    assert first
    assert b"Traceback" not in rest
