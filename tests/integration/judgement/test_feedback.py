"""Ratings on a real Postgres: the last of each person counts, and what follows can be undone."""

import json
import threading

import pytest

from producers.judgement import feedback, training
from shared import db
from shared.contracts import CalibrateQuality, RecordMessage, ScoreQuality
from shared.errors import MessageNotFound, RatingRefused
from shared.models.providers import LOCAL_COMPLETER
from shared.queries.judgement import training_examples
from tests.support.factories import (
    claim,
    do,
    job,
    make_user,
    publish_jobs,
    rows,
)

pytestmark = pytest.mark.usefixtures("ada", "bob")


@pytest.fixture
def bob(tenant):
    return make_user(tenant, "bob")


QUESTION = "How long are backups kept?"
GOOD, BAD = "Backups are kept for thirty days.", "No idea, ask somebody else."


def record(tenant, content, question=QUESTION, **fields):
    """An answer that was recorded and scored. Returns its id."""
    given = {"content": content, "question": question, "model": LOCAL_COMPLETER, "user_id": "ada"}
    (lease,) = claim(*publish_jobs(tenant, [RecordMessage(**(given | fields), judge=False)]))
    do(lease)
    message_id = job(lease.job_id)["outcome"]["messageId"]
    if fields.get("role") != "USER":
        jobs = [ScoreQuality(message_id=message_id, question=question)]
        do(*claim(*publish_jobs(tenant, jobs)))
    return message_id


def rate(tenant, message_id, rating, user="ada", comment=None):
    """Rate a message, and let it take effect."""
    with db.transaction(tenant) as conn:
        published = feedback.give(conn, message_id, user, rating=rating, comment=comment)
    do(*claim(published.id))


def withdraw(tenant, user):
    """Have somebody ask that what is theirs be deleted."""
    with db.transaction(tenant) as conn:
        conn.execute(
            """INSERT INTO "DSARRequest" ("userId", "type", "status")
               VALUES (%s, 'DELETION', 'PENDING')""",
            [user],
        )


def actual(message_id):
    ((value,),) = rows(
        'SELECT "actualScore" FROM "QualityScore" WHERE "messageId" = %s', message_id
    )
    return value


def examples(tenant):
    return sorted((one.source, one.completion, one.rejected) for one in training.examples(tenant))


def test_the_last_rating_of_each_person_counts(tenant):
    answer = record(tenant, GOOD)

    rate(tenant, answer, 1)
    rate(tenant, answer, 5)
    rate(tenant, answer, 4, user="bob")

    assert actual(answer) == pytest.approx((1.0 + 0.75) / 2)
    assert rows('SELECT count(*) FROM "Feedback"') == [(2,)]


def test_a_rating_moves_the_models_arm_once_and_a_later_one_corrects_it(tenant):
    answer = record(tenant, GOOD)
    for rating in (5, 5, 1):
        rate(tenant, answer, rating)

    ((alpha, beta, pulls),) = rows('SELECT "alpha", "beta", "pulls" FROM "TenantArm"')
    assert (alpha, beta, pulls) == pytest.approx((1.0, 2.0, 1), abs=1e-3)


def test_a_rating_that_came_before_the_score_is_carried_over_when_it_comes(tenant):
    given = {"content": GOOD, "question": QUESTION, "model": LOCAL_COMPLETER, "user_id": "ada"}
    (lease,) = claim(*publish_jobs(tenant, [RecordMessage(**given, judge=False)]))
    do(lease)
    answer = job(lease.job_id)["outcome"]["messageId"]
    rate(tenant, answer, 5)

    do(*claim(*publish_jobs(tenant, [ScoreQuality(message_id=answer, question=QUESTION)])))
    ids = rows("""SELECT "id" FROM "Job" WHERE "job" = 'apply_feedback' AND "state" = 'PENDING'""")
    for lease in claim(*[one for (one,) in ids]):
        do(lease)

    assert actual(answer) == 1.0


def test_a_good_answer_teaches_and_of_two_the_better_one_is_preferred(tenant):
    good, bad = record(tenant, GOOD), record(tenant, BAD)

    rate(tenant, good, 5)
    rate(tenant, bad, 1)

    assert examples(tenant) == [("feedback", GOOD, None), ("preference", GOOD, BAD)]


def test_a_rating_that_falls_withdraws_what_it_taught_and_one_that_rises_brings_it_back(tenant):
    good, bad = record(tenant, GOOD), record(tenant, BAD)
    rate(tenant, good, 5)
    rate(tenant, bad, 1)

    rate(tenant, good, 3)
    fallen = examples(tenant)
    rate(tenant, good, 4)

    assert fallen == []
    assert examples(tenant) == [("feedback", GOOD, None), ("preference", GOOD, BAD)]
    assert rows('SELECT count(*) FROM "TrainingExample"') == [(2,)]


