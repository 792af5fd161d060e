"""Dead letters in the operator's hands: grouped, edited, replayed, discarded, undone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import click
import pytest

from producers.cli.ledger import selection
from producers.errors import JobNotFound
from producers.ledger import dead_actions, dead_edit, dead_selection
from producers.ledger.dead_actions import CanaryTrial
from producers.queries.ledger import dead_letter_edits, dead_letters, replays
from producers.queries.ledger.dead_letters import DeadLetterFilters
from shared import db
from shared.contracts import IngestDocument, Probe
from shared.db import Role
from shared.errors import DocumentRefused, EditRefused, PayloadRefused, ReplayStopped
from shared.ledger import outbox
from shared.queries.ledger import attempts
from tests.support.factories import claim, do, job, make_tenant, publish_jobs, publish_probe, rows
from tests.support.patience import patience
from workers.process import settlement

ROOT = Path(__file__).parents[3]
ANY = {"ids": (), "every": True, "dry_run": False, "rate": None, "slug": None}


def kill(*job_ids, error="No text in 'a.pdf'."):
    """Let jobs die of a permanent error."""
    for lease in claim(*job_ids):
        settlement.settle(lease, DocumentRefused("no_text", error))


def dead_probes(tenant, count, **fields):
    ids = [publish_probe(tenant, **fields) for _ in range(count)]
    kill(*ids)
    return ids


def choose(**given):
    return selection.read(ANY | given)


def edit(job_id, payload):
    with db.transaction(None, role=Role.RELAY) as conn:
        return dead_edit.edit(conn, job_id, payload)


def letters(**wanted):
    with db.transaction(None, role=Role.RELAY) as conn:
        return dead_letters.select_dead(conn, DeadLetterFilters(**wanted), limit=1_000)


def acts():
    """What the audit log holds: action, tenant, actor and details."""
    return rows(
        'SELECT "action", "tenantId", "userId", "resourceId", "metadata" FROM "AuditLog" '
        'ORDER BY "createdAt", "id"'
    )


def test_letters_of_one_failure_are_one_group_with_its_span_and_a_sample(pool):
    tenant, other = make_tenant(), make_tenant()
    first, *_, last = dead_probes(tenant, 3)
    kill(publish_probe(other), error="No text in 'b.docx'.")
    kill(publish_probe(tenant), error="Page 7 is torn.")

    with db.transaction(None, role=Role.RELAY) as conn:
        common, rare = dead_letters.select_groups(conn, DeadLetterFilters(), limit=10)
        mine = dead_letters.select_groups(conn, DeadLetterFilters(tenant_id=tenant), limit=10)

    assert (common.count, common.tenants, common.job) == (4, 2, "probe")
    assert common.error == "no_text: No text in 'b.docx'."
    died = {letter.id: letter.died_at for letter in letters()}
    assert common.first_died_at == died[first] < died[last] < common.last_died_at
    assert (rare.count, rare.error) == (1, "no_text: Page 7 is torn.")
    assert [group.count for group in mine] == [3, 1]
    assert {letter.id for letter in letters(fingerprint=rare.fingerprint)} & {first, last} == set()


def test_a_letter_shows_every_attempt_with_what_is_known_of_it(pool):
    job_id = publish_probe(make_tenant())
    [lease] = claim(job_id, worker="host-7")
    crash = attempts.AttemptFailure(
        job_id, lease.fence, "crashed", "WorkerCrashed", "SIGSEGV", None, "f1", "SIGSEGV", 139, 42
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.retry(conn, crash, delay_s=0)
    kill(job_id)

    with db.transaction(None, role=Role.RELAY) as conn:
        crashed, refused = attempts.select_history(conn, job_id)

    assert (crashed.worker, crashed.signal, crashed.exit_code) == ("host-7", "SIGSEGV", 139)
    assert (crashed.peak_bytes, crashed.fingerprint) == (42, "f1")
    assert (refused.attempt, refused.verdict) == (2, "refused")
    assert refused.took_seconds >= 0
    assert refused.peak_bytes > 10 << 20
    assert refused.fingerprint == letters()[0].fingerprint
    assert "DocumentRefused: no_text" in refused.traceback


def test_a_replay_is_one_new_life_and_one_audit_entry_a_tenant_in_the_same_transaction(pool):
    tenant, other = make_tenant(), make_tenant()
    ours, theirs = dead_probes(tenant, 3), dead_probes(other, 1)

    assert dead_actions.act(dead_letters.replay, "replay", choose(error="no_text")) == (4, 4)
    assert dead_actions.act(dead_letters.replay, "replay", choose(error="no_text")) == (0, 0)

    assert {job(job_id)["state"] for job_id in ours + theirs} == {"PENDING"}
    by_tenant = {tenant_id: (action, what) for action, tenant_id, _, _, what in acts()}
    assert by_tenant[tenant][0] == "dead.replay"
    assert by_tenant[tenant][1]["filters"] == {"error": "no_text"}
    assert sorted(by_tenant[tenant][1]["jobs"]) == sorted(ours)
    assert by_tenant[other][1]["jobs"] == theirs
    assert len(acts()) == 2


def test_what_cannot_be_audited_is_not_done(pool):
    [job_id] = dead_probes(make_tenant(), 1)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('ALTER TABLE "AuditLog" ADD CONSTRAINT full_up CHECK (false) NOT VALID')

    with pytest.raises(Exception, match="full_up"):
        dead_actions.act(dead_letters.discard, "discard", choose())

    assert job(job_id)["state"] == "DEAD"


def test_a_dry_run_counts_and_does_nothing(pool):
    dead_probes(make_tenant(), 2)

    assert dead_actions.act(dead_letters.replay, "replay", choose(dry_run=True)) == (2, 0)

    assert len(letters()) == 2
    assert acts() == []


def test_five_presses_from_three_shells_give_one_new_attempt_each(pool, database_url, redis_url):
    ids = dead_probes(make_tenant(), 40)
    environment = os.environ | {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    environment |= {"AILYDIAN_SIGNING_KEY": "a key for tests"}
    command = [sys.executable, "-m", "producers.cli", "dead", "replay", "--all", "--json"]
    shells = []

    def press(times):
        for _ in range(times):
            ran = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
            )
            shells.append(json.loads(ran.stdout)["replayed"])

    threads = [Thread(target=press, args=[times]) for times in (2, 2, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(120))

    assert len(shells) == 5
    assert sum(shells) == 40
    [waiting] = rows('SELECT count(*), count(DISTINCT "jobId") FROM "JobOutbox"')
    assert waiting == (40, 40)
    assert len([what for _, _, _, _, what in acts() for _ in what["jobs"]]) == 40
    for lease in claim(*ids):
        do(lease)
    assert {job(job_id)["attempt"] for job_id in ids} == {1}


def test_an_unknown_id_and_no_choice_at_all_are_refused(pool):
    with pytest.raises(JobNotFound, match="'nobody'"):
        choose(ids=("nobody",))
    with pytest.raises(click.UsageError, match="--all"):
        choose(every=False)


def test_pages_meet_every_letter_once_and_none_that_dies_meanwhile(pool):
    tenant = make_tenant()
    ids = dead_probes(tenant, 5)

    pages = dead_selection.pages(choose(rate=8.0), first=1)
    met = [letter.id for letter in next(pages)]
    with db.transaction(None, role=Role.RELAY) as conn:
        dead_letters.replay(conn, met)
    kill(*met)
    sizes = [1]
    for page in pages:
        sizes.append(len(page))
        met += [letter.id for letter in page]

    assert sizes == [1, 2, 2]
    assert met == ids


# ---- edit


def test_an_edited_job_keeps_its_key_and_what_was_changed(pool):
    tenant = make_tenant()
    [job_id] = publish_jobs(tenant, [Probe(n=1, note="before")])
    key = job(job_id)["key"]
    kill(job_id)

    with outbox.published_by("cli:ada"):
        changes = edit(job_id, {"n": 1, "note": "after", "mode": "receipt"})

    assert changes == {
        "note": {"before": "before", "after": "after"},
        "mode": {"before": "group", "after": "receipt"},
    }
    assert job(job_id)["payload"] == {"n": 1, "note": "after", "mode": "receipt"}
    assert job(job_id)["key"] == key
    with db.transaction(None, role=Role.RELAY) as conn:
        letter = dead_letter_edits.select_letter(conn, job_id)
        dead_letters.replay(conn, [job_id])
    assert [edit["changes"] for edit in letter.edits] == [changes]
    assert letter.edits[0]["by"] == "cli:ada"
    [(action, owner, actor, resource_id, what)] = acts()
    assert (action, owner, resource_id) == ("dead.edit", tenant, job_id)
    assert actor == letter.edits[0]["by"]
    assert what["changes"] == changes
    [lease] = claim(job_id)
    assert lease.payload["note"] == "after"


@pytest.mark.parametrize(
    ("payload", "why"),
    [({"nonsense": 1}, "nonsense"), ({"n": "many"}, "n:"), ({"note": "x" * 10_001}, "note")],
)
def test_the_contract_refuses_nonsense_and_nothing_is_changed(pool, payload, why):
    [job_id] = dead_probes(make_tenant(), 1)
    before = job(job_id)["payload"]

    with pytest.raises(PayloadRefused, match=why):
        edit(job_id, payload)

    assert job(job_id)["payload"] == before
    assert acts() == []


def test_an_edit_that_makes_a_double_of_another_job_is_refused(pool):
    tenant = make_tenant()
    good = Probe(note="already asked for")
    [other] = publish_jobs(tenant, [good])
    [job_id] = dead_probes(tenant, 1)

    with pytest.raises(EditRefused, match=other):
        edit(job_id, good.model_dump())


def test_a_job_that_lives_is_not_edited_and_no_change_is_no_edit(pool):
    tenant = make_tenant()
    [alive], [job_id] = [publish_probe(tenant)], dead_probes(tenant, 1)

    with pytest.raises(JobNotFound):
        edit(alive, {"n": 2})

    assert edit(job_id, job(job_id)["payload"]) == {}
    assert acts() == []


def test_of_two_edits_that_saw_the_same_letter_the_second_is_told(pool):
    [job_id] = dead_probes(make_tenant(), 1)
    before = job(job_id)["payload"]
    change = dead_letter_edits.Edit(job_id, before, '{"n": 5}', 1, "", 1, {"by": "me"})

    with db.transaction(None, role=Role.RELAY) as conn:
        results = [dead_letter_edits.edit(conn, change), dead_letter_edits.edit(conn, change)]

    assert results == [True, False]


def test_a_refused_document_that_is_sent_again_makes_no_second_letter(pool):
    tenant = make_tenant()
    bad = IngestDocument(content_sha256="a" * 64, source="bad.pdf")
    [job_id] = publish_jobs(tenant, [bad])
    kill(job_id)

    again = publish_jobs(tenant, [bad])

    assert again == [job_id]
    assert [letter.id for letter in letters()] == [job_id]


# ---- undo, canaries


def test_a_replay_that_nobody_has_begun_is_taken_back_with_its_letter(pool):
    tenant = make_tenant()
    waiting, woken, begun = dead_probes(tenant, 3)
    before = {letter.id: letter for letter in letters()}
    with db.transaction(None, role=Role.RELAY) as conn:
        dead_letters.replay(conn, [woken, begun])
    [lease] = claim(begun)
    with db.transaction(None, role=Role.RELAY) as conn:
        dead_letters.replay(conn, [waiting])
        unbegun = replays.select_unbegun(conn, tenant_id=tenant)

    moved = dead_actions.move_page(replays.undo, "undo", [*unbegun, begun], {})

    assert sorted(unbegun) == sorted([waiting, woken])
    assert sorted(one.id for one in moved) == sorted(unbegun)
    for job_id in unbegun:
        row = job(job_id)
        assert (row["state"], row["outbox"], row["flight"]) == ("DEAD", 0, 0)
        told = rows('SELECT "what" FROM "JobEvent" WHERE "jobId" = %s ORDER BY "position"', job_id)
        assert told == [("DEAD",), ("REPLAYED",), ("DEAD",)]
    for letter in letters():
        was = before[letter.id]
        assert (letter.reason, letter.error, letter.attempts, letter.fingerprint) == (
            was.reason,
            was.error,
            was.attempts,
            was.fingerprint,
        )
    do(lease)
    assert job(begun)["state"] == "RUNNING"
    assert acts()[-1][0] == "dead.undo"


def test_canaries_that_fail_again_stop_the_replay_of_the_others(pool):
    ids = dead_probes(make_tenant(), 6)

    class Unlucky(CanaryTrial):
        """Its jobs are done, and fail again, before it looks."""

        def watch(self, moved):
            kill(*(one.id for one in moved))
            super().watch(moved)

    with pytest.raises(ReplayStopped, match="2 of 2 replayed jobs failed again"):
        dead_actions.act(dead_letters.replay, "replay", choose(), Unlucky(2, None, 30.0))

    assert len(letters()) == 6
    assert {job(job_id)["state"] for job_id in ids} == {"DEAD"}


def test_canaries_that_end_well_let_the_others_follow(pool):
    ids = dead_probes(make_tenant(), 6)
    with db.transaction(None, role=Role.RELAY) as conn:
        moved = dead_letters.replay(conn, ids[:2])
    for lease in claim(*ids[:2]):
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(lease.job_id, lease.fence)])

    CanaryTrial(canary=2, failing_max=None, canary_s=0.0).watch(moved)

    assert len(letters()) == 4


def test_canaries_that_nobody_does_stop_the_replay_in_time(pool):
    dead_probes(make_tenant(), 3)

    with pytest.raises(ReplayStopped, match="have not all ended"):
        dead_actions.act(dead_letters.replay, "replay", choose(), CanaryTrial(1, None, 0.0))

    assert len(letters()) == 2


def test_a_replay_stops_when_more_than_the_allowed_share_fails(pool):
    ids = dead_probes(make_tenant(), 20)
    with db.transaction(None, role=Role.RELAY) as conn:
        moved = dead_letters.replay(conn, ids)
    kill(*ids[:6])
    for lease in claim(*ids[6:]):
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(lease.job_id, lease.fence)])

    CanaryTrial(None, 0.30, 0.0).watch(moved)
    with pytest.raises(ReplayStopped, match="6 of 20"):
        CanaryTrial(None, 0.29, 0.0).watch(moved)
