"""`ailydian workflow`, as people and scripts use it: put, run, look, find, compare."""

import json

import pytest

from shared import db
from shared.ids import TenantId
from shared.queries.ledger import attempts
from tests.support import factories, workflow_by_hand
from tests.support.commands import document
from tests.support.factories import make_tenant, rows

pytestmark = pytest.mark.usefixtures("acme")


ACME = ("--tenant", "acme")
GREET = """
name: greet
description: Says hello.
inputs: {type: object, properties: {name: {type: string}}, required: [name]}
steps:
  hello:
    uses: transform
    with: {value: "Hello ${{ inputs.name }}"}
"""
LOUD = GREET.replace("Hello", "HELLO") + "    retry: {attempts: 5}\n"
PARTS = """
name: parts
steps:
  cut:
    for_each: [1, 2, 3]
    uses: transform
    with: {value: "${{ item * 10 }}"}
  sum:
    needs: cut
    uses: transform
    with: {value: "${{ steps.cut.output.size() }}"}
"""
ASK = """
name: ask
concurrency: one
steps:
  paid: {wait_for: paid, timeout: 1h}
  nap: {sleep: 2h}
  review: {uses: approval, with: {prompt: "ship?"}}
  last: {needs: [paid, nap, review], uses: transform, with: {value: 1}}
"""


def put(run, text):
    return document(run("workflow", "put", "-", *ACME, "--json", stdin=text))


def start(run, name, given=None, *options):
    arguments = ("workflow", "run", name, *ACME, "--input", json.dumps(given or {}), "--json")
    return document(run(*arguments, *options))


def show(run, started):
    return document(run("workflow", "show", started["id"], *ACME, "--json"))


def tree(run, started):
    code, output = run("workflow", "show", started["id"], *ACME)
    assert code == 0, output
    return output


def listed(run, *options):
    return [one["id"] for one in document(run("workflow", "list", *ACME, "--json", *options))]


def walkers():
    return workflow_by_hand.claim(TenantId("acme"))


def fail_the_run(started):
    """Bury the job of a run's first step, as a worker that was refused does."""
    [(job_id,)] = rows('SELECT "jobId" FROM "WorkflowStep" WHERE "id" = %s', f"{started['id']}/0")
    walker = next(one for one in walkers() if one.job_id == job_id)
    ending = attempts.AttemptFailure(job_id, walker.fence, "refused", "X", "it broke", None, "f00")
    with db.transaction(None, role=db.Role.RELAY) as conn:
        assert attempts.bury(conn, ending, reason="permanent")


def test_a_definition_is_kept_once_and_a_changed_one_is_the_next_version(run):
    first, same, changed = put(run, GREET), put(run, GREET), put(run, LOUD)

    newest = document(run("workflow", "definitions", *ACME, "--json"))
    all_of_it = document(run("workflow", "definitions", "greet", *ACME, "--json"))
    told = run("workflow", "definitions", *ACME)[1]

    assert (first["version"], first["changed"], first["steps"]) == (1, True, 1)
    assert (same["id"], same["changed"]) == (first["id"], False)
    assert (changed["version"], changed["changed"]) == (2, True)
    assert [(one["workflow"], one["version"]) for one in newest] == [("greet", 2)]
    assert [one["version"] for one in all_of_it] == [2, 1]
    assert "Says hello." in told


def test_two_versions_are_compared_step_by_step_and_field_by_field(run):
    put(run, GREET)
    put(run, LOUD + "  more: {needs: hello, sleep: 1s}\n")

    found = document(run("workflow", "diff", "greet", "1", "2", *ACME, "--json"))
    told = run("workflow", "diff", "greet", "2", "1", *ACME)[1]
    same = run("workflow", "diff", "greet", "2", "2", *ACME)[1]

    assert found["added"] == ["more"]
    assert found["removed"] == []
    assert found["changed"]["hello"]["retry"] == [None, {"attempts": 5}]
    assert told.splitlines()[:2] == ["- more", "~ hello"]
    assert same == "Nothing changed.\n"


def test_a_run_shows_what_it_was_given_and_what_came_of_it(run):
    put(run, GREET)

    started = start(run, "greet", {"name": "Ada"})
    factories.do_all()
    shown = show(run, started)
    told = tree(run, started)

    assert (started["status"], started["progress"]) == ("RUNNING", 0.0)
    assert (shown["status"], shown["state"], shown["progress"]) == ("COMPLETED", "completed", 1.0)
    assert (shown["workflow"], shown["version"]) == ("greet", 1)
    assert (shown["input"], shown["output"]) == ({"name": "Ada"}, "Hello Ada")
    [step] = shown["steps"]
    assert (step["name"], step["status"], step["attempt"]) == ("hello", "COMPLETED", 1)
    assert step["startedAt"] <= step["completedAt"]
    assert told.startswith(f"greet v1  {started['id']}  ✔ completed  100%")
    assert "✔ hello  completed" in told


