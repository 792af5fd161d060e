"""`jobs why`, `jobs cancel`, `batches` and `events`, as an operator uses them."""

import json
import re
from datetime import datetime, timedelta

import pytest

from producers.ledger import event_counters
from producers.queries.ledger import job_history
from producers.queries.ledger.job_history import UnfinishedFilters
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.ledger.outbox import current_job, producer
from shared.queries.ledger import attempts
from shared.queries.ledger.attempts import AttemptFailure
from tests.support.commands import document
from tests.support.factories import (
    claim,
    job,
    make_tenant,
    publish_jobs,
    publish_probe,
    rows,
    waiting,
    wake,
)

pytestmark = pytest.mark.usefixtures("acme")


PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PUBLISH = ("batches", "publish", "-", "--tenant", "acme", "--job", "probe", "--name", "letters")


def fail(job_id, *, dead=False, **more):
    (lease,) = claim(job_id)
    ending = AttemptFailure(
        lease.job_id, lease.fence, "crashed", "WorkerDied", "it died", None, **more
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        if dead:
            attempts.bury(conn, ending, reason="poison")
        else:
            attempts.retry(conn, ending, delay_s=0)


def follow_up_of(job_id):
    """Complete a job that publishes one more while it runs."""
    (lease,) = claim(job_id)
    token = current_job.set(job_id)
    child = publish_probe("acme")
    current_job.reset(token)
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, [(lease.job_id, lease.fence)])
    return child


def complete_all():
    for lease in claim(*waiting()):
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(lease.job_id, lease.fence)])
    with db.transaction(None, role=Role.RELAY) as conn:
        event_counters.fold(conn)


def lines(count, start=0):
    return "".join(f'{{"n": {n}}}\n' for n in range(start, start + count))


def test_why_tells_a_life_from_its_producer_to_its_last_effect(run):
    token = producer.set("cli:someone")
    job_id = publish_probe("acme")
    producer.reset(token)
    rows_set('UPDATE "Job" SET "traceparent" = %s WHERE "id" = %s RETURNING 1', PARENT, job_id)
    fail(job_id, signal="SIGKILL", exit_code=-9, peak_bytes=300 << 20)
    fail(job_id, dead=True)
    document(run("dead", "replay", job_id, "--json"))
    child = follow_up_of(job_id)
    grandchild = follow_up_of(child)
    complete_all()

    life = document(run("jobs", "why", job_id, "--json"))
    code, told = run("jobs", "why", job_id)

    assert code == 0
    assert life["publishedBy"] == "cli:someone"
    assert life["origin"]["traceId"] == PARENT.split("-")[1]
    first, second = life["attempts"]
    assert (first["verdict"], first["signal"], first["exitCode"]) == ("crashed", "SIGKILL", -9)
    assert first["peakBytes"] == 300 << 20
    assert second["tookSeconds"] >= 0
    (act,) = life["acts"]
    assert act["action"] == "dead.replay"
    assert act["actor"].startswith("cli:")
    tree = [(one["depth"], one["id"], one["parentId"]) for one in life["descendants"]]
    assert tree == [(1, child, job_id), (2, grandchild, child)]
    assert [one["id"] for one in life["children"]] == [child]
    assert life["waits"] is None
    order = ["published by cli:someone", "crashed", "crashed", "dead.replay by cli:", "completed"]
    places, at = [], 0
    for word in order:
        at = told.index(word, at) + 1
        places.append(at)
    assert "signal SIGKILL, exit code -9, peak 300 MB" in told
    assert f"\n  led to probe {grandchild} completed" in told


def test_why_goes_by_the_clock_of_the_database(run, monkeypatch):
    class HostsClock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr("producers.ledger.job_history.datetime", HostsClock)
    [job_id] = publish_jobs("acme", [Probe(n=1)], delay_s=3_600)

    waits = document(run("jobs", "why", job_id, "--json"))["waits"]

    assert re.fullmatch(r"for \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(delay\)", waits)


def test_why_names_the_hold_and_the_limit_that_a_job_waits_for(run):
    job_id = publish_probe("acme")
    assert (
        "none serves the queue maintenance"
        in document(run("jobs", "why", job_id, "--json"))["waits"]
    )

    limit = document(run("limits", "set", "--job", "probe", "--concurrency", "1", "--json"))
    other = publish_probe("acme")
    with db.transaction(None, role=Role.RELAY) as conn:
        wake(conn, 1)
    limited = document(run("jobs", "why", other, "--json"))["waits"]
    run("pause", "maintenance", "--tenant", "acme")
    held = document(run("jobs", "why", job_id, "--json"))["waits"]
    later = publish_jobs("acme", [Probe(n=77)], delay_s=3600)[0]
    run("resume", "maintenance", "--tenant", "acme")
    delayed = document(run("jobs", "why", later, "--json"))["waits"]

    assert f"for the limit {limit['id']} (1 at once)" in limited
    assert held.startswith("for an operator: `ailydian resume maintenance --tenant acme` (paused")
    assert delayed.endswith("UTC (delay)")


def test_one_cancelled_job_is_noted_with_who_did_it(run):
    job_id = publish_probe("acme")

    dry = document(run("jobs", "cancel", job_id, "--dry-run", "--json"))
    assert job(job_id)["state"] == "PENDING"
    done = document(run("jobs", "cancel", job_id, "--json"))
    code, _ = run("jobs", "cancel", job_id)

    assert (dry["state"], done["state"], done["was"]) == ("PENDING", "CANCELLED", "PENDING")
    assert code == 1
    acts = rows('SELECT "action", "tenantId", "resourceId" FROM "AuditLog"')
    assert acts == [("jobs.cancel", "acme", job_id)]
    assert document(run("jobs", "why", job_id, "--json"))["acts"][0]["action"] == "jobs.cancel"