def test_the_same_words_are_one_example(tenant):
    for number in range(3):
        rate(tenant, record(tenant, GOOD, external_id=str(number)), 5)

    assert examples(tenant) == [("feedback", GOOD, None)]


def test_neither_flagged_content_nor_that_of_who_has_withdrawn_is_taught(tenant):
    flagged, later = record(tenant, GOOD), record(tenant, "Thirty days, after that they go.")
    verdict = """INSERT INTO "ModerationResult" ("contentId", "contentType", "flagged", "scores")
                 VALUES (%s, 'message', true, '{}')"""
    with db.transaction(tenant) as conn:
        conn.execute(verdict, [flagged])
    rate(tenant, flagged, 5)
    rate(tenant, later, 5)
    before = examples(tenant)

    withdraw(tenant, "ada")

    assert [one[1] for one in before] == ["Thirty days, after that they go."]
    assert examples(tenant) == []


@pytest.mark.parametrize("withdraws", ["ada", "bob"])
@pytest.mark.parametrize("last", ["good", "bad"])
def test_of_a_preference_neither_answer_may_be_of_who_has_withdrawn(tenant, withdraws, last):
    ratings = {record(tenant, GOOD): 5, record(tenant, BAD, user_id="bob"): 1}
    for answer in ratings if last == "bad" else reversed(ratings):
        rate(tenant, answer, ratings[answer])
    before = examples(tenant)

    withdraw(tenant, withdraws)

    assert ("preference", GOOD, BAD) in before
    assert examples(tenant) == ([] if withdraws == "ada" else [("feedback", GOOD, None)])


def test_a_preference_is_kept_as_the_preferred_answers_owner_s(tenant):
    good, bad = record(tenant, GOOD), record(tenant, BAD, user_id="bob")

    rate(tenant, good, 5)
    rate(tenant, bad, 1)

    assert set(rows('SELECT "source", "userId" FROM "TrainingExample"')) == {
        ("feedback", "ada"),
        ("preference", "ada"),
    }


def test_answers_nobody_rated_take_no_place_of_those_that_were(tenant):
    good, bad = record(tenant, GOOD), record(tenant, BAD)
    rate(tenant, good, 5)
    rate(tenant, bad, 1)
    record(tenant, "Unrated, and newer.")

    with db.transaction(tenant) as conn:
        found = training_examples.select_answers(conn, bad, limit=2)

    assert {row.id for row in found} == {good, bad}


def test_what_others_say_of_a_persons_own_message_moves_their_trust_alone(tenant):
    said = record(tenant, "I think you are all wonderful.", role="USER", question="", model=None)

    rate(tenant, said, 5, user="ada")
    rate(tenant, said, 5, user="bob")

    found = rows("""SELECT "payload" FROM "Job" WHERE "job" = 'update_trust'""")
    assert {(one["user_id"], one["source_id"], one["value"]) for (one,) in found} == {
        ("ada", f"{said}/bob", 1.0)
    }


