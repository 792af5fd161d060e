"""The command line as people and scripts meet it: real processes, servers of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.contracts import QUEUES
from shared.ledger.wakeups import connect
from shared.servers import embedded
from shared.settings import Settings
from tests.support.patience import patience

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120
# One home with servers and workers for the module: with `-n`, in one process.
pytestmark = pytest.mark.xdist_group("the home of the commands")
STATEMENT = '{"n": 1, "mode": "statement", "note": "%s"}'


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """`ailydian` with a home of its own."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **how: Any) -> subprocess.Popen[str]:
        environment = os.environ | {"AILYDIAN_HOME": str(self.home)} | self.variables
        command = [sys.executable, "-m", "producers.cli", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **(pipes | how))

    def run(self, *arguments: str, stdin: str = "") -> Ran:
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(stdin, timeout=patience(PATIENCE_S))
            finally:
                process.kill()
        return Ran(process.returncode, out, err)

    def json(self, *arguments: str, stdin: str = "") -> Any:
        ran = self.run(*arguments, "--json", stdin=stdin)
        assert ran.code == 0, ran.err
        return ran.document


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    """A home whose servers run for the module, because `up` does."""
    home = Path(tempfile.mkdtemp(prefix="ailydian-tests-"))
    cli = Cli(home)
    with (home / "up.log").open("w") as log, cli.start("up", stderr=log) as up:
        assert up.stdout is not None
        try:
            assert json.loads(up.stdout.readline())["ready"], (home / "up.log").read_text()
            cli.json("tenant", "create", "acme")
            yield cli
        finally:
            up.send_signal(signal.SIGTERM)
            rest = up.stdout.read()
            code = up.wait(patience(PATIENCE_S))
    shutil.rmtree(home)
    assert (code, rest) == (0, ""), "SIGTERM drains, and stdout holds the one line"


@pytest.fixture
def dead_job(cli: Cli, tmp_path: Path) -> str:
    """The id of a job that is dead: a document that is none."""
    garbage = tmp_path / "garbage.pdf"
    garbage.write_bytes(b"%PDF-1.4 " + uuid.uuid4().bytes)
    ran = cli.run("ingest", str(garbage), "--tenant", "acme", "--wait", "--json")
    assert ran.code == 1, ran.err
    return ran.document["jobs"][0]


def test_a_tenant_is_made_once_whatever_is_asked_twice(cli):
    first = cli.json("tenant", "create", "twice")
    second = cli.json("tenant", "create", "twice", "--tier", "pro")

    assert (first["created"], second["created"]) == (True, False)
    assert first["id"] == second["id"]
    assert second["tier"] == "PRO"
    assert "twice" in {row["slug"] for row in cli.json("tenant", "list")}


def test_a_tenant_with_people_is_not_deleted_and_one_without_is_gone(cli):
    cli.json("tenant", "create", "crowded")
    cli.json("tenant", "create", "empty")
    cli.json("publish", "probe", "--tenant", "empty", "--wait")
    person = cli.json("user", "create", "ada@crowded.example", "--tenant", "crowded")

    refused = cli.run("tenant", "delete", "crowded", "--yes")
    deleted = cli.json("tenant", "delete", "empty", "--yes")

    assert refused.code == 1
    assert "still has 1 users" in refused.err
    assert deleted["deleted"]
    assert person["email"] in {row["email"] for row in cli.json("user", "list")}
    slugs = {row["slug"] for row in cli.json("tenant", "list")}
    assert "crowded" in slugs
    assert "empty" not in slugs


