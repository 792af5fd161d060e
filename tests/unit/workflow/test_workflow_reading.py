"""Definitions: what is accepted, and what every refusal says and where."""

import json
import time

import pytest

from producers.workflow.json_schema import json_schema
from shared.errors import DefinitionRefused
from shared.workflow.plan import compile_plan
from shared.workflow.reading import of_json, read
from tests.support.patience import cpu_patience

GOOD = """
name: order
inputs: {type: object, properties: {id: {type: string}, urls: {type: array}}}
timeout: 2h
concurrency: {key: "${{ inputs.id }}", on_conflict: reject}
steps:
  fetch:
    uses: http
    with: {url: "https://example.org/${{ inputs.id }}"}
    retry: {attempts: 5, backoff: 2s}
  each:
    uses: transform
    needs: fetch
    for_each: ${{ inputs.urls }}
    if: index < 10 && item != ''
    with: {value: "${{ item }} of ${{ steps.fetch.output.status }}"}
  ask: {uses: approval, needs: [each], timeout: 3d}
  nap: {sleep: 500ms, needs: ask}
  go: {wait_for: go, needs: nap, on_error: continue}
outputs: {all: "${{ steps.each.output }}"}
"""


def faults(text):
    with pytest.raises(DefinitionRefused) as refused:
        read(text, source="f.yaml")
    return str(refused.value)


def one(step, **more):
    return json.dumps({"name": "x", "steps": {"a": step}} | more)


def of(kind="transform", **given):
    return {"uses": kind, "with": given or {"value": 1}}


def test_a_definition_is_read_from_yaml_and_json_alike():
    made = read(GOOD)

    again = read(made.model_dump_json(by_alias=True, exclude_none=True))
    assert compile_plan(again) == compile_plan(made)
    assert [node.name for node in compile_plan(made).nodes] == [
        *("fetch", "each", "ask", "nap", "go"),
        "outputs",
    ]


def test_a_fault_names_line_column_rule_and_the_nearest_name():
    text = GOOD.replace("needs: fetch", "needs: fetsh").replace("uses: approval", "uses: aproval")

    assert faults(text).splitlines() == [
        "f.yaml:13:5: unknown_step: steps.each.needs: there is no step 'fetsh'; did you mean "
        '"fetch".',
        "f.yaml:16:5: not_needed: steps.each.with: it reads the step 'fetch' without needing it: "
        "add it to `needs`.",
        "f.yaml:17:9: unknown_kind: steps.ask.uses: no step kind is named 'aproval'; did you mean "
        '"approval".',
        "f.yaml:17:39: out_of_range: steps.ask.timeout: 3d must be between 1 and 86400 seconds.",
    ]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "model"),
        ("[]", "model"),
        ("name: x", "missing"),
        (json.dumps({"name": "x", "steps": {}}), "too_short"),
        (json.dumps({"name": "x", "steps": []}), "dict_type"),
        (json.dumps({"name": None, "steps": {"a": of()}}), "string_type"),
        (json.dumps({"name": "n" * 65, "steps": {"a": of()}}), "string_pattern"),
        (json.dumps({"name": "x", "steps": {"a-b": of()}}), "bad_name"),
        (json.dumps({"name": "x", "steps": {"\u00e9": of(), "e\u0301": of()}}), "bad_name"),
        (json.dumps({"name": "x", "steps": {"n" * 65: of()}}), "bad_name"),
        ('{"name": "x", "steps": {"a": {"sleep": 1}, "a": {"sleep": 2}}}', "duplicate name"),
        ("name: x\nsteps:\n  a: {sleep: 1}\n  a: {sleep: 2}\n", "3"),
        ("name: x\x00", "control_character"),
        ("name: !!python/object/apply:os.system ['true']", "syntax"),
        ("a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b]\nname: [", "syntax"),
        ('{"name": "x", "steps": {"a": {"sleep": NaN}}}', "NaN"),
        ("[" * 100_000, "too_deep"),
        ("- " * 100_000, "too_deep"),
        ('{"a":' * 100_000, "too_deep"),
        (json.dumps({"name": "x", "steps": {"a": of(value=[[[0]]] * 2)}, "x": 1}), "unknown_field"),
        (one(of() | {"need": ["b"]}), "unknown_field"),
        (one(of() | {"needs": ["a"]}), "cycle"),
        (one(of() | {"needs": ["b"]}), "unknown_step"),
        (one({}), "exactly one of uses, wait_for, sleep is required"),
        (
            one({"uses": "transform", "sleep": 1}),
            "exactly one of uses, wait_for, sleep is required",
        ),
        (one(of("shell", command="true")), "unknown_kind"),
        (one(of("run_step", run_id="x")), "unknown_kind"),
        (one(of("search")), "missing_field"),
        (one(of("search", query="q", k=1_000)), "wrong_type"),
        (one(of("search", query="q", kk=1)), "unknown_field"),
        (one(of() | {"timeout": -1}), "bad_duration"),
        (one(of() | {"timeout": "NaN"}), "bad_duration"),
        (one(of() | {"timeout": "2d"}), "out_of_range"),
        (one(of() | {"retry": {"attempts": 10**9}}), "less_than_equal"),
        (one(of() | {"for_each": [1], "max_parallel": 10**9}), "less_than_equal"),
        (one(of() | {"max_parallel": 3}), "without_for_each"),
        (one(of(), inputs={"type": "objekt"}), "bad_schema"),
        (one(of(), inputs={"$ref": "https://example.org/schema.json"}), "bad_schema"),
        (one(of(), outputs={"x": "${{ steps.b.output }}"}), "unknown_step"),
        (one(of(), concurrency="${{ steps.a.output }}"), "unknown_name"),
        (one(of(value="${{ item }}")), "no_item"),
        (one(of(value="${{ inputs.nam }}"), inputs={"properties": {"name": {}}}), "unknown_input"),
        (one(of() | {"if": "3"}), "no_condition"),
    ],
)
def test_what_cannot_run_is_refused_by_its_rule(text, rule):
    assert rule in faults(text)


