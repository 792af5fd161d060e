"""Plans, graphs, the schema of inputs and the schema for editors."""

import json
import time

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.workflow.graph import mermaid
from producers.workflow.json_schema import json_schema
from shared.workflow.input_schema import input_faults, schema_faults
from shared.workflow.plan import compile_plan
from shared.workflow.reading import read
from tests.support.patience import patience

TEXT = """
name: order
steps:
  b: {uses: transform, needs: a, if: steps.a.output > 1, with: {value: 1}}
  a:
    uses: transform
    with: {value: null}
    compensate: {uses: transform, with: {value: "${{ steps.a.output }}"}}
  c: {wait_for: go, needs: [a]}
outputs: {all: "${{ steps.b.output }}"}
"""


def test_a_plan_is_in_order_with_what_undoes_at_the_end():
    nodes = compile_plan(read(TEXT)).nodes

    assert [(node.name, node.uses, node.needs, node.dependents) for node in nodes] == [
        ("a", "transform", 0, (1, 2)),
        ("b", "transform", 1, (3,)),
        ("c", "signal", 1, (3,)),
        ("outputs", "outputs", 2, ()),
        ("undo_a", "transform", 0, ()),
    ]
    assert [node.reads for node in nodes] == [(), (0,), (), (1,), (0,)]
    assert [node.compensates for node in nodes] == [None] * 4 + [0]
    assert nodes[0].spec["with"] == {"value": None}


def test_a_digest_is_of_what_is_said_and_not_of_how_it_is_written():
    one = read(TEXT)
    other = read(json.dumps(json.loads(one.model_dump_json(by_alias=True, exclude_none=True))))

    assert compile_plan(one).digest == compile_plan(other).digest
    assert compile_plan(one).digest != compile_plan(read(TEXT.replace("> 1", "> 2"))).digest


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), min_size=1, max_size=30))
def test_every_dag_is_planned_with_each_step_after_its_needs(wanted):
    names = [f"s{n}" for n in range(len(wanted))]
    steps = {
        names[n]: {"sleep": 1, "needs": sorted({names[one] for one in needs if one < n})}
        for n, needs in enumerate(wanted)
    }
    # Written the other way round, so that the order is the plan's own.
    text = json.dumps({"name": "x", "steps": dict(reversed(steps.items()))})

    nodes = compile_plan(read(text)).nodes

    at = {node.name: node.position for node in nodes}
    for name, step in steps.items():
        assert all(at[needed] < at[name] for needed in step["needs"])
        assert nodes[at[name]].needs == len(step["needs"])
        assert all(at[name] in nodes[at[needed]].dependents for needed in step["needs"])


def test_a_graph_shows_kinds_conditions_undoing_and_states():
    drawn = mermaid(read(TEXT), {"a": "completed", "b": "failed", "c": "unheard_of"})

    for line in ("a --> c", "a -. if .-> b", "a -. undo .-> undo_a", "class b failed"):
        assert f"    {line}\n" in drawn
    assert "unheard_of" not in drawn


def test_editors_accept_what_the_reader_accepts_and_refuse_another_field():
    checker = jsonschema.Draft202012Validator(json_schema())
    said = json.loads(read(TEXT).model_dump_json(by_alias=True, exclude_none=True))

    assert list(checker.iter_errors(said)) == []
    said["steps"]["a"]["with"]["valeu"] = 1
    assert list(checker.iter_errors(said)) != []


def doubling(reference, of="allOf", levels=18):
    """A schema of a few lines whose references are 2 ** levels ones when they are unfolded."""
    after = [{"$ref": reference.format(n + 1)} for n in range(levels)]
    defs = {f"l{n}": {"$anchor": f"l{n}", of: [after[n]] * 2} for n in range(levels)}
    return {
        "$defs": {**defs, f"l{levels}": {"$anchor": f"l{levels}", "type": "object"}},
        "$ref": reference.format(0),
    }


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#"}, "without end"),
        ({"$ref": "#/$defs/gone"}, "does not exist"),
        ({"$ref": "https://example.org/s"}, "only point into"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "invalid pattern"),
        ({"properties": {"a": {"pattern": "a" * 201}}}, "at most 200 characters"),
        ({"patternProperties": {"(a+)+$": {}}}, "not supported"),
        ({"type": "objekt"}, "not valid"),
        ({"enum": list(range(6_000))}, "values"),
        (doubling("#/$defs/l{}"), "unfold"),
        (doubling("#/%24defs/l{}"), "unfold"),
        (doubling("#l{}"), "unfold"),
        ({"properties": {"a": doubling("#/properties/a/$defs/l{}")}}, "unfold"),
        (doubling("#/$defs/l{}", of="anyOf"), "unfold"),
        ({"items": doubling("#/items/$defs/l{}", of="prefixItems")}, "unfold"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema, message):
    assert any(message in told for _, told in schema_faults(schema))


def test_a_pattern_that_explodes_elsewhere_is_matched_at_once():
    schema = {"properties": {"a": {"pattern": "^(a+)+$"}}, "required": ["b"]}

    assert list(schema_faults(schema)) == []
    assert len(input_faults(schema, {"a": "a" * 50_000 + "!"})) == 2
    assert input_faults(schema, {"a": "a" * 50_000, "b": 1}) == []


def test_an_input_costs_no_more_checks_than_it_has_values_for():
    # Each level of the input is looked at twice: 2 ** 40 checks, and no circle without an end.
    node = {"allOf": [{"properties": {"n": {"$ref": "#/$defs/node"}}}] * 2}
    schema = {"$defs": {"node": node}, "$ref": "#/$defs/node"}
    given: dict[str, object] = {}
    for _ in range(40):
        given = {"n": given}
    began = time.process_time()

    assert list(schema_faults(schema)) == []
    assert input_faults(schema, given) == ["the schema asks for too many checks of this input"]
    assert input_faults(schema, {"n": {"n": {}}}) == []
    assert time.process_time() - began < patience(2.0)


def test_unique_items_of_a_large_input_are_found_at_once():
    schema = {"items": {"type": "object"}, "uniqueItems": True}
    given = [{"n": n} for n in range(10_000)]
    began = time.process_time()

    assert input_faults(schema, given) == []
    assert input_faults(schema, [*given, {"n": 1.0}]) == ["$: it has non-unique elements"]
    assert input_faults({"uniqueItems": True}, [1, True, "1", 0, False]) == []
    assert time.process_time() - began < patience(5.0)
