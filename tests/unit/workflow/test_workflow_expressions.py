"""Expressions and templates: the values they yield, and the faults they tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ExpressionFailed
from shared.workflow.durations import seconds
from shared.workflow.expressions.evaluation import compile_expression, references, render

SCOPE = {
    "inputs": {"n": 3, "names": ["Ada", "Işık"], "deep": {"x": None}},
    "steps": {"a": {"output": {"text": "hi", "hits": [{"score": 0.5}]}, "state": "completed"}},
    "run": {"id": "r1"},
    "item": "x",
    "index": 0,
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${{ inputs.n }}", 3),
        ("${{ inputs.n + 1 }}", 4),
        ("n is ${{ inputs.n }}", "n is 3"),
        ("${{ index }}:${{ item }}", "0:x"),
        ("${{ steps.a.output }}", SCOPE["steps"]["a"]["output"]),
        ("${{ steps['a'].output.hits[0].score }}", 0.5),
        ("${{ inputs.names.map(name, name + '!') }}", ["Ada!", "Işık!"]),
        ("${{ inputs.names.exists(x, x == 'Ada') ? 'yes' : 'no' }}", "yes"),
        ("${{ '}}' + inputs.names[0] }}", "}}Ada"),
        ("all: ${{ inputs.names }}", 'all: ["Ada", "Işık"]'),
        ("nothing: ${{ inputs.deep.x }}", "nothing: "),
        ("no hole", "no hole"),
        ([{"a": ["${{ inputs.n }}", 7]}], [{"a": [3, 7]}]),
    ],
)
def test_a_template_yields_its_values(template, value):
    assert render(template, SCOPE) == value


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("inputs.missing", "unknown name 'missing'"),
        ("1 / 0", "division by zero"),
        ("0.0 / 0.0", "not a JSON number"),
        ("inputs.n + 0.5", "coerce"),
        ("timestamp('2026-01-01T00:00:00Z')", "not a JSON value"),
        ("inputs.names[7]", "out of bounds"),
    ],
)
def test_an_expression_without_a_value_fails_clearly(expression, why):
    with pytest.raises(ExpressionFailed, match=why):
        compile_expression(expression).evaluate(SCOPE)


def test_the_steps_that_a_template_reads_are_known_without_running_it():
    template = {"x": "${{ steps.a.output + steps['b'].output }}", "y": "steps.c ${{ 'steps.d' }}"}

    assert references(template) == {"a", "b"}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=8,
    )
)
def test_a_plain_path_yields_what_the_library_yields(value):
    scope = {"inputs": {"a": value}}

    assert compile_expression("inputs.a").evaluate(scope) == compile_expression(
        "[inputs.a][0]"
    ).evaluate(scope)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7_200), ("7d", 604_800), (9, 9)],
)
def test_durations_are_seconds(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "5", "5 parsecs", "-1s", "1e9s", "nan", float("nan"), True, -1]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"duration|seconds"):
        seconds(text)
