"""Policies: what they make of scores, and the faults they are refused for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PolicyRefused
from shared.judgement import moderation_policy, trust
from shared.judgement.moderation_policy import (
    CATEGORIES,
    DEFAULT,
    ModerationPolicy,
    Thresholds,
    decide,
)
from workers.domain.judgement.moderation.secrets import ISSUED

scores = st.dictionaries(st.sampled_from(CATEGORIES), st.floats(0, 1))
ORDER = ("allow", "flag", "block")


def test_the_worst_category_decides_and_personal_data_never_blocks_by_default():
    assert decide({"pii": 1.0}, DEFAULT).action == "flag"
    assert decide({"secret": 0.9, "pii": 0.6}, DEFAULT).action == "block"
    assert decide({"hate": 0.49}, DEFAULT).action == "allow"
    assert decide({"hate": 0.7, "violence": 0.2}, DEFAULT).categories == ["hate"]


@pytest.mark.parametrize("trusted", [0.0, 0.5, 1.0])
def test_by_default_an_issued_key_is_blocked_and_orders_are_flagged_at_any_trust(trusted):
    factor = trust.strictness(trusted)

    assert decide({"secret": ISSUED}, DEFAULT, strictness=factor).action == "block"
    assert decide({"prompt-injection": 1.0}, DEFAULT, strictness=factor).action == "flag"


def test_trust_bends_thresholds_only_where_the_policy_lets_it():
    bent = decide({"hate": 0.45}, DEFAULT, strictness=0.8)
    unbent = decide({"hate": 0.45}, ModerationPolicy(trust_adjusted=False), strictness=0.8)

    assert (bent.action, unbent.action) == ("flag", "allow")
    assert bent.thresholds["hate"] == {"flag_at": 0.4, "block_at": 0.72}


@given(scores, st.floats(0.8, 1.1), st.floats(0.8, 1.1))
def test_a_stricter_eye_never_lets_more_pass(found, one, other):
    low, high = sorted((one, other))

    strict, mild = (decide(found, DEFAULT, strictness=factor) for factor in (low, high))

    assert ORDER.index(strict.action) >= ORDER.index(mild.action)
    assert set(strict.categories) >= set(mild.categories)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"categories": {"harassmnt": {}}}, "did you mean harassment?"),
        ({"categories": {"xyz": {}}}, "known categories: harassment"),
        ({"default": {"flag_at": 0.9, "block_at": 0.5}}, "block_at must not be below flag_at"),
        ({"default": {"flag_at": 2}}, "default.flag_at"),
        ({"defaults": {}}, "defaults"),
        ([], "policy"),
    ],
)
def test_a_bad_policy_is_refused_with_its_place(document, reason):
    with pytest.raises(PolicyRefused, match=reason.replace("?", r"\?")):
        moderation_policy.read(document)


def test_what_is_written_is_read_again():
    mine = ModerationPolicy(categories={"hate": Thresholds(flag_at=0.3, block_at=None)})

    assert moderation_policy.read(mine.model_dump()) == mine
