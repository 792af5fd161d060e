"""Appeals that meet new policies and other texts, on a real Postgres."""

import pytest

from producers.judgement import moderation as steering
from shared import db
from shared.contracts import ModerateContent, RecordMessage
from shared.db import Role
from shared.errors import AppealRefused, VerdictNotFound
from shared.judgement import moderation_policy
from shared.queries.judgement import training_examples, verdicts
from tests.support.factories import claim, do, job, make_tenant, publish_jobs, rows

pytestmark = pytest.mark.usefixtures("ada")
SECRET = "The key is sk-abcdefghijklmnopqrstuvwx, keep it."
OTHER_SECRET = "The key is sk-zyxwvutsrqponmlkjihgfedc, keep it."
SECRETS_FLAG = {"categories": {"secret": {"block_at": None}}}


@pytest.fixture
def message_id(tenant):
    """A message that is blocked."""
    said = RecordMessage(content=SECRET, role="USER", judge=False)
    (lease,) = claim(*publish_jobs(tenant, [said]))
    do(lease)
    message_id = job(lease.job_id)["outcome"]["messageId"]
    judge(tenant, message_id)
    return message_id


def execute(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values or None)


def judge(tenant, message_id, version=0):
    asked = ModerateContent(content_type="message", content_id=message_id, policy_version=version)
    (lease,) = claim(*publish_jobs(tenant, [asked]))
    do(lease)
    return job(lease.job_id)["outcome"]


def work(*names):
    for name in names:
        while ids := rows(
            """SELECT "id" FROM "Job" WHERE "job" = %s AND "state" = 'PENDING'""", name
        ):
            for lease in claim(*[one for (one,) in ids]):
                do(lease)


def put(tenant, document):
    with db.transaction(tenant) as conn:
        steering.put_policy(conn, moderation_policy.read(document))
    work("remoderate_content")


def current(tenant):
    with db.transaction(tenant) as conn:
        (found,) = verdicts.select_latest(conn, action=None, limit=100)
    return found


def appeal(tenant, verdict_id):
    with db.transaction(tenant) as conn:
        return steering.open_appeal(conn, verdict_id, reason="It is an example.")


def decide(tenant, appeal_id, *, granted):
    with db.transaction(tenant) as conn:
        steering.decide_appeal(conn, appeal_id, granted=granted)


def say_otherwise(message_id, text):
    execute('UPDATE "Message" SET "content" = %s WHERE "id" = %s', text, message_id)


def events():
    work("update_trust")
    return rows('SELECT "kind", "value", "withdrawn" FROM "TrustEvent" ORDER BY "kind"')


def test_a_granted_appeal_reverses_the_verdict_that_has_come_since(tenant, message_id):
    opened = appeal(tenant, current(tenant).id)
    put(tenant, SECRETS_FLAG)
    assert current(tenant).action == "flag"

    decide(tenant, opened, granted=True)

    assert (current(tenant).content_id, current(tenant).action) == (message_id, "allow")
    assert current(tenant).scores["pardoned"]["action"] == "flag"
    assert events() == [("appeal", 1.0, False), ("moderation", 0.0, True)]


def test_a_granted_appeal_does_not_let_another_text_pass(tenant, message_id):
    opened = appeal(tenant, current(tenant).id)
    say_otherwise(message_id, OTHER_SECRET)
    judge(tenant, message_id, version=1)

    decide(tenant, opened, granted=True)

    assert current(tenant).action == "block"


def test_every_text_that_was_pardoned_passes_when_it_comes_back(tenant, message_id):
    decide(tenant, appeal(tenant, current(tenant).id), granted=True)
    say_otherwise(message_id, OTHER_SECRET)
    judge(tenant, message_id, version=1)
    decide(tenant, appeal(tenant, current(tenant).id), granted=True)

    say_otherwise(message_id, SECRET)

    assert judge(tenant, message_id, version=2)["action"] == "allow"


def test_a_rejected_appeal_costs_trust_once_and_leaves_the_verdict(tenant, message_id):
    decide(tenant, appeal(tenant, current(tenant).id), granted=False)

    assert current(tenant).action == "block"
    assert events() == [("appeal", -0.2, False), ("moderation", -1.0, False)]
    ((what,),) = rows("""SELECT "metadata" FROM "AuditLog" WHERE "action" = 'appeal.rejected'""")
    assert (what["before"], what["after"]) == ("block", "block")


def test_what_a_verdict_took_from_training_is_taught_again_after_a_granted_appeal(
    tenant, message_id
):
    execute(
        """INSERT INTO "TrainingExample" ("id", "prompt", "completion", "rating", "source",
                                          "messageId", "tenantId")
           VALUES ('one', 'p', 'c', 1, 'feedback', %s, %s)""",
        message_id,
        tenant,
    )

    def taught():
        with db.transaction(tenant) as conn:
            return [one.id for one in training_examples.select_examples(conn, None, limit=9)]

    blocked = taught()
    decide(tenant, appeal(tenant, current(tenant).id), granted=True)

    assert (blocked, taught()) == ([], ["one"])


def test_a_verdict_that_does_not_hold_cannot_be_appealed(tenant, message_id):
    before = current(tenant).id
    put(tenant, SECRETS_FLAG)

    with pytest.raises(AppealRefused, match="appeal its successor"):
        appeal(tenant, before)


def test_a_verdict_of_an_unknown_text_cannot_be_appealed(tenant, message_id):
    execute('UPDATE "ModerationResult" SET "contentSha256" = NULL')

    with pytest.raises(AppealRefused, match="no content hash"):
        appeal(tenant, current(tenant).id)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2_001])
def test_an_appeal_has_a_reason_of_bounded_length(tenant, message_id, reason):
    with pytest.raises(AppealRefused, match="The reason must be"), db.transaction(tenant) as conn:
        steering.open_appeal(conn, current(tenant).id, reason=reason)


def test_a_decided_appeal_says_who_decided_and_changes_nothing_more(tenant, message_id):
    opened = appeal(tenant, current(tenant).id)
    decide(tenant, opened, granted=True)

    with pytest.raises(AppealRefused, match="was granted by"):
        decide(tenant, opened, granted=False)

    assert current(tenant).action == "allow"
    assert [kind for kind, *_ in events()] == ["appeal", "moderation"]


def test_an_appeal_granted_after_the_text_was_judged_again_has_the_last_word(tenant, message_id):
    opened = appeal(tenant, current(tenant).id)

    with db.transaction(tenant) as conn:  # begins before the text is judged again
        judge(tenant, message_id, version=1)
        steering.decide_appeal(conn, opened, granted=True)

    assert current(tenant).action == "allow"
    assert events() == [("appeal", 1.0, False), ("moderation", 0.0, True)]


def test_nobody_decides_about_another_tenants_verdicts(tenant, message_id):
    verdict_id = current(tenant).id
    opened = appeal(tenant, verdict_id)
    stranger = make_tenant()

    with pytest.raises(VerdictNotFound):
        appeal(stranger, verdict_id)
    with pytest.raises(VerdictNotFound):
        decide(stranger, opened, granted=True)

    assert current(tenant).action == "block"
