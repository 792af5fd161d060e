"""What ended long ago is archived and deleted; what has not ended, or not long ago, stays."""

import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from producers.ledger import archive, retention
from producers.queries.ledger import dead_letters, events, jobs
from producers.queries.ledger import retentions as queries
from producers.queries.ledger.events import BEGINNING, EventFilters
from producers.queries.ledger.retentions import Keep
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.queries.ledger import attempts, quarantines
from shared.queries.ledger.attempts import AttemptFailure
from shared.queries.ledger.quarantines import BadMessage
from shared.settings import Settings
from tests.support.factories import claim, job, make_tenant, publish_jobs, publish_probe, rows

pytestmark = pytest.mark.usefixtures("pool")

QUEUE = "maintenance"


@pytest.fixture
def config(tmp_path):
    return Settings(home=tmp_path)


def keep(queue=QUEUE, **days):
    retention.keeps()
    ages = {name: timedelta(days=days[name]) for name in days}
    found = Keep(queue, ages.get("done"), ages.get("dead"), ages.get("quarantined"))
    with db.transaction(None, role=Role.RELAY) as conn:
        queries.update_keep(conn, found)


def age(days):
    """Let so many days pass for everything there is: the rows move, not the clock."""
    by = timedelta(days=days)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "Job" SET "createdAt" = "createdAt" - %(by)s, "dueAt" = "dueAt" - %(by)s,
                   "startedAt" = "startedAt" - %(by)s, "finishedAt" = "finishedAt" - %(by)s""",
            {"by": by},
        )
        conn.execute('UPDATE "JobOutbox" SET "dueAt" = "dueAt" - %s', [by])
        conn.execute('UPDATE "JobEvent" SET "at" = "at" - %s', [by])
        conn.execute('UPDATE "DeadLetter" SET "diedAt" = "diedAt" - %s', [by])
        conn.execute(
            """UPDATE "Quarantine"
               SET "receivedAt" = "receivedAt" - %(by)s, "seenAt" = "seenAt" - %(by)s""",
            {"by": by},
        )


def complete(*ids):
    held = claim(*ids)
    with db.transaction(None, role=Role.RELAY) as conn:
        assert attempts.complete(conn, [(lease.job_id, lease.fence) for lease in held]) == len(ids)


def completed(tenant, **fields):
    job_id = publish_probe(tenant, **fields)
    complete(job_id)
    return job_id


def dead(tenant):
    job_id = publish_probe(tenant)
    [lease] = claim(job_id)
    ending = AttemptFailure(
        job_id, lease.fence, "refused", "Broken", "no good", "the traceback", fingerprint="f"
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        assert attempts.bury(conn, ending, reason="permanent")
    return job_id


def replay(*ids):
    with db.transaction(None, role=Role.RELAY) as conn:
        dead_letters.replay(conn, list(ids))


def left():
    return {row[0] for row in rows('SELECT "id" FROM "Job"')}


def lines(swept):
    return [json.loads(line) for path in swept.files for line in path.read_text().splitlines()]


def test_done_jobs_go_when_their_queue_keeps_them_no_longer(config):
    tenant = make_tenant()
    keep(done=7)
    completed(tenant)
    cancelled = publish_probe(tenant)
    with db.transaction(None, role=Role.RELAY) as conn:
        jobs.cancel(conn, [cancelled])
    age(8)
    young = completed(tenant)

    swept = retention.run(config)

    assert (left(), swept.done) == ({young}, {QUEUE: 2})
    assert [row[0] for row in rows('SELECT "jobId" FROM "JobEvent"')] == [young]
    assert (retention.run(config).total, swept.files) == (0, set())


def test_each_queue_keeps_its_own_time(config):
    tenant = make_tenant()
    keep(done=7)
    keep("audit", done=1)
    keep("scoring", done=7)
    ids = [publish_probe(tenant) for _ in range(3)]
    with db.transaction(None, role=Role.OWNER) as conn:
        for job_id, queue in zip(ids, ("scoring", "audit", QUEUE), strict=True):
            conn.execute('UPDATE "Job" SET "queue" = %s WHERE "id" = %s', [queue, job_id])
            conn.execute('UPDATE "JobOutbox" SET "queue" = %s WHERE "jobId" = %s', [queue, job_id])
    complete(*ids)

    age(2)
    retention.run(config)
    after_two = left()
    age(6)
    retention.run(config)

    assert after_two == {ids[0], ids[2]}
    assert left() == set()
    assert rows('SELECT 1 FROM "JobEvent"') == []


def test_a_shorter_time_reaches_what_an_earlier_run_has_passed(config):
    tenant = make_tenant()
    keep(done=7)
    keep("audit", done=1)
    job_id = completed(tenant)
    age(2)
    retention.run(config)
    assert left() == {job_id}

    keep(done=1)
    retention.run(config)

    assert left() == set()


def test_what_has_not_ended_stays_however_old(config):
    tenant = make_tenant()
    keep(done=0, dead=0)
    replayed = dead(tenant)
    replay(replayed)
    pending, running = publish_probe(tenant), publish_probe(tenant)
    claim(running)
    age(400)

    swept = retention.run(config)

    assert (left(), swept.total) == ({replayed, pending, running}, 0)


def test_a_job_that_ended_again_is_kept_from_its_last_end_on(config):
    tenant = make_tenant()
    keep(done=7, dead=100)
    job_id = dead(tenant)
    age(8)
    replay(job_id)
    complete(job_id)

    retention.run(config)
    kept = left()
    age(8)
    retention.run(config)

    assert (kept, left()) == ({job_id}, set())


def test_the_ledger_and_not_an_event_says_that_a_job_is_over(config):
    tenant = make_tenant()
    keep(done=7)
    running, young, buried = publish_probe(tenant), completed(tenant), dead(tenant)
    claim(running)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('DELETE FROM "JobEvent"')
        conn.execute(
            """UPDATE "Job" SET "finishedAt" = now() - interval '8 days' WHERE "id" = %s""",
            [buried],
        )
        conn.execute(
            """INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "at")
               SELECT "tenantId", "id", "job", "queue", 'COMPLETED', now() - interval '8 days'
               FROM "Job" """
        )

    swept = retention.run(config)

    assert (left(), swept.total) == ({running, young, buried}, 0)
    assert rows('SELECT 1 FROM "JobEvent"') == []


def test_a_parent_goes_and_its_follow_up_stays(config):
    tenant = make_tenant()
    keep(done=7)
    parent = completed(tenant)
    age(8)
    child = publish_probe(tenant)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "Job" SET "parentId" = %s WHERE "id" = %s', [parent, child])

    retention.run(config)

    assert left() == {child}
    assert job(child)["parentId"] == parent


def test_the_key_of_a_deleted_job_is_free_again(config):
    tenant = make_tenant()
    keep(done=7)
    [first] = publish_jobs(tenant, [Probe(n=1)])
    complete(first)
    age(8)
    assert publish_jobs(tenant, [Probe(n=1)]) == [first]

    retention.run(config)

    assert publish_jobs(tenant, [Probe(n=1)]) != [first]


def test_a_dead_letter_is_archived_with_all_there_is_and_then_deleted(config, tmp_path):
    tenant = make_tenant("acme")
    keep(dead=90)
    old = dead(tenant)
    age(91)
    young = dead(tenant)

    swept = retention.run(config)

    [line] = lines(swept)
    assert (left(), swept.dead) == ({young}, {QUEUE: 1})
    assert (line["kind"], line["tenant"]) == ("dead", "acme")
    assert (line["job"]["id"], line["job"]["payload"]["note"][:5]) == (old, "probe")
    assert (line["letter"]["reason"], line["letter"]["error"]) == ("permanent", "no good")
    assert [one["traceback"] for one in line["attempts"]] == ["the traceback"]
    assert rows('SELECT "jobId" FROM "DeadLetter"') == rows('SELECT "jobId" FROM "JobAttempt"')
    [path] = swept.files
    assert path.parent == tmp_path / "archive"
    assert path.name == f"dead-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_done_jobs_are_archived_for_who_asks_for_it(config):
    tenant = make_tenant()
    keep(done=7)
    job_id = completed(tenant)
    age(8)

    swept = retention.run(config.model_copy(update={"archive_done": True}))

    assert [(line["kind"], line["job"]["id"]) for line in lines(swept)] == [("done", job_id)]


def test_a_quarantined_message_counts_from_when_it_was_last_seen(config):
    keep(quarantined=30)
    messages = [BadMessage("no JSON", bytes([0, 255, n]), 3, f"{n}") for n in range(2)]
    with db.transaction(None, role=Role.RELAY) as conn:
        quarantines.insert_quarantined(conn, QUEUE, messages)
    age(31)
    with db.transaction(None, role=Role.RELAY) as conn:
        quarantines.insert_quarantined(conn, QUEUE, messages[1:])

    swept = retention.run(config)

    [line] = lines(swept)
    assert (line["kind"], line["message"]["base64"]) == ("quarantined", "AP8A")
    assert swept.quarantined == {QUEUE: 1}
    assert rows('SELECT "sha256" FROM "Quarantine"') == [("1",)]


def test_what_cannot_be_archived_is_not_deleted(tmp_path):
    tenant = make_tenant()
    keep(dead=90)
    job_id = dead(tenant)
    age(91)
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(OSError, match="file"):
        retention.run(Settings(archive_dir=tmp_path / "file"))

    assert left() == {job_id}
    assert rows('SELECT "jobId" FROM "DeadLetter"') == [(job_id,)]


def test_a_crash_after_the_archive_writes_a_line_twice_and_loses_none(config, tmp_path):
    tenant = make_tenant()
    keep(dead=90)
    job_id = dead(tenant)
    age(91)
    # What is left of a run that died after its write and before its COMMIT, the write torn.
    with db.transaction(None, role=Role.RELAY) as conn:
        written = queries.select_job_lines(conn, [job_id])[0]
    path = archive.append(tmp_path / "archive", "dead", [written], datetime.now(UTC))
    with path.open("a") as file:
        file.write('{"kind": "de')

    retention.run(config)

    found = path.read_text().split("\n")
    assert [json.loads(found[n])["job"]["id"] for n in (0, 2)] == [job_id, job_id]
    assert (found[1], left()) == ('{"kind": "de', set())


def test_a_dry_run_counts_and_changes_nothing(config):
    tenant = make_tenant()
    keep(done=7, dead=7, quarantined=7)
    ids = {completed(tenant), dead(tenant)}
    with db.transaction(None, role=Role.RELAY) as conn:
        quarantines.insert_quarantined(conn, QUEUE, [BadMessage("r", b"m", 1, "s")])
    age(8)

    swept = retention.run(config, dry_run=True)

    assert (swept.done, swept.dead) == ({QUEUE: 1}, {QUEUE: 1})
    assert (swept.quarantined, swept.files) == ({QUEUE: 1}, set())
    assert left() == ids
    assert retention.run(config).total == 3


def test_what_somebody_has_yet_to_read_stays(config):
    tenant = make_tenant()
    keep(done=7)
    read, unread = completed(tenant), completed(tenant)
    with db.transaction(None, role=Role.RELAY) as conn:
        events.place(conn)
        page = events.select_events(conn, BEGINNING, EventFilters(job_id=read), limit=10)
    place = page.events[0].position
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "EventCursor" ("reader", "xid", "position")
               VALUES ('figures', %s::text::xid8, %s)""",
            [str(place.fold), place.position],
        )
    age(8)

    retention.run(config)

    assert left() == {unread}


