"""Definitions that mean harm, or a mistake: each is refused in time by its rule."""

import json
import time

import pytest

from shared.errors import DefinitionRefused
from shared.workflow.plan import compile_plan
from shared.workflow.reading import read
from tests.support.patience import cpu_patience

DONE = {"uses": "transform", "with": {"value": 1}}


def written(steps, **more):
    return json.dumps({"name": "x", "steps": steps} | more)


def valued(value):
    return written({"a": {"uses": "transform", "with": {"value": value}}})


def asked(expression):
    return written({"a": DONE | {"if": expression}})


def chain(length):
    return {f"s{n}": DONE | ({"needs": f"s{n - 1}"} if n else {}) for n in range(length)}


def refusal(text):
    with pytest.raises(DefinitionRefused) as refused:
        read(text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        # nothing, or nothing that is a list of steps
        *[("", "model"), ("null", "model"), ("7", "model"), ('"text"', "model")],
        *[("{}", "missing"), (written({}), "too_short"), (written([]), "dict_type")],
        (written({"a": None}), "model"),
        # circles
        (written({"a": DONE | {"needs": "a"}}), "a -> a"),
        (written({"a": DONE | {"needs": "b"}, "b": DONE | {"needs": "a"}}), "cycle"),
        (written({"r": DONE, "a": DONE | {"needs": ["r", "a"]}}), "a -> a"),
        (written(chain(5_000) | {"s0": DONE | {"needs": "s4999"}}), "4989 more"),
        # names
        (written({"a": DONE | {"needs": "ghost"}}), "unknown_step"),
        ('{"name": "x", "steps": {"a": {"sleep": 1}, "a": {"sleep": 1}}}', "duplicate name"),
        ("name: x\nsteps:\n  a: {sleep: 1}\n  a: {sleep: 1}\n", ":4:3: syntax"),
        (written({"\u00e9": DONE, "e\u0301": DONE}), "bad_name"),
        *[(written({name: DONE}), "bad_name") for name in ("", "n" * 65, "a b", "a-b", "1", "a\n")],
        (written({"a\x00b": DONE}), "control_character"),
        ('{"name": null, "steps": {"a": {"sleep": 1}}}', "string_type"),
        ("steps: {a: {sleep: 1}}\nname: '" + "n" * 65 + "'", "string_pattern"),
        (written({"outputs": DONE}, outputs={"x": 1}), "bad_name"),
        (written({"a": DONE | {"compensate": DONE}, "undo_a": DONE}), "bad_name"),
        # kinds
        (written({"a": {"uses": "shell", "with": {"command": "rm -rf /"}}}), "unknown_kind"),
        (written({"a": {"uses": "os.system"}}), "unknown_kind"),
        (written({"a": {"uses": "workflow", "with": {"name": "x"}}}), "runs_itself"),
        # numbers beyond reason
        (written({"a": DONE | {"timeout": -1}}), "bad_duration"),
        ("name: x\nsteps: {a: {sleep: .nan}}", "not a JSON number"),
        ('{"name": "x", "steps": {"a": {"sleep": 1e999}}}', "too large"),
        (written({"a": DONE | {"retry": {"attempts": 10**9}}}), "less_than_equal"),
        (written({"a": DONE | {"retry": {"backoff": "9d"}}}), "out_of_range"),
        (written({"a": DONE | {"for_each": 10**9}}), "steps.a.for_each"),
        (written({"a": DONE | {"for_each": [0] * 10_001}}), "too_many_items"),
        (written({"a": {"uses": "sleep", "with": {"for": "5 parsecs"}}}), "bad_duration"),
        # where a request leads
        *[
            (written({"a": {"uses": "http", "with": {"url": url}}}), "bad_address")
            for url in (
                *("file:///etc/passwd", "gopher://x", "/etc/passwd", ""),
                *("http://169.254.169.254/latest/meta-data", "HTTP://[fe80::1]/"),
            )
        ],
        # what YAML could do beyond JSON
        ("name: x\nsteps: {a: !!python/name:os.system {}}", "tags"),
        ("name: x\nsteps: {a: {uses: transform, with: {value: !!binary aGk=}}}", "tags"),
        ("a: &a [*a]", "too_deep"),
        ("a: *nowhere", "unknown anchor"),
        ("? [a]\n: 1", "a name must be a text"),
        ("name: x\n---\nname: y", "another document"),
        # what no table can keep
        (valued("\x00"), "control_character"),
        ('{"name": "x", "steps": {"a": {"uses": "\\ud800"}}}', "control_character"),
        ('name: x\nsteps: {a: {uses: transform, with: {value: "\\0"}}}', "control_character"),
        (valued(json.loads("[" * 33 + "]" * 33)), "too_deep"),
        ('{"a":' * 90_000, "too_deep"),
        (f'{{"name": "x", "steps": {{"a": {{"sleep": {"9" * 90_000}}}}}}}', "digits"),
        ("#" * 10_000_001, "too_large"),
    ],
)
def test_a_hostile_definition_is_refused_by_its_rule(text, rule):
    began = time.process_time()

    assert rule in refusal(text)
    assert time.process_time() - began < cpu_patience(5)