def test_a_run_keeps_the_version_it_began_with(run):
    put(run, GREET)
    started = start(run, "greet", {"name": "Ada"})
    put(run, LOUD)
    loud = start(run, "greet", {"name": "Ada"})

    factories.do_all()

    assert (show(run, started)["version"], show(run, started)["output"]) == (1, "Hello Ada")
    assert (show(run, loud)["version"], show(run, loud)["output"]) == (2, "HELLO Ada")


def test_a_second_run_under_a_key_is_the_first(run):
    put(run, GREET)

    first = start(run, "greet", {"name": "Ada"}, "--key", "k")
    second = start(run, "greet", {"name": "Bob"}, "--key", "k")

    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert second["id"] == first["id"]
    assert second["input"] == {"name": "Ada"}


def test_items_are_folded_and_can_be_asked_for(run):
    put(run, PARTS)
    started = start(run, "parts")
    factories.do_all()

    shown = show(run, started)
    arguments = ("workflow", "show", started["id"], *ACME, "--json", "--items")
    items = [one for one in document(run(*arguments))["steps"] if one["itemIndex"] is not None]
    arguments = ("workflow", "show", started["id"], *ACME, "--step")
    one = document(run(*arguments, "cut[1]", "--json"))
    fields = run(*arguments, "cut")[1]

    assert [one["name"] for one in shown["steps"]] == ["cut", "sum"]
    assert shown["steps"][0]["itemStates"] == {"completed": 3}
    assert [(one["name"], one["output"]) for one in items] == [
        ("cut[0]", 10),
        ("cut[1]", 20),
        ("cut[2]", 30),
    ]
    assert (one["itemIndex"], one["output"]) == (1, 20)
    assert "[10, 20, 30]" in fields
    assert "  3 items: 3 completed" in tree(run, started)


def test_a_failed_step_is_shown_with_its_attempts_and_found_by_its_fingerprint(run):
    put(run, PARTS)
    good, bad = start(run, "parts"), start(run, "parts")
    fail_the_run(bad)

    shown = show(run, bad)
    told = tree(run, bad)

    assert (shown["status"], shown["error"]) == ("FAILED", "it broke")
    assert shown["failedStepId"] == f"{bad['id']}/0"
    [attempt] = shown["steps"][0]["attempts"]
    assert (attempt["verdict"], attempt["error"]) == ("refused", "it broke")
    assert "✘ cut" in told
    assert "  it broke" in told
    assert "■ sum" in told
    assert listed(run, "--fingerprint", "f00") == [bad["id"]]
    assert listed(run, "--state", "failed") == [bad["id"]]
    assert listed(run, "--state", "running") == [good["id"]]


def test_what_a_run_waits_for_is_shown(run):
    put(run, ASK)
    first, second = start(run, "ask"), start(run, "ask")
    factories.do_all()

    shown = {one["name"]: one["waits"] for one in show(run, first)["steps"]}
    told = tree(run, first)

    assert (shown["paid"]["for"], shown["paid"]["name"]) == ("signal", "paid")
    assert shown["nap"]["for"] == "timer"
    assert shown["nap"]["until"] > show(run, first)["startedAt"]
    assert shown["review"]["for"] == "approval"
    assert shown["last"] is None
    assert "waits for the signal paid, until" in told
    assert "sleeps until" in told
    assert "Ends at the latest" in told
    assert show(run, second)["behind"] == first["id"]
    assert f"behind the run {first['id']}" in tree(run, second)


def test_runs_are_listed_newest_first_and_found_by_what_they_were_given(run):
    put(run, GREET)
    put(run, PARTS)
    ada = start(run, "greet", {"name": "Ada", "of": {"city": "London"}})
    bob = start(run, "greet", {"name": "Bob", "of": {"city": "London"}})
    parts = start(run, "parts")

    assert listed(run) == [parts["id"], bob["id"], ada["id"]]
    assert listed(run, "--limit", "1") == [parts["id"]]
    assert listed(run, "--workflow", "greet") == [bob["id"], ada["id"]]
    assert listed(run, "--where", "of.city=London") == [bob["id"], ada["id"]]
    assert listed(run, "--where", "of.city=London", "--where", "name=Ada") == [ada["id"]]
    assert listed(run, "--where", "name=Eve") == []
    assert listed(run, "--since", "1h") == [parts["id"], bob["id"], ada["id"]]
    assert listed(run, "--until", "1h") == []
    assert "running" in run("workflow", "list", *ACME)[1]


@pytest.mark.parametrize("command", ["show", "list", "graph"])
def test_a_run_of_another_tenant_is_not_there(run, command):
    make_tenant("other")
    put(run, GREET)
    started = start(run, "greet", {"name": "Ada"})
    other = ("--tenant", "other")

    if command == "list":
        assert document(run("workflow", "list", *other, "--json")) == []
        assert document(run("workflow", "definitions", *other, "--json")) == []
        return
    foreign = run("workflow", command, started["id"], *other)
    unknown = run("workflow", command, "0" * 36, *other)

    assert foreign[0] == unknown[0] == 2
    assert foreign[1].replace(started["id"], "") == unknown[1].replace("0" * 36, "")