def test_two_ratings_at_once_that_make_a_preference_make_one(tenant):
    good, bad = record(tenant, GOOD), record(tenant, BAD)
    with db.transaction(tenant) as conn:
        ids = [
            feedback.give(conn, good, "ada", rating=5).id,
            feedback.give(conn, bad, "ada", rating=1).id,
        ]
    threads = [threading.Thread(target=do, args=(lease,)) for lease in claim(*ids)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ("preference", GOOD, BAD) in examples(tenant)


def test_ratings_that_take_effect_late_in_any_order_or_at_once_end_alike(tenant):
    said = [("bad", "bob", 4), ("good", "ada", 2), ("good", "bob", 5), ("bad", "bob", 1),
            ("good", "ada", 5), ("bad", "ada", 2)]  # fmt: skip
    ends = []
    for order in ("as they came", "backwards", "shuffled", "at once"):
        answers = {
            "good": record(tenant, GOOD, f"Asked {order}?"),
            "bad": record(tenant, BAD, f"Asked {order}?"),
        }
        with db.transaction(tenant) as conn:
            ids = [
                feedback.give(conn, answers[which], user, rating=rating).id
                for which, user, rating in said
            ]

        take_effect(claim(*ids), order)

        ends.append(end_of(tenant, answers))

    assert ends[0] == [1.0, 0.125, [1.0, 0.125], [("feedback", None), ("preference", BAD)]]
    assert all(end == ends[0] for end in ends)


def take_effect(leases, order):
    if order == "at once":
        threads = [threading.Thread(target=do, args=(lease,)) for lease in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return
    places = {"backwards": (5, 4, 3, 2, 1, 0), "shuffled": (3, 0, 5, 1, 4, 2)}
    for place in places.get(order, range(6)):
        do(leases[place])


def end_of(tenant, answers):
    """The scores, the rewards and the examples that two answers ended with."""
    good, bad = answers.values()
    rewards = [
        value
        for message_id in (good, bad)
        for (value,) in rows('SELECT "reward" FROM "ArmReward" WHERE "messageId" = %s', message_id)
    ]
    taught = rows(
        """SELECT "source", "rejected" FROM "TrainingExample"
           WHERE "messageId" = %s AND "withdrawnAt" IS NULL ORDER BY 1""",
        good,
    )
    return [actual(good), actual(bad), rewards, taught]


def test_what_cannot_be_rated_is_refused(tenant):
    answer = record(tenant, GOOD)
    for message_id, rating, error in (
        (answer, 6, RatingRefused),
        (answer, -2, RatingRefused),
        ("nothing", 5, MessageNotFound),
    ):
        with pytest.raises(error), db.transaction(tenant) as conn:
            feedback.give(conn, message_id, "ada", rating=rating)


def test_a_comment_is_moderated(tenant):
    rate(tenant, record(tenant, GOOD), 5, comment="Very helpful, thank you.")

    ((asked,),) = rows("""SELECT "payload" FROM "Job" WHERE "job" = 'moderate_content'""")
    assert asked["content_type"] == "feedback"


def test_calibration_is_learnt_from_ratings_and_read_by_the_next_estimate(tenant):
    with db.transaction(tenant) as conn:
        conn.execute("""INSERT INTO "Conversation" ("id", "userId") VALUES ('c', 'ada')""")
        conn.execute(
            """INSERT INTO "Message" ("id", "conversationId", "role", "content")
               SELECT 'm' || n, 'c', 'ASSISTANT', 'x' FROM generate_series(1, 300) n"""
        )
        conn.execute(
            """INSERT INTO "QualityScore" ("messageId", "estimatedScore", "actualScore", "metrics")
               SELECT 'm' || n, n / 300.0, round(power(n / 300.0, 3)::numeric * 4) / 4,
                      jsonb_build_object('raw', n / 300.0)
               FROM generate_series(1, 300) n"""
        )
    (lease,) = claim(*publish_jobs(tenant, [CalibrateQuality(day="2026-11-23")]))
    do(lease)

    outcome = job(lease.job_id)["outcome"]
    assert (outcome["method"], outcome["version"]) == ("isotonic", 1)
    assert outcome["error"] < outcome["errorRaw"] / 3
    answer = record(tenant, GOOD)
    ((score, metrics),) = rows(
        'SELECT "estimatedScore", "metrics" FROM "QualityScore" WHERE "messageId" = %s', answer
    )
    assert metrics["calibration"] == 1
    assert score < metrics["raw"]


def test_an_export_is_what_openai_takes_split_by_the_prompt_and_audited(tenant, run, tmp_path):
    for number in range(30):
        question = f"Question number {number}?"
        good = record(tenant, f"Answer {number} it is.", question)
        bad = record(tenant, f"Nothing {number} at all.", question)
        rate(tenant, good, 5)
        rate(tenant, bad, 1)
    parts = {}
    for form in ("openai", "dpo"):
        for split in ("train", "holdout"):
            path = tmp_path / f"{form}-{split}.jsonl"
            code, output = run(
                "training", "export", "--tenant", tenant, "--format", form, "--split", split,
                "--holdout", "0.3", "-o", str(path), "--json",
            )  # fmt: skip
            assert code == 0, output
            parts[form, split] = [json.loads(line) for line in path.read_text().splitlines()]

    chat = parts["openai", "train"][0]["messages"]
    assert [turn["role"] for turn in chat] == ["user", "assistant"]
    pair = parts["dpo", "train"][0]
    assert pair["preferred_output"][0]["content"].startswith("Answer")
    assert pair["non_preferred_output"][0]["content"].startswith("Nothing")
    prompts = {
        (form, split): {
            (line["messages"] if form == "openai" else line["input"]["messages"])[0]["content"]
            for line in lines
        }
        for (form, split), lines in parts.items()
    }
    assert prompts["openai", "holdout"] == prompts["dpo", "holdout"] != set()
    assert prompts["openai", "train"].isdisjoint(prompts["openai", "holdout"])
    assert sum(len(lines) for lines in parts.values()) == 60
    acts = rows("""SELECT "metadata" FROM "AuditLog" WHERE "action" = 'training.export'""")
    assert len(acts) == 4


def test_a_command_rates_and_lists(tenant, run):
    answer = record(tenant, GOOD)

    code, output = run(
        "feedback", "give", answer, "--tenant", tenant, "--user", "ADA@example.org",
        "--rating", "4", "--comment", "Good.", "--json",
    )  # fmt: skip
    assert code == 0, output
    code, output = run("feedback", "list", "--tenant", tenant, "--json")

    (listed,) = json.loads(output)
    assert (listed["user"], listed["rating"], listed["comment"]) == ("ada@example.org", 4, "Good.")
