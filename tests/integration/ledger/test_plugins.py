"""A job of your own is known wherever one of ours is, and a bad plugin is one sentence."""

import json
import os
import subprocess
import sys

import psycopg
import pytest
import redis

from shared import db
from shared.contracts import CONTRACTS
from shared.db import Role
from shared.ledger import plugin_kinds
from shared.queries.ledger import job_kinds
from tests.support.factories import make_tenant, rows
from tests.support.patience import patience
from tests.support.source_code import ROOT

PLUGIN = """
from typing import ClassVar

from shared.contracts import Contract
from shared.ledger.outbox import Lease
from workers.process.broker import actor


class PolishShoe(Contract, queue="audit"):
    \"\"\"Polish one shoe.\"\"\"

    attempts_max: ClassVar[int] = 3
    size: int


@actor(PolishShoe)
def polish_shoe(job: PolishShoe, lease: Lease) -> None:
    raise ValueError(f"size {job.size}")
"""
WORKFLOW = """
name: shoes
steps:
  polish:
    uses: polish_shoe
    with: {size: 42}
"""


@pytest.fixture
def place(pool, database_url, redis_url, tmp_path):
    """The environment of a process on the test's servers, with a plugin."""
    (tmp_path / "shoes.py").write_text(PLUGIN)
    (tmp_path / "shoes.yaml").write_text(WORKFLOW)
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "AILYDIAN_HOME": str(tmp_path),
        "AILYDIAN_SIGNING_KEY": "a key of this test, long enough",
        "AILYDIAN_PLUGINS": "shoes",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "PATH": os.environ["PATH"],
    }


@pytest.fixture
def process(place, tmp_path):
    """Run a module in a process of its own, to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env=place,
            capture_output=True,
            text=True,
            check=False,
            timeout=patience(60),
        )

    return run


@pytest.mark.parametrize(
    "command",
    [
        ["publish", "polish_shoe", "--tenant", "acme", "--payload", '{"size": 42}'],
        ["jobs", "list", "--job", "polish_shoe", "--tenant", "acme"],
        ["dead", "list", "--job", "polish_shoe"],
        ["limits", "set", "--job", "polish_shoe", "--concurrency", "2"],
        ["pause", "--job", "polish_shoe"],
        [
            *("schedule", "put", "nightly", "--tenant", "acme", "--job", "polish_shoe"),
            *("--cron", "0 3 * * *", "--payload", '{"size": 42}'),
        ],
        ["workflow", "validate", "shoes.yaml"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_every_command_knows_a_job_of_your_own(process, command):
    make_tenant("acme")

    ran = process("producers.cli", *command, "--json")

    assert (ran.returncode, ran.stderr) == (0, "")


def test_migrate_makes_it_known_to_publishers_in_sql(process):
    tenant = make_tenant("acme")
    insert = """INSERT INTO "Job" ("tenantId", "job", "payload", "key")
                VALUES (%s, 'polish_shoe', '{"size": 42}', 'k')"""
    with (
        pytest.raises(psycopg.Error, match="unknown_job"),
        db.transaction(tenant) as conn,
    ):
        conn.execute(insert, [tenant])

    assert process("producers.cli", "migrate").returncode == 0

    with db.transaction(tenant) as conn:
        conn.execute(insert, [tenant])
    assert rows('SELECT "queue", "attemptsMax" FROM "Job"') == [("audit", 3)]


def test_a_process_that_starts_tells_the_database_of_what_it_lacks_and_changes_nothing(pool):
    kinds = [
        job_kinds.JobKindRow("polish_shoe", "audit", 1, 3, "operators"),
        job_kinds.JobKindRow("probe", "ingest", 7, 99, "anyone"),
    ]

    with db.transaction(None, role=Role.RELAY) as conn:
        new = job_kinds.insert_missing(conn, kinds)

    assert new == 1
    told = rows("""SELECT "job", "queue", "audience" FROM "JobKind"
                   WHERE "job" IN ('polish_shoe', 'probe')""")
    probe = CONTRACTS["probe"]
    assert sorted(told) == [
        ("polish_shoe", "audit", "operators"),
        ("probe", probe.queue_name, probe.audience),
    ]


def test_a_database_that_cannot_be_told_is_no_reason_not_to_start(pool, monkeypatch):
    monkeypatch.setattr("shared.plugins._loaded", {"probe": CONTRACTS["probe"]})
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('ALTER TABLE "JobKind" RENAME TO "JobKindAway"')

    plugin_kinds.tell()


def test_a_relay_serves_it_at_the_redis_door_and_tells_the_database(place, redis_url):
    make_tenant("acme")
    client = redis.Redis.from_url(redis_url)
    entry = {"job": "polish_shoe", "tenant": "acme", "key": "k", "payload": '{"size": 42}'}
    client.xadd("ailydian:publish", entry)

    relay = subprocess.Popen([sys.executable, "-m", "producers.cli", "relay"], env=place)
    try:
        answered = client.blpop(["ailydian:reply:k"], patience(30))
    finally:
        relay.terminate()
        relay.wait()

    assert answered is not None
    assert json.loads(answered[1])["accepted"] is True
    assert rows("""SELECT "queue" FROM "JobKind" WHERE "job" = 'polish_shoe'""") == [("audit",)]


@pytest.mark.parametrize("module", ["workers.process.supervisor", "workers.process.main"])
def test_workers_with_a_bad_plugin_end_with_its_sentence_and_no_traceback(
    process, tmp_path, module
):
    (tmp_path / "shoes.py").write_text("import no_such_library\n")

    ran = process(module)

    assert ran.returncode == {"workers.process.main": 78}.get(module, 1)
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    told = [event["error"] for event in events if event["event"] == "worker.misconfigured"]
    assert 1 <= len(told) <= 2  # one from each of the first children
    assert "AILYDIAN_PLUGINS names 'shoes', which imports 'no_such_library'" in told[0]
    assert "Traceback" not in ran.stderr
