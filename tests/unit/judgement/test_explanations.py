"""Shapley values: what they add up to, and the axioms that make them fair."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.thoroughness import examples
from workers.domain.judgement import quality, trust
from workers.domain.judgement.shapley import EXACT_MAX, exact, kept, of_factors, words
from workers.domain.models import routing

shares = st.floats(0, 1)


def game(worths):
    """A game by the worth of each subset, in the order of binary numbers."""

    def worth(masks):
        return np.array([worths[sum(1 << at for at, on in enumerate(row) if on)] for row in masks])

    return worth


games = st.integers(1, 5).flatmap(
    lambda count: st.lists(st.floats(-1, 1), min_size=2**count, max_size=2**count)
)


def by_orders(worths, count):
    """The definition itself: the mean over all orders of what each adds."""
    totals = np.zeros(count)
    for order in itertools.permutations(range(count)):
        mask = 0
        for player in order:
            totals[player] += worths[mask | 1 << player] - worths[mask]
            mask |= 1 << player
    return totals / math.factorial(count)


@settings(max_examples=examples(60))
@given(games)
def test_values_are_those_of_the_definition_and_add_up(worths):
    count = len(worths).bit_length() - 1
    names = [str(at) for at in range(count)]

    found = exact(names, game(worths))

    assert list(found.values.values()) == pytest.approx(by_orders(worths, count), abs=1e-9)
    assert sum(found.values.values()) == pytest.approx(found.score - found.base, abs=1e-9)
    assert (found.base, found.score) == (worths[0], worths[-1])


def test_who_changes_nothing_gets_nothing_and_equals_get_the_same():
    def worth(masks):
        return (masks[:, 0] & masks[:, 1]).astype(float)

    found = exact(["left", "right", "idle"], worth)

    assert found.values == pytest.approx({"left": 0.5, "right": 0.5, "idle": 0.0})


@given(st.fixed_dictionaries(dict.fromkeys(quality.WEIGHTS, shares)), st.booleans())
def test_a_quality_score_adds_up_through_its_refusal(factors, is_refusal):
    given_factors = factors | {"refusal": float(is_refusal)}
    reference = dict.fromkeys(quality.WEIGHTS, 0.5) | {"refusal": 0.0}

    found = of_factors(
        given_factors, reference, lambda of: quality.raw_score(of, is_refusal=of["refusal"] > 0)
    )

    assert found.score == pytest.approx(quality.raw_score(factors, is_refusal=is_refusal))
    assert sum(found.values.values()) == pytest.approx(found.score - found.base, abs=1e-6)
    if not is_refusal:
        assert found.values["refusal"] == pytest.approx(0.0, abs=1e-12)


@given(st.fixed_dictionaries({factor.kind: st.floats(-0.3, 0.15) for factor in trust.FACTORS}))
def test_the_values_of_an_additive_score_are_its_parts(parts):
    found = of_factors(parts, dict.fromkeys(parts, 0.0), lambda of: trust.BASE + sum(of.values()))

    assert found.values == pytest.approx(parts, abs=1e-9)


@given(st.fixed_dictionaries(dict.fromkeys(routing.WEIGHTS, shares)))
def test_a_routing_score_is_shared_out_by_its_weights(terms):
    found = of_factors(terms, dict.fromkeys(terms, routing.UNKNOWN), routing.score)

    wanted = {name: weight * (terms[name] - 0.5) for name, weight in routing.WEIGHTS.items()}
    assert found.values == pytest.approx(wanted, abs=1e-9)


@given(
    st.text("ab \n.ğ", max_size=80),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 9)), max_size=4),
)
def test_all_words_together_are_the_text_and_are_few_enough(text, found):
    players = words(text, [(start, start + chars) for start, chars in found])

    assert kept(text, players, [True] * len(players)) == (text if text.strip() else "")
    assert kept(text, players, [False] * len(players)) == ""
    assert len(players) <= EXACT_MAX


def test_what_was_found_takes_part_by_itself_in_a_long_text():
    text = "calm " * 20 + "kill you " + "calm " * 20

    players = words(text, [(100, 108)])

    assert list(players) == ["kill@100", "you@105", "(the rest, part 1)", "(the rest, part 2)"]
    assert kept(text, players, [False, True, True, False]) == "calm " * 20 + "you "
    assert kept(text, players, [True, False, False, True]) == "kill " + "calm " * 20