def test_a_published_job_is_done_and_its_second_copy_is_a_duplicate(cli):
    payload = STATEMENT % uuid.uuid4()

    first = cli.json("publish", "probe", "--tenant", "acme", "--payload", payload, "--wait")
    second = cli.json("publish", "probe", "--tenant", "acme", "--payload", payload, "--wait")

    assert (first["state"], first["duplicate"]) == ("COMPLETED", False)
    assert (second["id"], second["duplicate"]) == (first["id"], True)
    shown = cli.json("jobs", "show", first["id"])
    assert (shown["job"], shown["queue"], shown["attempt"]) == ("probe", "maintenance", 1)
    assert shown["payload"]["n"] == 1
    assert shown["startedAt"] <= shown["finishedAt"]
    listed = cli.json("jobs", "list", "--job", "probe", "--state", "COMPLETED", "--tenant", "acme")
    assert first["id"] in {row["id"] for row in listed}


def test_a_delayed_job_waits_and_a_cancelled_one_is_not_done(cli):
    arguments = ("publish", "probe", "--tenant", "acme", "--delay", "1h", "--key", "later")
    job_id = cli.json(*arguments)["id"]

    before = cli.json("jobs", "why", job_id)
    cancelled = cli.json("jobs", "cancel", job_id)
    again = cli.run("jobs", "cancel", job_id)

    assert before["job"]["state"] == "PENDING"
    assert before["waits"].endswith("UTC (delay)")
    assert (cancelled["state"], cancelled["was"]) == ("CANCELLED", "PENDING")
    assert again.code == 1
    assert "is CANCELLED: nothing to cancel" in again.err
    assert cli.json("jobs", "show", job_id)["state"] == "CANCELLED"


def test_a_paused_queue_keeps_its_jobs_until_it_is_resumed(cli):
    job = ("publish", "probe", "--tenant", "acme", "--key", "while-paused")
    cli.json("pause", "maintenance")
    job_id = cli.json(*job)["id"]

    paused = {row["queue"]: row for row in cli.json("queues")}
    why = cli.json("jobs", "why", job_id)
    gave_up = cli.run("drain", "maintenance", "--timeout", "100ms")
    cli.json("resume", "maintenance")
    cli.json("drain", "maintenance", "--timeout", "30s")

    assert paused["maintenance"]["paused"]
    assert not paused["audit"]["paused"]
    assert paused["maintenance"]["ready"] == 1
    assert paused["maintenance"]["oldestSeconds"] > 0
    assert paused["maintenance"]["workers"] == 2
    assert why["waits"].startswith("for an operator: `ailydian resume maintenance` (paused by cli:")
    assert gave_up.code == 1
    assert cli.json("jobs", "show", job_id)["state"] == "COMPLETED"


def test_a_dead_job_is_listed_explained_and_replayed_once_however_often_it_is_pressed(
    cli, dead_job
):
    letter = next(row for row in cli.json("dead", "list") if row["id"] == dead_job)
    dry = cli.json("dead", "replay", "--error", "corrupt_pdf", "--dry-run")
    cli.json("pause", "ingest")

    presses = [cli.start("dead", "replay", dead_job, "--json") for _ in range(3)]
    answers = []
    for press in presses:
        with press:
            answers.append(json.loads(press.communicate(timeout=patience(PATIENCE_S))[0]))
    revived = cli.json("jobs", "show", dead_job)
    cli.json("resume", "ingest")
    cli.json("drain", "ingest", "--timeout", "30s")

    assert letter["job"] == "ingest_document"
    assert letter["tenant"] == "acme"
    assert letter["error"].startswith("corrupt_pdf")
    assert dry["matched"] >= 1
    assert dry["replayed"] == 0
    assert sum(answer["replayed"] for answer in answers) == 1
    assert (revived["state"], revived["attempt"]) == ("PENDING", 0)
    why = cli.json("jobs", "why", dead_job)
    assert [attempt["verdict"] for attempt in why["attempts"]] == ["refused", "refused"]
    assert why["job"]["state"] == "DEAD"
    assert "corrupt_pdf" in cli.json("dead", "show", dead_job)["history"][0]["traceback"]


def test_a_discarded_job_is_dead_no_more(cli, dead_job):
    discarded = cli.json("dead", "discard", dead_job)

    assert discarded == {"matched": 1, "discarded": 1}
    assert cli.json("jobs", "show", dead_job)["state"] == "CANCELLED"
    assert dead_job not in {row["id"] for row in cli.json("dead", "list")}


