"""What answers earn their models, on a real Postgres: counted once, in any order, by many."""

import random
import threading

import pytest

from shared import db
from shared.db import Role
from shared.ids import MessageId
from shared.queries.models import model_routes
from shared.queries.models.model_routes import PRIOR_PULLS, Reward
from tests.support.factories import make_tenant, rows

pytestmark = pytest.mark.usefixtures("pool")


def make_answers(tenant, count, *, models=("m1", "m2"), intents=("code", "chat")):
    """Answers of models of the catalogue, in turn. Returns their ids."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """INSERT INTO "AIProvider" ("id", "name", "slug") VALUES ('p', 'P', 'p')
               ON CONFLICT DO NOTHING"""
        )
        for model in models:
            conn.execute(
                """INSERT INTO "AIModel" ("id", "providerId", "name", "slug", "contextWindow",
                                          "costPer1kIn", "costPer1kOut")
                   VALUES (%(model)s, 'p', %(model)s, %(model)s, 1000, 0, 0)
                   ON CONFLICT DO NOTHING""",
                {"model": model},
            )
        conn.execute(
            """INSERT INTO "User" ("id", "email", "passwordHash", "tenantId")
               VALUES (%(tenant)s, %(tenant)s, '', %(tenant)s)""",
            {"tenant": tenant},
        )
        conn.execute(
            'INSERT INTO "Conversation" ("id", "userId") VALUES (%(tenant)s, %(tenant)s)',
            {"tenant": tenant},
        )
        ids = [f"{tenant}-{number:05}" for number in range(count)]
        for at, each in enumerate(ids):
            conn.execute(
                """INSERT INTO "Message" ("id", "conversationId", "role", "content", "modelId",
                                          "intent")
                   VALUES (%s, %s, 'ASSISTANT', 'x', %s, %s)""",
                [each, tenant, models[at % len(models)], intents[at // 2 % len(intents)]],
            )
    return [MessageId(each) for each in ids]


def reward(tenant, *given, discount=1.0):
    with db.transaction(tenant) as conn:
        return model_routes.reward(conn, [Reward(*one) for one in given], discount=discount)


def arm(table, model="m1", intent="code"):
    ((alpha, beta, pulls, rewards),) = rows(
        f"""SELECT "alpha", "beta", "pulls", "rewards" FROM "{table}"
            WHERE "modelId" = %s AND "intent" = %s""",
        model,
        intent,
    )
    return alpha, beta, pulls, rewards


def test_a_reward_moves_the_tenants_arm_the_global_one_and_the_score(tenant):
    answer, *_ = make_answers(tenant, 1)

    reward(tenant, (answer, 0.75, 1.0))

    assert arm("TenantArm") == arm("BanditArm") == (1.75, 1.25, 1, 0.75)
    assert rows('SELECT "pulls", "wins" FROM "RoutingScore"') == [(1, 1)]


def test_the_same_word_again_moves_nothing_and_a_later_one_replaces_it(tenant):
    answer, *_ = make_answers(tenant, 1)
    for value in (1.0, 1.0, 0.25):
        reward(tenant, (answer, value, 1.0))

    assert arm("TenantArm") == arm("BanditArm") == (1.25, 1.75, 1, 0.25)
    assert rows('SELECT "pulls", "wins" FROM "RoutingScore"') == [(1, 0)]


def test_an_estimate_never_replaces_a_rating(tenant):
    answer, *_ = make_answers(tenant, 1)
    reward(tenant, (answer, 0.9, 0.2))
    reward(tenant, (answer, 0.0, 1.0))
    rated = arm("TenantArm")

    reward(tenant, (answer, 0.9, 0.2))

    assert arm("TenantArm") == rated == pytest.approx((1.0, 2.0, 1, 0.0))


def test_an_answer_without_model_or_intent_moves_nothing(tenant):
    answer, *_ = make_answers(tenant, 1)
    with db.transaction(tenant) as conn:
        conn.execute('UPDATE "Message" SET "intent" = NULL')

    assert reward(tenant, (answer, 1.0, 1.0)) == 0
    assert rows('SELECT count(*) FROM "BanditArm"') == [(0,)]


def test_a_tenants_arm_begins_with_the_global_one_worth_a_few_pulls(tenant):
    answers = make_answers(tenant, 200, models=("m1",), intents=("code",))
    reward(tenant, *[(each, 0.8, 1.0) for each in answers])
    newcomer = make_tenant()
    first, *_ = make_answers(newcomer, 1, models=("m1",), intents=("code",))

    reward(newcomer, (first, 1.0, 1.0))

    ((alpha, beta),) = rows(
        'SELECT "alpha", "beta" FROM "TenantArm" WHERE "tenantId" = %s', newcomer
    )
    assert alpha == pytest.approx(1 + 0.8 * PRIOR_PULLS + 1)
    assert beta == pytest.approx(1 + 0.2 * PRIOR_PULLS)


def test_another_tenants_message_earns_nothing(tenant):
    other = make_tenant()
    theirs, *_ = make_answers(other, 1)

    assert reward(tenant, (theirs, 1.0, 1.0)) == 0


def test_old_rewards_fade_and_a_correction_weighs_what_it_corrects_weighs_by_now(tenant):
    answer, *_ = make_answers(tenant, 1)
    reward(tenant, (answer, 1.0, 1.0), discount=0.5)
    with db.transaction(None, role=Role.OWNER) as conn:
        for table, column in (("TenantArm", "updatedAt"), ("BanditArm", "updatedAt")):
            conn.execute(f"""UPDATE "{table}" SET "{column}" = "{column}" - interval '2 days'""")
        conn.execute("""UPDATE "ArmReward" SET "rewardedAt" = "rewardedAt" - interval '2 days'""")

    reward(tenant, (answer, 0.0, 1.0), discount=0.5)

    alpha, beta, pulls, rewards = arm("TenantArm")
    assert (alpha, beta) == pytest.approx((1.0, 1.25), abs=1e-4)
    assert arm("BanditArm")[:2] == pytest.approx((1.0, 1.25), abs=1e-4)
    assert (pulls, rewards) == (1, 0.0)


def test_eight_workers_at_once_lose_no_update(tenant):
    answers = make_answers(tenant, 400)
    rng = random.Random(3)
    given = [(each, rng.choice((0.0, 0.5, 1.0)), 1.0) for each in answers]
    failures = []

    def work(at):
        mine = given[:]
        random.Random(at).shuffle(mine)  # everybody tells everything, each in another order
        try:
            for start in range(0, len(mine), 20):
                reward(tenant, *mine[start : start + 20])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    for table in ("TenantArm", "BanditArm"):
        ((won, lost, pulls, rewards),) = rows(
            f"""SELECT sum("alpha" - 1), sum("beta" - 1), sum("pulls"), sum("rewards")
                FROM "{table}" """
        )
        total = sum(value for _, value, _ in given)
        assert (won, lost) == pytest.approx((total, len(given) - total))
        assert (pulls, rewards) == (len(given), pytest.approx(total))
