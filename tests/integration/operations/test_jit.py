"""Nothing of ours is compiled: before PostgreSQL 18 that made statements far slower."""

import psycopg
import pytest

from shared import db
from shared.db import Role
from tests.support.factories import make_tenant


@pytest.fixture
def pool(database_url):
    """A pool on a server that compiles what is costly, as Postgres does by default."""
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {name} SET jit = on")
    yield db.open_pool(database_url)
    db.close_pool()


@pytest.mark.parametrize("role", Role)
def test_a_transaction_of_each_role_has_jit_off(pool, role):
    with db.transaction(None, role=role) as conn:
        found = conn.execute("SHOW jit").fetchone()

    assert found == ("off",)


def test_a_call_in_one_round_trip_has_jit_off(pool):
    assert db.call(make_tenant(), "SELECT current_setting('jit')", {}) == "off"


def test_what_switches_plans_off_by_itself_switches_jit_off(pool):
    with db.transaction(None, role=Role.OWNER) as conn:
        found = conn.execute("""
            SELECT count(*) FILTER (WHERE 'enable_seqscan=off' = ANY (proconfig)),
                   count(*) FILTER (WHERE 'enable_seqscan=off' = ANY (proconfig)
                                    AND NOT 'jit=off' = ANY (proconfig))
            FROM pg_proc WHERE proname LIKE 'ailydian%'
        """).fetchone()

    assert found[0] >= 20
    assert found[1] == 0