def test_a_dead_job_is_edited_replayed_and_taken_back_and_the_audit_log_tells(cli, dead_job):
    group = next(row for row in cli.json("dead", "list", "--grouped"))
    payload = cli.json("dead", "show", dead_job)["payload"]
    refused = cli.run("dead", "edit", dead_job, "--payload", '{"nonsense": 1}')
    better = json.dumps(payload | {"title": "Mended"})
    edited = cli.json("dead", "edit", dead_job, "--payload", better)
    cli.json("pause", "ingest")

    replayed = cli.json("dead", "replay", "--fingerprint", group["fingerprint"], "--tenant", "acme")
    undone = cli.json("dead", "undo", "--all", "--queue", "ingest")
    cli.json("resume", "ingest")

    assert group["job"] == "ingest_document"
    assert group["count"] == replayed["replayed"] == undone["undone"] >= 1
    assert refused.code == 2
    assert "nonsense" in refused.err
    assert edited["changes"] == {"title": {"before": None, "after": "Mended"}}
    shown = cli.run("dead", "show", dead_job).out
    assert "Mended" in shown
    assert "attempt 1, refused" in shown
    mine = [
        row["action"]
        for row in cli.json("audit", "tail", "--tenant", "acme")
        if row["resourceId"] == dead_job or dead_job in (row["what"] or {}).get("jobs", [])
    ]
    assert mine == ["dead.edit", "dead.replay", "dead.undo"]


def test_what_was_no_message_is_shown_edited_into_one_and_sent_again(cli):
    done = cli.json("publish", "probe", "--tenant", "acme", "--key", "quarantined", "--wait")
    with embedded.use(Settings(home=cli.home)) as servers, connect(servers.redis_url) as client:
        client.rpush("ailydian:queue:maintenance", b'{"job": "torn')
        row = _quarantined(cli)
        fields = json.dumps({"job": done["id"], "attempt": 0})
        edited = cli.json("quarantine", "edit", row["id"], "--message", fields)
        sent = cli.json("quarantine", "replay", row["id"])
        again = cli.json("quarantine", "replay", row["id"])

    assert (row["reason"], row["bytes"], row["seen"]) == ("not_json", 13, 1)
    assert edited["edited"]
    assert (sent, again) == ({"matched": 1, "replayed": 1}, {"matched": 0, "replayed": 0})
    acts = [row["action"] for row in cli.json("audit", "tail", "--system")]
    assert acts[-2:] == ["quarantine.edit", "quarantine.replay"]


def test_documents_are_ingested_found_left_alone_and_deleted(cli, tmp_path):
    folder = tmp_path / "library"
    (folder / "deep").mkdir(parents=True)
    (folder / "bikes.md").write_text("# Bikes\n\nThe battery charges in four hours.\n")
    (folder / "deep" / "çay.txt").write_text("Çay, ince belli bardakta içilir.\n")
    (folder / "notes.unknown").write_text("not of a known kind")
    arguments = ("ingest", str(folder), "--tenant", "acme", "--wait")

    first = cli.json(*arguments)
    second = cli.json(*arguments)
    hits = cli.json("search", "How long does the battery charge?", "--tenant", "acme", "-k", "1")
    document = cli.json("documents", "show", hits[0]["documentId"], "--tenant", "acme")
    deleted = cli.json("documents", "delete", document["id"], "--tenant", "acme", "--wait")

    assert [row["status"] for row in first["documents"]] == ["INGESTED", "INGESTED"]
    assert [row["path"] for row in first["documents"]] == [
        f"{folder}/bikes.md",
        f"{folder}/deep/çay.txt",
    ]
    assert [row["status"] for row in second["documents"]] == ["UNCHANGED", "UNCHANGED"]
    assert second["jobs"] == []
    assert hits[0]["source"] == f"{folder}/bikes.md"
    assert hits[0]["content"] == document["chunkList"][0]["content"]
    assert document["embedded"] == document["chunks"] == 1
    assert deleted["documents"][0]["status"] == "DELETED"
    left = {row["id"] for row in cli.json("documents", "list", "--tenant", "acme")}
    assert document["id"] not in left
    assert first["documents"][1]["id"] in left


