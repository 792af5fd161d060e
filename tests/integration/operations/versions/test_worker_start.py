"""A worker says in one sentence that the schema is missing, older or half migrated, and ends."""

import json

import psycopg
import pytest

from producers.operations.migration import migrate
from shared import db
from shared.errors import ConfigurationBroken
from tests.support.worker_starts import start_and_wait
from workers.process import start_checks


@pytest.fixture
def check():
    """Check a database as a worker process does that starts."""

    def run(url: str) -> None:
        db.open_pool(url, size=1)
        try:
            start_checks.check()
        finally:
            db.close_pool()

    return run


def test_a_database_without_a_schema_is_named(make_database, check):
    with pytest.raises(ConfigurationBroken, match=r"^The database has no .*un `ailydian migrate`"):
        check(make_database())


def test_a_database_of_an_older_version_is_refused_until_it_is_migrated(version_1, check):
    with pytest.raises(ConfigurationBroken, match="older than this version, or half migrated"):
        check(version_1)

    migrate(version_1)

    check(version_1)


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ('DROP TABLE "JobLimitUse"', 'table "JobLimitUse"'),
        ('DROP TABLE "Publisher"', 'table "Publisher"'),
        ("DROP FUNCTION ailydian_fire_waits", "function ailydian_fire_waits"),
        ('ALTER TABLE "Publisher" DISABLE ROW LEVEL SECURITY', 'table "Publisher" has no enforced'),
    ],
)
def test_a_database_that_is_half_migrated_is_refused(make_database, check, lost, named):
    url = make_database()
    migrate(url)
    with psycopg.connect(url) as conn:
        conn.execute(lost.encode())

    with pytest.raises(ConfigurationBroken, match=named):
        check(url)


def test_a_database_of_a_newer_version_is_served(make_database, check):
    url = make_database()
    migrate(url)
    with psycopg.connect(url) as conn:
        conn.execute('CREATE TABLE "OfNextVersion" ("id" TEXT PRIMARY KEY)')
        conn.execute(
            """INSERT INTO "SchemaMigration" ("version", "sha256") VALUES ('9999_n', 'x')"""
        )

    check(url)


@pytest.mark.parametrize("module", ["workers.process.main", "workers.process.supervisor"])
def test_its_process_ends_with_that_sentence_and_no_traceback(version_1, redis_url, module):
    ended = start_and_wait(module, database_url=version_1, redis_url=redis_url)

    assert ended.returncode == {"workers.process.main": 78}.get(module, 1)
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    told = [event["error"] for event in events if event["event"] == "worker.misconfigured"]
    assert "its schema is older than this version, or half migrated" in told[0]
    assert "Traceback" not in ended.stderr
