"""The pool of a process that answers requests: one connection a thread, no endless statement."""

import pytest

from shared import db
from shared.errors import ServerUnavailable
from tests.support.factories import make_tenant

pytestmark = pytest.mark.usefixtures("pool")


def test_a_second_transaction_in_a_thread_of_a_server_is_a_programmers_error():
    tenant = make_tenant()
    with db.transaction(tenant), db.transaction(tenant) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    db.answer_requests(statement_s=60)
    with (
        db.transaction(tenant),
        pytest.raises(AssertionError, match="second connection"),
        db.transaction(tenant),
    ):
        pass

    with db.transaction(tenant) as conn:  # the first one's end is noticed
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_that_takes_too_long_is_ended():
    tenant = make_tenant()
    db.answer_requests(statement_s=1)

    with pytest.raises(ServerUnavailable), db.transaction(tenant) as conn:
        conn.execute("SELECT pg_sleep(60)")
