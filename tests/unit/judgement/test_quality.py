"""Quality estimates: in [0, 1], and better for what is better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.judgement.quality import (
    REFUSAL_FACTOR,
    UNGROUNDED,
    WEIGHTS,
    QualityInput,
    estimate,
    pairs,
)

PASSAGES = ["The lighthouse was built in 1857 by order of the harbour master.", "It is white."]
QUESTION = "When was the lighthouse built?"
texts = st.text(max_size=200)


def of(text, **fields):
    return QualityInput(text, [text], **({"question": QUESTION, "passages": PASSAGES} | fields))


def factor(name, text, **fields):
    return estimate(of(text, **fields)).factors[name]


def test_weights_add_up_to_one():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_an_answer_that_its_passage_holds_beats_one_that_it_does_not():
    good = estimate(of("The lighthouse was built in 1857."))
    bad = estimate(of("Bananas grow near rivers mostly."))

    assert good.factors["groundedness"] == 1.0
    assert bad.factors["groundedness"] == 0.0
    assert good.score > bad.score + 0.4


def test_without_passages_nothing_speaks_for_or_against_what_it_rests_on():
    assert factor("groundedness", "Anything at all.", passages=[]) == UNGROUNDED


def test_what_a_model_finds_alike_supports_what_other_words_say():
    answer = of("They erected the lighthouse in the nineteenth century.")
    compared = list(pairs(answer))

    alone = estimate(answer)
    helped = estimate(answer, dict.fromkeys(compared, 0.9))

    assert (answer.text, PASSAGES[0]) in compared
    assert helped.factors["groundedness"] > alone.factors["groundedness"]
    assert helped.factors["relevance"] > alone.factors["relevance"] - 1e-9


def test_what_a_passage_holds_word_by_word_is_not_compared():
    answer = of(PASSAGES[0])

    assert list(pairs(answer)) == [(QUESTION, PASSAGES[0])]


@pytest.mark.parametrize(
    "text",
    [
        "I cannot answer this.",
        "I can’t help.",
        "Verilen belgelerde buna bir yanıt yok.",
        "Bir yapay zekâ modeli olarak".replace("â", "a") + " bunu bilemem.",
    ],
)
def test_a_refusal_is_known_in_both_languages(text):
    assert estimate(of(text)).is_refusal


def test_repetition_another_language_and_broken_form_cost_something():
    again = "the ship sails at noon " * 10
    long = "the red ship of the old harbour master sails at noon and comes back at night " * 2

    assert factor("variety", again) < 0.2
    assert factor("language", "Evet.", is_same_language=False) == 0.0
    assert factor("formatting", "```python\nprint(1)\n") == 0.5
    assert factor("formatting", "| a | b |\n|---|---|\n| 1 |\n") == 0.5
    assert factor("formatting", long + "and then the") == 0.5
    assert factor("formatting", long.strip() + ".") == 1.0


@given(texts, texts, st.lists(texts, max_size=3), st.booleans())
def test_a_score_is_the_weighted_sum_of_its_factors(answer, question, passages, is_same):
    found = estimate(
        QualityInput(
            answer, [answer], question=question, passages=passages, is_same_language=is_same
        )
    )

    total = sum(WEIGHTS[name] * value for name, value in found.factors.items())
    assert set(found.factors) == set(WEIGHTS)
    assert all(0.0 <= value <= 1.0 for value in found.factors.values())
    assert 0.0 <= found.score <= 1.0
    assert found.score == pytest.approx(total * (REFUSAL_FACTOR if found.is_refusal else 1.0))
