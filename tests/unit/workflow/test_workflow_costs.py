"""What expressions may cost, and that the short ways to a value lead to the library's."""

import time

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ExpressionFailed
from shared.workflow.expressions.evaluation import compile_expression, render
from tests.support.patience import cpu_patience

ITEMS = [{"k": n, "tags": ["a", "b"]} for n in range(10_000)]
SCOPE = {"inputs": {"l": ITEMS, "x": 3, "text": "t" * 100_000}, "steps": {}, "run": {}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("inputs.l.map(one, one.k + inputs.x)", [item["k"] + 3 for item in ITEMS]),
        ("inputs.l.filter(one, one.k > 9990)", ITEMS[9_991:]),
        ("inputs.l.all(one, one.k >= 0)", True),
        ("size(inputs.l)", 10_000),
    ],
)
def test_ten_thousand_items_are_gone_over_within_a_second(expression, value):
    began = time.process_time()

    assert compile_expression(expression).evaluate(SCOPE) == value
    assert time.process_time() - began < cpu_patience(
        3
    )  # the square of the length would be five, or hours


@pytest.mark.parametrize(
    "expression",
    [
        "inputs.l.map(one, inputs.l)",
        "inputs.l.map(one, inputs.l.map(other, other.k))",
        "inputs.l.filter(one, inputs.l.exists(other, other == one))",
        "inputs.l.map(one, inputs.text)",
        "inputs.l.map(one, one.k).size() > 1",
        "["
        + ",".join(["inputs.text + inputs.text"] * 130)
        + "].map(t, "
        + "+".join("t" * 99)
        + ")",
    ],
)
def test_what_would_hold_a_worker_for_seconds_fails_before_it_begins(expression):
    began = time.process_time()

    with pytest.raises(ExpressionFailed, match="too much at once"):
        compile_expression(expression).evaluate(SCOPE)
    assert time.process_time() - began < cpu_patience(2)


def test_short_lists_may_be_nested():
    scope = {"inputs": {"l": ITEMS[:200]}}

    made = compile_expression("inputs.l.map(one, one.tags.map(tag, tag + tag))").evaluate(scope)
    assert made == [["aa", "bb"]] * 200


def test_a_large_input_costs_nothing_where_it_is_not_read():
    scope = {"inputs": {"x": 1, "large": ITEMS}}
    compile_expression("inputs.x + 1")

    began = time.process_time()
    made = [render("${{ inputs.x + 1 }}", scope) for _ in range(1_000)]

    assert made == [2] * 1_000
    assert time.process_time() - began < cpu_patience(1)  # handing all of it over would take ten


def test_maps_are_written_in_one_order():
    made = {render("of ${{ {'b': 1, 'a': 2, 'd': 3, 'c': 4} }}", {}) for _ in range(20)}

    assert made == {'of {"a": 2, "b": 1, "c": 4, "d": 3}'}


@given(
    st.sampled_from(
        [
            *("inputs.a.b == null", "has(inputs.a.b)", "'a' in inputs", "size(inputs.a)"),
            *(
                "[inputs.a, inputs['a']]",
                "inputs.a.map(x, [x, inputs.b])",
                "inputs.a.filter(x, x == 1)",
            ),
            *(
                "inputs.a + inputs.a",
                "inputs.a[0].b",
                "inputs.a.map(x, x != inputs.b, x)",
                "inputs",
            ),
        ]
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "a": st.recursive(
                st.none() | st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=600),
                # One name each: the library goes over the names of a map in any order.
                lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=1),
                max_leaves=3,
            ),
            "b": st.integers(0, 3),
        },
    ),
)
def test_reading_a_part_of_the_scope_yields_what_reading_all_of_it_does(expression, inputs):
    def told(evaluate):
        try:
            return evaluate()
        except (ExpressionFailed, ValueError, TypeError, LookupError, RuntimeError):
            return "failed"

    whole = told(lambda: cel.compile(expression).execute({"inputs": inputs}))

    assert told(lambda: compile_expression(expression).evaluate({"inputs": inputs})) == whole