@pytest.mark.parametrize(
    "expression",
    [
        *("import os", "__import__('os').system('true')", "''.__class__.__mro__", "lambda: 1"),
        *(
            "9**9**9**9",
            "'a'*10**10 == 'a' **",
            "open('/etc/passwd')",
            "exec('1')",
            "${jndi:ldap:}",
        ),
        *("1; DROP TABLE users", "' OR 1=1 --", "ghost == 1", "steps.ghost.output", "{{ 7*7 }}"),
        *(
            "(" * 5_000,
            "[" * 40 + "]" * 40,
            "inputs.x.matches(inputs.y)",
            "inputs.x.matches('a' + 'b')",
        ),
        *("inputs.x // a comment", "r'\\' + steps.ghost.output + '\\''", ".inputs.x", "`inputs`.x"),
        *("inputs.l.map(steps, 1)", "steps.map(s, s)", "steps", "now()", "1", "'yes'", "null", ""),
        *("inputs.n + 1", "size(inputs.l)", "[true]", "{'a': true}", "-1", "'unclosed"),
    ],
)
def test_a_hostile_condition_is_refused_at_submit(expression):
    assert refusal(asked(expression))


@pytest.mark.parametrize(
    "template",
    ["${{ inputs.x }", "${{ ", "${{ 'a }}", "${{ " + "'a'" * 40, "${{ " * 9_000, "${{ `x` }}"],
)
def test_a_template_whose_expression_does_not_end_is_refused_in_time(template):
    began = time.process_time()

    assert "bad_expression" in refusal(valued(template))
    assert time.process_time() - began < cpu_patience(2)


@pytest.mark.thorough
@pytest.mark.parametrize("length", [10_000, 18_000])
def test_a_long_chain_is_accepted(length):
    steps = chain(length)
    assert len(compile_plan(read(written(steps))).nodes) == len(steps)


def test_a_wide_fan_is_gathered_by_one_step():
    wide = {f"s{n}": DONE for n in range(9_000)}

    plan = compile_plan(read(written(wide | {"all": DONE | {"needs": list(wide)}})))
    assert plan.nodes[-1].needs == 9_000


def test_a_step_may_read_one_that_it_needs_through_thousands_of_others():
    steps = chain(4_000)
    for name in list(steps)[1:]:
        steps[name] = steps[name] | {"with": {"value": "${{ steps.s0.output }}"}}

    assert len(compile_plan(read(written(steps))).nodes[-1].reads) == 1


def test_a_step_may_not_read_one_that_runs_beside_it():
    steps = chain(3) | {"beside": DONE | {"if": "steps.s1.output > 1", "needs": "s0"}}

    assert "not_needed" in refusal(written(steps))


def test_the_shortest_circle_of_many_is_shown():
    ring = {f"s{n}": DONE | {"needs": f"s{(n + 1) % 50}"} for n in range(50)}
    ring["s7"] = DONE | {"needs": ["s8", "s6"]}
    ring["s6"] = DONE | {"needs": ["s7"]}

    assert refusal(written(ring)).endswith(("s6 -> s7 -> s6.", "s7 -> s6 -> s7."))


def test_a_text_with_an_expression_in_it_is_no_number():
    given = {"query": "q", "k": "1${{ inputs.k }}"}

    assert "wrong_type" in refusal(written({"a": {"uses": "search", "with": given}}))
    given["k"] = "${{ inputs.k }}"
    assert read(written({"a": {"uses": "search", "with": given}}))


def test_brackets_in_a_prompt_are_only_text():
    assert read(valued("[" * 200 + "{" * 200))


def test_yaml_means_what_editors_say():
    text = (
        "name: x\nsteps: {on: {uses: transform, with: {value: [no, 1:30, 2026-01-01, 010, 0x1F]}}}"
    )

    assert read(text).steps["on"].with_["value"] == ["no", "1:30", "2026-01-01", 10, 31]


@pytest.mark.parametrize(
    "text",
    [
        written({"a": DONE}, **{f"stepz{n}": 1 for n in range(60_000)}),
        written({f"{'s' * 50}{n}": DONE | {"needs": f"{'s' * 50}x{n}"} for n in range(3_000)}),
        written({"a": DONE | {"needs": ["t" * 50 + f"{n}" for n in range(10_000)]}}),
        written({f"s{n}": {"uses": "transfrom" * 100} for n in range(900)}),
    ],
    ids=["fields", "needs", "a long list", "kinds"],
)
def test_a_definition_with_a_fault_a_line_is_refused_within_seconds(text):
    began = time.process_time()

    said = refusal(text)

    assert time.process_time() - began < cpu_patience(6)  # each compared with all takes a minute
    assert len(said) < 20_000
    assert said.splitlines()[-1].endswith("more")


@pytest.mark.parametrize(
    "text",
    [
        written({"a": DONE}, timeout="1d" * 100_000),
        written({"a": DONE | {"needs": "n" * 200_000}}),
        written({"n" * 200_000: DONE}),
        written({"a": {"uses": "k" * 200_000}}),
    ],
)
def test_what_a_fault_quotes_is_shortened(text):
    assert len(refusal(text)) < 1_000


def test_the_nearest_name_is_named_among_many():
    steps = {f"step_{n}": DONE for n in range(5_000)} | {"collect_results": DONE}

    said = refusal(written(steps | {"last": DONE | {"needs": "colect_results"}}))

    assert 'did you mean "collect_results"' in said
