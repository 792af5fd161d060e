"""Routing learns: what runs in production, on Postgres, beside the textbook's bandit."""

import random

import numpy as np
import pytest

from shared import db
from shared.queries.models import model_routes
from shared.queries.models.model_routes import Reward
from tests.benchmarks.bandit import Environment, at_random, production, textbook
from tests.integration.models.test_model_routes import make_answers
from tests.oracles.bandit import moved
from tests.support.factories import make_tenant, rows
from workers.domain.models.bandit import Arm

pytestmark = pytest.mark.usefixtures("pool")
# The last is taken first, and is good enough for whoever never tries another.
CLEAR = (0.95, 0.45, 0.5, 0.55, 0.65)
PULLS, SEEDS = 250, range(6)


def quality(regrets):
    return np.mean([each.quality for each in regrets])


def test_regret_is_the_textbooks_where_nothing_but_quality_tells_models_apart():
    plain = Environment("plain", CLEAR)

    ours = quality(production(plain, PULLS, SEEDS))
    book = quality([textbook(plain, PULLS, seed) for seed in SEEDS])

    assert ours == pytest.approx(book, rel=0.1)
    assert ours < at_random(plain, PULLS).quality / 4


def test_price_costs_quality_and_gains_more_by_the_blend():
    # A little better for a hundred times the price: by the blend it is not worth it.
    dear = Environment("dear", (0.70, 0.80), ("0.001", "0.1"), (1_000.0, 1_000.0))

    ours = production(dear, PULLS, SEEDS)
    book = [textbook(dear, PULLS, seed) for seed in SEEDS]

    assert quality(ours) > quality(book)
    assert np.mean([each.blend for each in ours]) < np.mean([each.blend for each in book]) / 4


def test_a_newcomer_begins_with_what_others_learnt():
    alone = Environment("alone", CLEAR)
    among = Environment("among", CLEAR, before=CLEAR, others=100)

    assert quality(production(among, 60, SEEDS)) < quality(production(alone, 60, SEEDS)) / 2


def test_estimates_teach_before_ratings_replace_them():
    estimated = Environment("estimated", CLEAR, estimated=True)

    ours = quality(production(estimated, PULLS, SEEDS))

    assert ours < at_random(estimated, PULLS).quality / 2


def test_what_was_learnt_fades_by_the_day_as_the_textbook_fades():
    tenant = make_tenant()
    answers = make_answers(tenant, 60, models=("m1",), intents=("code",))
    rng = random.Random(5)
    expected = Arm()
    for day in range(6):
        with db.transaction(tenant) as conn:
            conn.execute("""UPDATE "TenantArm" SET "updatedAt" = "updatedAt" - interval '1 day'""")
        discount = model_routes.DISCOUNT
        for each in answers[10 * day : 10 * day + 10]:
            value, weight = rng.random(), rng.choice((0.2, 1.0))
            with db.transaction(tenant) as conn:
                model_routes.reward(conn, [Reward(each, value, weight)])
            expected = moved(expected, value, weight=weight, discount=discount)
            discount = 1.0

    ((alpha, beta),) = rows('SELECT "alpha", "beta" FROM "TenantArm"')
    assert (alpha, beta) == pytest.approx((expected.alpha, expected.beta), rel=1e-4)