def test_jobs_are_cancelled_by_filters_in_pages_and_others_are_left_alone(run):
    make_tenant("other")
    ours = publish_jobs("acme", [Probe(n=n) for n in range(1_200)])
    theirs = publish_jobs("other", [Probe(n=n) for n in range(3)])
    (running,) = claim(ours[0])
    filters = ("jobs", "cancel", "--queue", "maintenance", "--tenant", "acme", "--json")

    dry = document(run(*filters, "--dry-run"))
    done = document(run(*filters))
    again = document(run(*filters))

    assert dry == {"matched": 1_200, "cancelled": 0}
    assert done == {"matched": 1_200, "cancelled": 1_200}
    assert again == {"matched": 0, "cancelled": 0}
    assert {job(one)["state"] for one in (ours[0], ours[-1])} == {"CANCELLED"}
    assert {job(one)["state"] for one in theirs} == {"PENDING"}
    assert job(ours[5])["outbox"] == job(ours[5])["flight"] == 0
    with db.transaction(None, role=Role.RELAY) as conn:
        assert attempts.complete(conn, [(running.job_id, running.fence)]) == 0
    pages = rows('SELECT "metadata" ->> \'count\' FROM "AuditLog" ORDER BY "createdAt"')
    assert sorted(int(count) for (count,) in pages) == [200, 1_000]


def test_a_cancel_needs_an_id_or_filters(run):
    assert run("jobs", "cancel")[0] == 2
    assert run("jobs", "cancel", "some", "--queue", "audit")[0] == 2


def test_a_batch_is_published_shown_and_cancelled(run):
    then = ("--then", "probe", "--then-payload", '{"note": "all done"}')
    published = document(run(*PUBLISH, *then, "--json", stdin=lines(5)))
    run(*PUBLISH, "--id", "second", stdin=lines(4, start=3))
    again = document(run(*PUBLISH, "--id", "second", "--json", stdin=lines(4, start=3)))
    complete_all()

    listed = document(run("batches", "list", "--tenant", "acme", "--json"))
    cancelled = document(run("jobs", "cancel", "--batch", "second", "--json"))
    shown = document(run("batches", "show", published["id"], "--watch", "--json"))
    table = run("batches", "list")[1]

    assert (published["total"], published["waiting"], published["state"]) == (5, 5, "SEALED")
    assert (again["total"], again["duplicates"]) == (2, 4)
    assert {one["name"] for one in listed} == {"letters"}
    assert cancelled["matched"] == 0
    assert (shown["state"], shown["completed"]) == ("FINISHED", 5)
    assert job(shown["thenId"])["payload"] == {"n": 0, "mode": "group", "note": "all done"}
    assert "letters" in table
    assert run("batches", "show", "none")[0] == 2


def test_a_batch_of_which_a_line_is_wrong_is_not_begun(run):
    code, output = run(*PUBLISH, stdin='{"n": 1}\n\n{"n": "x"}\n')

    assert code == 2
    assert "-, line 3: probe: n:" in output
    assert rows('SELECT FROM "JobBatch"') == []


def test_a_batch_that_was_broken_off_goes_on_under_its_id(run):
    from producers.ledger import batches  # noqa: PLC0415 - the module beside the command's

    with db.transaction("acme") as conn:
        batches.open_batch(conn, name="letters", batch_id="mine")
        batches.add(conn, "mine", [Probe(n=n) for n in range(2)])

    done = document(run(*PUBLISH, "--id", "mine", "--json", stdin=lines(5)))

    assert (done["total"], done["duplicates"], done["state"]) == (5, 2, "SEALED")


def test_events_are_listed_followed_and_gone_on_with(run):
    batch = document(run(*PUBLISH, "--json", stdin=lines(3)))
    complete_all()
    publish_probe("acme")
    complete_all()

    kept = document(run("events", "list", "--tenant", "acme", "--json"))
    of_batch = document(run("events", "list", "--batch", batch["id"], "--json"))
    after = kept[1]["position"]
    until = ("--until-ended", kept[-1]["jobId"])
    code, followed = run("events", "list", "--after", after, "--json")
    ended = run("events", "follow", *until)
    wrong = run("events", "list", "--after", "x")

    ends = [*["COMPLETED"] * 3, "BATCH_FINISHED"]
    assert [one["what"] for one in kept] == [*ends, "COMPLETED"]
    assert [one["what"] for one in of_batch] == ends
    assert [one["jobId"] for one in json.loads(followed)] == [one["jobId"] for one in kept[2:]]
    assert ended == (0, "")
    assert wrong[0] == 2
    assert code == 0


def test_what_has_not_ended_is_found_by_batch(run):
    batch = document(run(*PUBLISH, "--json", stdin=lines(3)))
    publish_probe("acme")

    with db.transaction(None, role=Role.RELAY) as conn:
        found = job_history.select_unended(conn, UnfinishedFilters(batch_id=batch["id"]), limit=10)

    assert len(found) == 3


def rows_set(query, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(query, values)


def test_publish_shows_an_error_as_the_lists_do(run):
    published = document(run("publish", "probe", "--tenant", "acme", "--key", "k", "--json"))
    fail(published["id"], dead=True)

    again = run("publish", "probe", "--tenant", "acme", "--key", "k")[1]
    in_json = document(run("publish", "probe", "--tenant", "acme", "--key", "k", "--json"))
    listed = run("dead", "list")[1]

    assert "WorkerDied: it died" in listed
    assert re.search(r"^error +WorkerDied: it died$", again, re.M)
    assert in_json["error"] == "it died"
