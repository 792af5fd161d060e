"""The numbers that a publisher in SQL gives a job: in the ranges of contracts, or refused."""

import psycopg
import pytest

from shared import db
from shared.contract import NUMBERS
from shared.db import Role
from tests.support.factories import make_tenant, rows

# The columns of a job, and what of a contract has the same range.
RANGES = {
    "timeLimitS": "time_limit_s",
    "backoffS": "backoff_s_max",
    "attemptsMax": "attempts_max",
    "schemaVersion": "schema_version",
}


def insert(role, columns):
    """Publish a probe by SQL. Returns its id."""
    columns = {"tenantId": make_tenant(), "job": "probe"} | columns
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f'INSERT INTO "Job" ({names}) VALUES ({", ".join(["%s"] * len(columns))})'
    with db.transaction(columns["tenantId"], role=role) as conn:
        [(job_id,)] = conn.execute(f'{statement} RETURNING "id"'.encode(), [*columns.values()])
        return job_id


@pytest.mark.parametrize(
    ("column", "number"),
    [
        *(("timeLimitS", one) for one in ("NaN", "Infinity", "-Infinity", 0, 1e-30, -1, 604_801)),
        *(("backoffS", one) for one in ("NaN", "Infinity", "-Infinity", -1e-30, 604_801)),
        *(("attemptsMax", one) for one in (0, -1, 1_000_001, 2**31 - 1)),
        *(("schemaVersion", one) for one in (0, -(2**31))),
    ],
)
@pytest.mark.parametrize("role", [Role.APP, Role.RELAY])
def test_a_number_that_no_contract_may_have_is_refused(pool, column, number, role):
    whole, least, most = NUMBERS[RANGES[column]]
    kind = "whole number" if whole else "number"

    with pytest.raises(psycopg.Error, match="payload_refused") as caught:
        insert(role, {"queue": "maintenance", column: number})

    assert caught.value.sqlstate == "AL002"
    assert f'"{column}" must be a {kind} from {least:,} to {most:,} (got' in str(caught.value)
    assert rows('SELECT 1 FROM "Job"') == []


@pytest.mark.parametrize("column", RANGES)
@pytest.mark.parametrize("end", [1, 2])
def test_a_number_at_the_end_of_its_range_is_accepted(pool, column, end):
    number = NUMBERS[RANGES[column]][end]

    job_id = insert(Role.APP, {"queue": "maintenance", column: number})

    stored = rows(f'SELECT "{column}" FROM "Job" WHERE "id" = %s', job_id)
    assert stored == [(pytest.approx(number),)]


@pytest.mark.parametrize(
    ("column", "number"),
    [("cost", -1), ("cost", 2**31), ("priority", 10), ("priority", -10), ("priority", "NaN")],
)
def test_a_cost_or_priority_outside_its_range_is_refused(pool, column, number):
    with pytest.raises((psycopg.DataError, psycopg.IntegrityError)):
        insert(Role.APP, {column: number})
