"""Policies that change while verdicts stand, on a real Postgres: what is decided again, and how."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from producers.judgement import moderation as steering
from shared import db
from shared.contracts import ModerateContent, RecordMessage
from shared.db import Role
from shared.judgement import moderation_policy
from shared.queries.judgement import verdicts
from tests.support.cached_questions import Model, ask
from tests.support.factories import claim, do, job, make_tenant, publish_jobs, rows
from tests.support.patience import patience
from workers.actors import moderation
from workers.cache.semantic_cache import answered

pytestmark = pytest.mark.usefixtures("ada")
SECRET = "The key is sk-abcdefghijklmnopqrstuvwx, keep it."
MAIL = "Write to ada.lovelace@example.org about the invoice."
CLEAN = "The harbour lights burn all night."
SAID_AT = datetime(2026, 1, 2, tzinfo=UTC)
SECRETS_FLAG = {"categories": {"secret": {"block_at": None}}}
MAIL_BLOCKS = {"categories": {"pii": {"flag_at": 0.1, "block_at": 0.2}}}


def execute(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values or None)


def say(tenant, text, **fields):
    said = RecordMessage(content=text, judge=False, **({"role": "USER"} | fields))
    (lease,) = claim(*publish_jobs(tenant, [said]))
    do(lease)
    return job(lease.job_id)["outcome"]["messageId"]


def judge(tenant, message_id):
    asked = ModerateContent(content_type="message", content_id=message_id)
    (lease,) = claim(*publish_jobs(tenant, [asked]))
    do(lease)
    return job(lease.job_id)["outcome"]


def put(tenant, document):
    with db.transaction(tenant) as conn:
        return steering.put_policy(conn, moderation_policy.read(document))


def work(*names):
    """Do what waits of these jobs, in this order. Returns their outcomes."""
    outcomes = []
    for name in names:
        while ids := rows(
            """SELECT "id" FROM "Job" WHERE "job" = %s AND "state" = 'PENDING'""", name
        ):
            for lease in claim(*[one for (one,) in ids]):
                do(lease)
                outcomes.append(job(lease.job_id)["outcome"])
    return outcomes


def current(tenant):
    with db.transaction(tenant) as conn:
        found = verdicts.select_latest(conn, action=None, limit=100)
    return {one.content_id: one for one in found}


def assert_waits_for_a_lock():
    for _ in range(10_000):
        if rows("SELECT FROM pg_locks WHERE NOT granted"):
            return
    pytest.fail("nobody waits")


def test_kept_scores_are_decided_again_without_a_job_for_each_text(tenant):
    message_id = say(tenant, MAIL)
    judge(tenant, message_id)

    put(tenant, MAIL_BLOCKS)
    outcomes = work("remoderate_content")

    assert outcomes == [{"looked": 1, "changed": 1, "judgedAgain": 0}]
    assert current(tenant)[message_id].action == "block"
    assert rows("""SELECT count(*) FROM "Job" WHERE "job" = 'moderate_content'""") == [(1,)]


def test_a_text_that_was_changed_since_is_judged_again(tenant):
    message_id = say(tenant, CLEAN)
    judge(tenant, message_id)
    execute('UPDATE "Message" SET "content" = %s WHERE "id" = %s', SECRET, message_id)

    put(tenant, SECRETS_FLAG)
    outcomes = work("remoderate_content", "moderate_content")

    assert outcomes[0] == {"looked": 1, "changed": 0, "judgedAgain": 1}
    found = current(tenant)[message_id]
    assert (found.action, found.categories, found.policy_version) == ("flag", ["secret"], 1)


@pytest.mark.parametrize(
    "lost", ['"contentSha256" = NULL', """ "scores" = '{"secret": 0.95}'::jsonb """]
)
def test_a_verdict_that_kept_too_little_is_judged_again(tenant, lost):
    message_id = say(tenant, SECRET)
    judge(tenant, message_id)
    execute(f'UPDATE "ModerationResult" SET {lost}')

    put(tenant, SECRETS_FLAG)
    outcomes = work("remoderate_content", "moderate_content")

    assert outcomes[0]["judgedAgain"] == 1
    assert current(tenant)[message_id].action == "flag"


def test_of_a_text_that_is_gone_the_kept_scores_decide(tenant):
    message_id = say(tenant, SECRET)
    judge(tenant, message_id)
    execute('DELETE FROM "Message" WHERE "id" = %s', message_id)

    put(tenant, SECRETS_FLAG)
    outcomes = work("remoderate_content")

    assert outcomes == [{"looked": 1, "changed": 1, "judgedAgain": 0}]
    assert current(tenant)[message_id].action == "flag"


def test_pages_follow_each_other_until_all_are_decided(tenant, monkeypatch):
    ids = [say(tenant, MAIL, external_id=str(number)) for number in range(5)]
    for message_id in ids:
        judge(tenant, message_id)
    monkeypatch.setattr(moderation, "PAGE", 2)

    put(tenant, MAIL_BLOCKS)
    outcomes = work("remoderate_content")

    assert [one["looked"] for one in outcomes] == [2, 2, 1]
    assert {one.action for one in current(tenant).values()} == {"block"}
    assert len(current(tenant)) == 5


def test_what_was_said_long_ago_does_not_count_as_new_when_policies_change(tenant):
    message_id = say(tenant, SECRET)
    execute('UPDATE "Message" SET "createdAt" = %s', SAID_AT.replace(tzinfo=None))
    judge(tenant, message_id)

    put(tenant, SECRETS_FLAG)
    work("remoderate_content", "update_trust")

    assert rows('SELECT "value", "occurredAt" FROM "TrustEvent"') == [(-0.5, SAID_AT)]


def test_a_policy_that_comes_while_a_text_is_judged_decides_about_it(tenant):
    judge(tenant, say(tenant, CLEAN))  # the classifier is loaded
    message_id = say(tenant, SECRET)

    with ThreadPoolExecutor(1) as threads:
        with db.transaction(tenant) as conn:
            steering.put_policy(conn, moderation_policy.read(SECRETS_FLAG))
            judging = threads.submit(judge, tenant, message_id)
            assert_waits_for_a_lock()
        outcome = judging.result(patience(60))

    assert outcome["action"] == "flag"
    assert current(tenant)[message_id].policy_version == 1


def test_two_policies_at_once_are_two_versions(tenant):
    with ThreadPoolExecutor(1) as threads:
        with db.transaction(tenant) as conn:
            first = steering.put_policy(conn, moderation_policy.read(SECRETS_FLAG))
            other = threads.submit(put, tenant, MAIL_BLOCKS)
            assert_waits_for_a_lock()

        assert (first, other.result(patience(60))) == (1, 2)


def test_a_content_that_is_judged_twice_at_once_has_one_verdict(tenant):
    judge(tenant, say(tenant, CLEAN))
    message_id = say(tenant, SECRET)
    jobs = [
        ModerateContent(content_type="message", content_id=message_id, policy_version=number)
        for number in range(4)
    ]
    leases = claim(*publish_jobs(tenant, jobs))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(do, leases))

    assert rows(
        """SELECT count(*), sum((NOT "superseded")::int) FROM "ModerationResult"
           WHERE "contentId" = %s""",
        message_id,
    ) == [(4, 1)]
    assert rows("""SELECT count(*) FROM "AuditLog" WHERE "action" = 'moderation.block'""") == [(1,)]


def test_a_blocked_answer_is_not_served_from_the_cache_any_more(tenant):
    answered(ask(tenant), Model(MAIL))
    answered(ask(tenant, "What burns at night?"), Model(CLEAN))
    message_id = say(tenant, MAIL, role="ASSISTANT", model="m")
    judge(tenant, message_id)
    flagged = rows('SELECT count(*) FROM "SemanticCache"')

    put(tenant, MAIL_BLOCKS)
    work("remoderate_content")

    assert flagged == [(2,)]
    assert rows('SELECT "response" FROM "SemanticCache"') == [(CLEAN,)]


def test_another_tenants_policy_decides_nothing_here(tenant):
    message_id = say(tenant, MAIL)

    put(make_tenant(), MAIL_BLOCKS)
    outcome = judge(tenant, message_id)

    assert outcome["action"] == "flag"