@pytest.mark.parametrize(
    "expression",
    [
        *("__import__('os')", "().__class__", "lambda: 1", "ghost + 1", "steps[inputs.x].output"),
        *("open('/etc/passwd')", "${jndi:ldap://x}", "1; DROP TABLE", "inputs.a ||", "{{ 1 }}"),
        *("(" * 5_000 + ")" * 5_000, "1" + "+1" * 3_000, "inputs.s.matches(inputs.pattern)"),
        "inputs.a.map(x, inputs.a.map(y, inputs.a.map(z, 1)))",
        "inputs.s.matches('" + "a" * 300 + "')",
    ],
)
def test_expressions_that_could_do_harm_are_refused_at_submit(expression):
    assert "bad_expression" in faults(one(of() | {"if": expression}))


def test_a_circle_behind_a_root_names_its_path():
    steps = {"root": of(), "a": of() | {"needs": ["root", "c"]}, "b": of() | {"needs": "a"}}
    steps["c"] = of() | {"needs": "b"}

    assert "c -> b -> a -> c" in faults(json.dumps({"name": "x", "steps": steps})).replace(
        "a -> c -> b -> a", "c -> b -> a -> c"
    ).replace("b -> a -> c -> b", "c -> b -> a -> c")


@pytest.mark.thorough
def test_a_circle_of_thousands_is_abridged():
    steps = {f"s{n}": of() | {"needs": f"s{(n + 1) % 5_000}"} for n in range(5_000)}

    told = faults(json.dumps({"name": "x", "steps": steps}))
    assert ("cycle" in told, "more ..." in told, len(told) < 500) == (True, True, True)


def test_faults_are_told_together_and_at_most_twenty():
    steps = {f"s{n}": of() | {"needs": "ghost"} for n in range(30)}

    told = faults(json.dumps({"name": "x", "steps": steps})).splitlines()
    assert (len(told), told[-1]) == (21, "and 10 more")


def test_an_alias_bomb_is_refused_before_it_grows():
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))

    assert "too_large" in faults("a0: &a0 [x]\n" + bomb)


@pytest.mark.thorough
def test_a_hundred_thousand_steps_are_read_in_seconds():
    steps = {
        f"s{n}": {
            "uses": "transform",
            "with": {"value": n},
            "needs": [f"s{n - 1 - k}" for k in range(min(n, 2))],
        }
        for n in range(100_000)
    }
    text = json.dumps({"name": "large", "steps": steps})

    began = time.process_time()
    plan = compile_plan(read(text))

    assert len(plan.nodes) == 100_000
    assert time.process_time() - began < cpu_patience(
        15.0
    )  # the goal of 5 s is measured on a quiet machine


def test_the_platforms_json_is_read_like_a_file():
    value = json.loads(read(GOOD).model_dump_json(by_alias=True, exclude_none=True))

    assert of_json(value) == read(GOOD)


def test_editors_get_one_schema_that_knows_every_kind():
    schema = json_schema()

    names = {kind["const"] for kind in schema["$defs"]["StepSpec"]["properties"]["uses"]["anyOf"]}
    assert {"transform", "http", "ingest_document", "sleep"} <= names
    assert schema["properties"]["steps"]
