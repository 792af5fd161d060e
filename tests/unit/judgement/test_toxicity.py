"""The English classifier: as its library computes it, in a tenth of the time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import moderation_sets
from workers.judgement.toxicity import probabilities


@pytest.mark.thorough
def test_every_probability_is_the_librarys_own():
    # Takes two seconds to import, and only this test asks the library itself.
    from profanity_check import predict_prob  # noqa: PLC0415

    texts = [one.text for one in moderation_sets.labelled("tuned")]
    texts += moderation_sets.clean_english()[:200]

    assert np.allclose(probabilities(texts), predict_prob(texts), rtol=0, atol=1e-12)


@pytest.mark.thorough
def test_the_file_holds_the_numbers_of_the_library_and_its_licence():
    from tests.support import toxicity_model  # noqa: PLC0415

    with np.load(toxicity_model.PLACE, allow_pickle=False) as held:
        assert {name: held[name].tolist() for name in held} == {
            name: array.tolist() for name, array in toxicity_model.arrays().items()
        }
    assert toxicity_model.PLACE.with_suffix(".txt").read_text().endswith(toxicity_model.licence())


@given(st.lists(st.text(), max_size=3))
def test_any_text_has_a_probability(texts):
    found = probabilities(texts)

    assert len(found) == len(texts)
    assert all(0 <= probability <= 1 for probability in found)


def test_nulls_and_lone_surrogates_do_no_harm():
    assert probabilities(["you \0idiot\ud800"]) == probabilities(["you idiot"])


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("You fucking idiot", 0.9, 1.0), ("The meeting is at ten", 0.0, 0.3), ("", 0.0, 0.5)],
)
def test_abuse_is_likelier_than_a_meeting(text, low, high):
    (probability,) = probabilities([text])

    assert low <= probability <= high
