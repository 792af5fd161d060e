"""Tenants are apart: in every policy, and in every function that runs as its owner."""

import psycopg
import pytest

from tests.support import isolation, isolation_functions


@pytest.fixture
def conn(database_url):
    with psycopg.connect(database_url) as connection:
        yield connection
        connection.rollback()


def test_every_policy_of_every_table_lets_through_what_it_should_and_no_more(conn):
    rows = isolation.seed(conn)

    assert "\n".join(isolation.faults(conn, rows)) == ""


def test_no_function_reaches_another_tenant(conn):
    isolation_functions.seed(conn)

    assert "\n".join(isolation_functions.faults(conn)) == ""


def test_a_tenant_that_goes_takes_no_row_of_another(conn):
    rows = isolation.seed(conn)

    assert "\n".join(isolation.faults_of_goodbye(conn, rows)) == ""


def test_another_tenants_parent_is_as_good_as_missing(conn):
    rows = isolation.seed(conn)

    assert "\n".join(isolation.faults_of_parents(conn, rows)) == ""


@pytest.mark.parametrize("role", ["nobody_of_a_test", "ailydian_audit_reader", "ailydian_platform"])
def test_a_login_without_a_grant_calls_no_function_of_a_tenant(conn, role):
    conn.execute("CREATE ROLE nobody_of_a_test")
    isolation_functions.seed(conn)
    conn.execute(psycopg.sql.SQL("SET LOCAL ROLE {}").format(psycopg.sql.Identifier(role)))
    conn.execute("SELECT set_config('app.tenant_id', 'b', true)")

    for call in (
        "ailydian_cancel_run('b-live', 'over')",
        "ailydian_start_run(NULL, 'vb', '{}', NULL, NULL, NULL, NULL, 0, NULL, NULL)",
        "ailydian_fork_run('b-done', 'one', NULL)",
        "ailydian_claim_receipt('jb', 1)",
        "ailydian_search_text('{red}', 'en', 1)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute(f"SELECT public.{call}".encode())


@pytest.mark.parametrize("column", ["state", "fence", "leaseUntil", "stepId", "attempt", "error"])
def test_the_ledgers_columns_of_a_job_are_no_tenants_to_write(conn, column):
    conn.execute("SET LOCAL ROLE ailydian_app")

    for statement in (
        f'UPDATE "Job" SET "{column}" = DEFAULT',
        f'INSERT INTO "Job" ("job", "{column}") VALUES (%s, DEFAULT)',
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute(statement.encode(), ["probe"] if "%s" in statement else None)