def test_batch_search_answers_every_line_by_its_id(cli, tmp_path):
    batch = tmp_path / "queries.jsonl"
    batch.write_text('{"id": "a", "text": "battery"}\n\n{"id": 7, "text": "çay"}\n')

    answer = cli.json("search", "--batch", str(batch), "--tenant", "acme")

    assert [one["id"] for one in answer] == ["a", 7]
    assert all(isinstance(one["hits"], list) for one in answer)


def test_mistakes_are_one_sentence_with_the_code_that_scripts_read(cli):
    mistakes = {
        ("publish", "probe", "--tenant", "nobody"): (2, "`ailydian tenant create nobody`"),
        ("jobs", "show", "no-such-id"): (1, "No job has the id 'no-such-id'"),
        ("dead", "replay", "no-such-id"): (1, "No job has the id 'no-such-id'"),
        ("dead", "edit", "no-such-id", "--payload", "{}"): (1, "No dead job has the id"),
        ("dead", "replay", "--all", "--stop-if-failing", "5"): (2, "needs --rate or --canary"),
        ("audit", "tail"): (2, "--tenant SLUG or --system"),
        ("dead", "list", "--error", "("): (2, "--error: invalid regular expression"),
        ("quarantine", "show", "no-such-id"): (1, "No message has the id 'no-such-id'"),
        ("documents", "show", "no-such-id", "--tenant", "acme"): (1, "has no document"),
    }

    started = {arguments: cli.start(*arguments) for arguments in mistakes}
    for arguments, (code, sentence) in mistakes.items():
        with started[arguments] as process:
            out, err = process.communicate(timeout=patience(PATIENCE_S))
            assert (process.returncode, out) == (code, ""), arguments
            assert sentence in err
            assert "Traceback" not in err


def test_a_failure_with_json_is_one_document_too(cli):
    ran = cli.run("jobs", "show", "no-such-id", "--json")

    assert ran.code == 1
    assert ran.document["error"]["code"] == "job_not_found"


def test_the_status_page_shows_queues_and_workers(cli):
    page = cli.json("status")

    assert [one["queue"] for one in page["queues"]] == list(QUEUES)
    assert len(page["workers"]) == 2
    assert page["redisAnswers"]
    assert cli.run("status").out.startswith("Postgres  ")


def test_the_database_is_what_it_should_be_after_a_second_migration(cli):
    migrated = cli.json("migrate")
    verified = cli.json("verify")

    assert migrated["applied"] == []
    assert verified["ok"]


def test_a_role_that_was_killed_is_started_again_alone(cli):
    before = _roles(cli, "relay")

    os.kill(before[0], signal.SIGKILL)
    done = cli.json("publish", "probe", "--tenant", "acme", "--key", "after-the-kill", "--wait")

    assert done["state"] == "COMPLETED"
    assert before[0] not in _roles(cli, "relay")


def _quarantined(cli: Cli) -> dict[str, Any]:
    """The one message in quarantine, once a worker has put it there."""
    deadline = time.monotonic() + patience(30)
    while time.monotonic() < deadline:
        if found := cli.json("quarantine", "list"):
            return found[0]
    raise AssertionError("nothing came into quarantine")


def _roles(cli: Cli, role: str) -> list[int]:
    """Process ids of a role that works in this home."""
    deadline = time.monotonic() + patience(30)
    while time.monotonic() < deadline:
        found = [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if role in (process.info["cmdline"] or []) and _home_of(process) == str(cli.home)
        ]
        if found:
            return found
    raise AssertionError(f"no {role} runs")


def _home_of(process: Any) -> str | None:
    try:
        return process.environ().get("AILYDIAN_HOME")
    except psutil.Error:
        return None
