"""The formula of trust, and what a score is good for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ids import UserId
from shared.judgement import trust
from tests.oracles.trust import KINDS, Event, trust_score
from workers.domain.judgement.trust import BASE, DAY_S, FACTORS

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ADA = UserId("ada")

moments = st.floats(-10, 4_000).map(lambda days: NOW - timedelta(days=days))
events = st.builds(
    Event,
    user_id=st.just(ADA),
    kind=st.sampled_from([*sorted(KINDS), "unheard of"]),
    source_id=st.sampled_from("abc"),
    value=st.floats(-1, 1),
    occurred_at=moments,
    revision=moments,
    withdrawn=st.booleans(),
)
histories = st.lists(events, max_size=20)
ages = st.floats(0, 1e9)
scores = st.floats(0, 1)


def event(kind, value=1.0, days=0.0, source="s", **fields):
    at = NOW - timedelta(days=days)
    return Event(ADA, kind, source, value, at, fields.pop("revision", at), **fields)


def of(*some, age_days=0.0):
    return trust_score(some, age_s=age_days * DAY_S, now=NOW)


def test_bounds_add_up_to_a_score_between_zero_and_one():
    assert pytest.approx(0.0, abs=1e-12) == BASE + sum(factor.low for factor in FACTORS)
    assert pytest.approx(1.0, abs=1e-12) == BASE + sum(factor.high for factor in FACTORS)


@given(histories, ages)
def test_factors_add_up_to_the_score_and_none_leaves_its_bounds(some, age_s):
    found = trust_score(some, age_s=age_s, now=NOW)

    assert found.score == pytest.approx(sum(found.factors.values()), abs=1e-12)
    assert -1e-9 <= found.score <= 1 + 1e-9
    assert found.factors["base"] == BASE
    for factor in FACTORS:
        assert factor.low <= found.factors[factor.kind] <= factor.high


@given(histories, ages, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(some, age_s, rng):
    again = some * 3
    rng.shuffle(again)

    assert trust_score(again, age_s=age_s, now=NOW) == trust_score(some, age_s=age_s, now=NOW)


@given(histories, histories)
def test_a_replay_of_older_words_changes_nothing(some, older):
    latest = {(one.kind, one.source_id) for one in some}
    before = NOW - timedelta(days=5_000)
    late = [
        Event(ADA, one.kind, one.source_id, one.value, one.occurred_at, before, one.withdrawn)
        for one in older
        if (one.kind, one.source_id) in latest
    ]

    assert of(*some, *late) == of(*some)


def test_the_figures_are_those_of_the_formula():
    assert of().score == BASE == trust.NEUTRAL
    assert of(event("moderation", -1.0)).score == pytest.approx(0.35)
    assert of(event("moderation", -1.0, days=30)).score == pytest.approx(0.425)
    assert of(event("session", -0.2)).score == pytest.approx(0.49)
    assert of(event("payment"), event("payment", source="t", days=180)).score == (
        pytest.approx(0.575)
    )
    assert of(age_days=90).score == pytest.approx(0.575)


def test_what_is_withdrawn_counts_for_nothing_and_may_come_back():
    block = event("moderation", -1.0)
    appealed = event("moderation", -1.0, withdrawn=True, revision=NOW + timedelta(1))
    again = event("moderation", -0.5, revision=NOW + timedelta(2))

    assert of(block, appealed).score == BASE
    assert of(again, appealed, block).score == pytest.approx(BASE - 0.075)


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_the_older_evidence_is_the_less_it_weighs(one, other):
    near, far = sorted((one, other))

    assert of(event("moderation", -1.0, days=near)).score <= (
        of(event("moderation", -1.0, days=far)).score
    )


def test_flooding_with_praise_does_not_pay_for_a_block():
    praise = [event("feedback", source=str(n)) for n in range(1_000)]
    blocks = [event("moderation", -1.0, source=str(n)) for n in range(2)]

    assert of(*praise).factors["feedback"] == 0.15
    assert of(*praise, *blocks).score < trust.NEUTRAL


@given(scores, scores)
def test_who_is_trusted_more_waits_less_counts_more_and_is_judged_less_strictly(one, other):
    less, more = sorted((one, other))

    assert trust.rate_weight(less) >= trust.rate_weight(more)
    assert trust.reward_weight(less) <= trust.reward_weight(more)
    assert trust.strictness(less) <= trust.strictness(more)


@given(scores)
def test_what_follows_from_a_score_has_bounds(score):
    assert trust.rate_weight(score) in (1, 2, 4)
    assert 0.1 <= trust.reward_weight(score) <= 1.0
    assert 0.8 <= trust.strictness(score) <= 1.1


def test_somebody_unknown_meets_limits_thresholds_and_rewards_as_they_are_written():
    assert trust.rate_weight(trust.NEUTRAL) == 1
    assert trust.reward_weight(trust.NEUTRAL) == 1.0
    assert trust.strictness(trust.NEUTRAL) == 1.0


@pytest.mark.parametrize(
    ("score", "weight", "reward", "factor"),
    [
        (0.0, 4, 0.1, 0.8),
        (0.25, 4, 0.5, 0.9),
        (0.3, 2, 0.6, 0.92),
        (0.4, 1, 0.8, 0.96),
        (1.0, 1, 1.0, 1.1),
    ],
)
def test_uses_have_these_figures(score, weight, reward, factor):
    assert trust.rate_weight(score) == weight
    assert trust.reward_weight(score) == pytest.approx(reward)
    assert trust.strictness(score) == pytest.approx(factor)
