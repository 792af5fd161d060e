"""Quality estimates: in [0, 1], and better for what is better."""

from hypothesis import given
from hypothesis import strategies as st

from workers.domain.quality import WEIGHTS, estimate

PASSAGE = "The lighthouse was built in 1857 by order of the harbour master."


def test_an_answer_that_its_passage_holds_beats_one_that_it_does_not():
    good = estimate(
        "The lighthouse was built in 1857.", question="When was it built?", passages=[PASSAGE]
    )
    bad = estimate(
        "Bananas grow near rivers mostly.", question="When was it built?", passages=[PASSAGE]
    )

    assert good.factors["groundedness"] == 1.0
    assert bad.factors["groundedness"] == 0.0
    assert good.score > bad.score + 0.4


def test_a_refusal_is_known_in_both_languages():
    for text in (
        "I cannot answer this.",
        "I can’t help.",
        "Verilen belgelerde buna bir yanıt yok.",
    ):
        assert estimate(text, question="", passages=[]).is_refusal


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_a_score_is_the_weighted_sum_of_its_factors(answer, question, passages):
    found = estimate(answer, question=question, passages=passages)

    total = sum(WEIGHTS[name] * value for name, value in found.factors.items())
    assert 0.0 <= found.score <= 1.0
    assert abs(found.score - total * (0.4 if found.is_refusal else 1.0)) < 1e-9
