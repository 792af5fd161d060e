"""Verdicts and what follows from them, on a real Postgres: policies, trust, appeals."""

import json
from datetime import UTC, datetime

import pytest

from producers.judgement import moderation as steering
from shared import db
from shared.contracts import ModerateContent, RecordMessage, UpdateTrust
from shared.errors import AppealRefused, ContentGone, VerdictNotFound
from shared.judgement import moderation_policy
from shared.queries.judgement import verdicts
from tests.support.commands import document
from tests.support.factories import claim, do, job, publish_jobs, rows
from workers.actors.moderation import moderate_content

pytestmark = pytest.mark.usefixtures("ada")
SECRET = "The key is sk-abcdefghijklmnopqrstuvwx, keep it."
MAIL = "Write to ada.lovelace@example.org about the invoice."
CLEAN = "The harbour lights burn all night."
NEVER = {"default": {"flag_at": 1.0, "block_at": None}, "trust_adjusted": False}


def say(tenant, text):
    (lease,) = claim(*publish_jobs(tenant, [RecordMessage(content=text, role="USER", judge=False)]))
    do(lease)
    return job(lease.job_id)["outcome"]["messageId"]


def judge(tenant, *message_ids, **fields):
    """Judge messages together. Returns their outcomes."""
    jobs = [
        ModerateContent(content_type="message", content_id=one, **fields) for one in message_ids
    ]
    leases = claim(*publish_jobs(tenant, jobs))
    moderate_content(list(zip(jobs, leases, strict=True)))
    return [job(lease.job_id)["outcome"] for lease in leases]


def current(tenant):
    with db.transaction(tenant) as conn:
        return verdicts.select_latest(conn, action=None, limit=100)


def work(*names):
    """Do what waits of these jobs, in this order, until none is left."""
    for name in names:
        while ids := rows(
            """SELECT "id" FROM "Job" WHERE "job" = %s AND "state" = 'PENDING'""", name
        ):
            for lease in claim(*[one for (one,) in ids]):
                do(lease)


def trust():
    work("update_trust")
    found = rows('SELECT "factors" FROM "TrustScore"')
    return found[0][0]["moderation"] if found else 0.0


def acts(action):
    return rows('SELECT "metadata" FROM "AuditLog" WHERE "action" = %s', action)


def put_policy(tenant, document):
    with db.transaction(tenant) as conn:
        version = steering.put_policy(conn, moderation_policy.read(document))
    work("remoderate_content")
    return version


def test_messages_are_judged_together_each_by_itself(tenant):
    ids = [say(tenant, text) for text in (SECRET, MAIL, CLEAN)]

    outcomes = judge(tenant, *ids)

    assert [one["action"] for one in outcomes] == ["block", "flag", "allow"]
    assert [one["categories"] for one in outcomes] == [["secret"], ["pii"], []]
    assert {(one.content_id, one.action, one.user_id) for one in current(tenant)} == {
        (ids[0], "block", "ada"),
        (ids[1], "flag", "ada"),
        (ids[2], "allow", "ada"),
    }


def test_a_block_costs_trust_and_is_audited_without_the_text(tenant):
    judge(tenant, say(tenant, SECRET))

    ((what,),) = acts("moderation.block")
    assert what["categories"] == ["secret"]
    assert "sk-" not in json.dumps(what)
    assert trust() < 0


def test_one_content_that_is_gone_does_not_spoil_the_others(tenant):
    message_id = say(tenant, CLEAN)
    jobs = [ModerateContent(content_type="message", content_id=one) for one in (message_id, "no")]
    leases = claim(*publish_jobs(tenant, jobs))

    with pytest.raises(ContentGone):
        moderate_content(list(zip(jobs, leases, strict=True)))
    moderate_content([(jobs[0], leases[0])])  # as the worker does it: each alone

    assert len(current(tenant)) == 1


def test_judging_again_supersedes_and_counts_once(tenant):
    message_id = say(tenant, SECRET)
    judge(tenant, message_id)
    before = trust()
    judge(tenant, message_id, policy_version=1)

    assert trust() == pytest.approx(before, abs=1e-6)
    assert len(current(tenant)) == 1
    assert rows('SELECT count(*), sum("superseded"::int) FROM "ModerationResult"') == [(2, 1)]
    assert len(acts("moderation.block")) == 1