def test_a_file_is_validated_without_a_server(run, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GREET)
    bad.write_text(GREET.replace("transform", "tranform").replace("hello:", "he llo:"))

    right = document(run("workflow", "validate", str(good), "--json"))
    code, wrong = run("workflow", "validate", str(bad), "--json")

    assert (right["ok"], right["name"], right["steps"]) == (True, "greet", 1)
    assert code == 1
    assert json.loads(wrong)["ok"] is False
    assert json.loads(wrong)["faults"]
    assert run("workflow", "validate", str(good))[1] == f"{good}: greet is valid, 1 step.\n"
    assert run("workflow", "validate", str(bad))[0] == 1
    assert run("workflow", "put", str(bad), *ACME)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("validate", "nope.yaml"), 2, "nope.yaml cannot be read"),
        (("put", "nope.yaml", *ACME), 2, "nope.yaml cannot be read"),
        (("run", "nope", *ACME), 2, "No workflow named 'nope'"),
        (("run", "greet", *ACME), 2, "'name' is a required property"),
        (("run", "greet", *ACME, "--input", "[]"), 2, "must be a JSON object"),
        (("run", "greet", *ACME, "--version", "9", "--input", "{}"), 2, "version 9"),
        (("run", "greet", *ACME, "--wait"), 1, "No worker serves the queue workflow"),
        (("show", "nope", *ACME), 2, "Tenant acme has no run 'nope'"),
        (("show", "nope"), 2, "Missing option '--tenant'"),
        (("list", "--tenant", "nobody"), 2, "No tenant has the slug"),
        (("list", *ACME, "--where", "name"), 2, "use field=value"),
        (("list", *ACME, "--state", "asleep"), 2, "asleep"),
        (("diff", "greet", "1", "7", *ACME), 2, "has no version 7 of 'greet'"),
        (("graph", "greet"), 2, "needs --tenant"),
    ],
)
def test_what_is_wrong_is_said(run, arguments, code, sentence):
    put(run, GREET)

    ran = run("workflow", *arguments)

    assert ran[0] == code
    assert sentence in ran[1]
    assert rows('SELECT 1 FROM "WorkflowRun"') == []


def test_a_step_that_is_not_there_is_said(run):
    put(run, GREET)
    started = start(run, "greet", {"name": "Ada"})

    code, output = run("workflow", "show", started["id"], *ACME, "--step", "nope")

    assert code == 2
    assert "has no step 'nope'" in output


def test_watching_in_a_pipe_prints_what_has_changed_and_ends_with_the_run(run):
    put(run, PARTS)
    started = start(run, "parts")
    factories.do_all()

    code, output = run("workflow", "show", started["id"], *ACME, "--watch")

    assert code == 0
    assert [line.split()[-2:] for line in output.splitlines()[:2]] == [
        ["cut", "completed"],
        ["sum", "completed"],
    ]


def test_a_schedule_starts_a_run_a_slot(run):
    put(run, GREET)
    arguments = ("schedule", "put", "daily", *ACME, "--cron", "0 0 * * *", "--workflow")

    made = document(run(*arguments, "greet", "--input", '{"name": "Ada"}', "--json"))
    unknown = run(*arguments, "nope")
    both = run(*arguments, "greet", "--job", "probe")
    mixed = run(*arguments, "greet", "--payload", "{}")

    assert made["job"] == "start_workflow"
    assert made["payload"] == {"name": "greet", "input": {"name": "Ada"}}
    assert (unknown[0], both[0], mixed[0]) == (2, 2, 2)
    assert "has no workflow 'nope'" in unknown[1]
    assert "Give either --job" in both[1]
    assert "--payload needs --job" in mixed[1]


def test_a_graph_is_drawn_of_a_file_a_workflow_and_a_run_with_its_states(run, tmp_path):
    file = tmp_path / "parts.yaml"
    file.write_text(PARTS)
    put(run, PARTS)
    started = start(run, "parts")
    fail_the_run(started)

    of_file, of_name = run("workflow", "graph", str(file)), run("workflow", "graph", "parts", *ACME)
    of_run = run("workflow", "graph", started["id"], *ACME)[1]

    assert of_file == of_name
    assert of_file[1].startswith("flowchart TD\n")
    assert "cut --> sum" in of_file[1]
    assert "class cut failed" in of_run
    assert "class sum cancelled" in of_run


def test_the_schema_of_definitions_knows_their_fields_and_kinds(run):
    schema = document(run("workflow", "schema"))

    assert "steps" in schema["properties"]
    assert "ingest_document" in json.dumps(schema)