def test_more_than_a_batch_goes_in_batches_and_two_at_once_share_it(config):
    tenant = make_tenant()
    keep(done=7)
    count = retention.EVENTS_MAX + 500
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "Job" ("id", "tenantId", "job", "queue", "state", "finishedAt")
               SELECT 'j' || n, %s, 'probe', 'maintenance', 'COMPLETED', now()
               FROM generate_series(1, %s) n""",
            [tenant, count],
        )
        conn.execute(
            """INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
               SELECT "tenantId", "id", "job", "queue", 'COMPLETED' FROM "Job" """
        )
    age(8)

    with ThreadPoolExecutor(2) as pool:
        swept = list(pool.map(lambda _: retention.run(config), range(2)))

    assert sum(one.total for one in swept) == count
    assert (left(), rows('SELECT 1 FROM "JobEvent"')) == (set(), [])


def test_no_statement_reads_the_ledger_from_end_to_end():
    make_tenant()
    values = {
        **{"fold": "0", "position": 0, "to_fold": "9", "xids": ["9"], "positions": [9]},
        **{"age": timedelta(days=1), "ages": [timedelta(days=1)], "queues": [QUEUE]},
        **{"ids": ["a"], "limit": 10},
    }
    names = (
        *("SELECT_EVENTS", "LOCK_DONE", "LOCK_DEAD", "LOCK_QUARANTINED", "SELECT_JOB_LINES"),
        *("SELECT_QUARANTINED_LINES", "DELETE_JOBS", "DELETE_QUARANTINED", "DELETE_EVENTS"),
        *("COUNT_DONE", "COUNT_DEAD", "DELETE_FOLDS"),
    )

    plans = {}
    with db.transaction(None, role=Role.RELAY) as conn:
        for name in names:
            plan = conn.execute(f"EXPLAIN {getattr(queries, name)}", values).fetchall()
            plans[name] = "\n".join(line for (line,) in plan)

    read = re.compile(r'Seq Scan on "?(Job|JobEvent|DeadLetter|JobAttempt|Quarantine|Tenant)"? ')
    assert {name: plan for name, plan in plans.items() if read.search(plan)} == {}
    assert all("JobEvent_pkey" in plans[name] for name in ("DELETE_EVENTS", "DELETE_FOLDS"))