def test_a_new_policy_decides_older_verdicts_again_both_ways(tenant):
    judge(tenant, say(tenant, SECRET), say(tenant, MAIL), say(tenant, CLEAN))
    assert trust() < 0

    assert put_policy(tenant, NEVER) == 1
    mild = [one.action for one in current(tenant)]
    pardoned = trust()
    put_policy(tenant, {"categories": {"pii": {"flag_at": 0.1, "block_at": 0.2}}})

    assert mild == ["allow"] * 3
    assert pardoned == 0
    assert sorted(one.action for one in current(tenant)) == ["allow", "block", "block"]
    assert trust() < 0
    assert {one.policy_version for one in current(tenant)} == {2}
    before, after = acts("policy.change")
    assert (before[0]["version"], after[0]["version"]) == (1, 2)
    assert after[0]["before"]["default"]["flag_at"] == 1.0


def test_the_thresholds_of_somebody_distrusted_are_lower(tenant):
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    blocks = [
        UpdateTrust(user_id="ada", kind=kind, source_id=str(number), value=-1.0,
                    occurred_at=datetime.now(UTC), revision=moment)
        for number in range(9) for kind in ("moderation", "session")
    ]  # fmt: skip
    publish_jobs(tenant, blocks)
    work("update_trust")

    judge(tenant, say(tenant, MAIL))

    (verdict,) = current(tenant)
    assert verdict.scores["thresholds"]["pii"]["flag_at"] < 0.5


def test_a_granted_appeal_undoes_all_and_stands_under_every_policy(tenant):
    message_id = say(tenant, SECRET)
    judge(tenant, message_id)
    (blocked,) = current(tenant)
    assert trust() < 0
    with db.transaction(tenant) as conn:
        appeal = steering.open_appeal(conn, blocked.id, reason="It is an example of the manual.")
        steering.decide_appeal(conn, appeal, granted=True)

    assert [one.action for one in current(tenant)] == ["allow"]
    assert trust() == 0
    put_policy(tenant, {"default": {"flag_at": 0.1, "block_at": 0.2}})
    judge(tenant, message_id, policy_version=9)
    (still,) = current(tenant)
    assert (still.action, still.scores["pardoned"]["action"]) == ("allow", "block")
    assert len(acts("appeal.granted")) == 1


def test_a_pardon_is_for_that_text_alone(tenant):
    message_id = say(tenant, SECRET)
    judge(tenant, message_id)
    with db.transaction(tenant) as conn:
        appeal = steering.open_appeal(conn, current(tenant)[0].id, reason="An example.")
        steering.decide_appeal(conn, appeal, granted=True)
        conn.execute(
            """UPDATE "Message" SET "content" = "content" || ' And sk-zyxwvutsrqponmlkjihgfedc.'"""
        )

    (outcome,) = judge(tenant, message_id, policy_version=9)

    assert outcome["blocked"]


def test_a_rejected_appeal_changes_no_verdict_and_is_final(tenant):
    judge(tenant, say(tenant, SECRET))
    (blocked,) = current(tenant)
    with db.transaction(tenant) as conn:
        appeal = steering.open_appeal(conn, blocked.id, reason="Please.")
        steering.decide_appeal(conn, appeal, granted=False)

    assert [one.action for one in current(tenant)] == ["block"]
    for act, error in (
        (lambda conn: steering.decide_appeal(conn, appeal, granted=True), AppealRefused),
        (lambda conn: steering.open_appeal(conn, blocked.id, reason="Again."), AppealRefused),
        (lambda conn: steering.decide_appeal(conn, "nothing", granted=True), VerdictNotFound),
        (lambda conn: steering.open_appeal(conn, "nothing", reason="x"), VerdictNotFound),
    ):
        with pytest.raises(error), db.transaction(tenant) as conn:
            act(conn)


def test_a_verdict_that_let_pass_cannot_be_appealed(tenant):
    judge(tenant, say(tenant, CLEAN))

    with pytest.raises(AppealRefused, match="nothing to appeal"), db.transaction(tenant) as conn:
        steering.open_appeal(conn, current(tenant)[0].id, reason="x")


def test_commands_show_verdicts_policies_and_appeals(tenant, run):
    judge(tenant, say(tenant, SECRET))

    def moderation(*words):
        return document(run("moderation", *words, "--tenant", tenant, "--json"))

    (listed,) = moderation("list", "--action", "block")
    assert moderation("show", listed["id"])["scores"]["scores"]["secret"] > 0.9
    assert moderation("policy", "show")["version"] == 0
    appeal = moderation("appeal", "open", listed["id"], "--reason", "An example.")["id"]
    assert [one["id"] for one in moderation("appeal", "list", "--state", "open")] == [appeal]
    assert moderation("appeal", "decide", appeal, "--grant")["state"] == "granted"
    assert moderation("policy", "put", json.dumps(NEVER)) == {"version": 1}
    assert [one["version"] for one in moderation("policy", "versions")] == [1]
