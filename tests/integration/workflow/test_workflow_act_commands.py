"""`ailydian workflow cancel|pause|resume|retry|skip|signal|approve`, as an operator uses them."""

import pytest

from producers.cli.workflow import run_watch
from producers.workflow import workflows
from shared import db
from shared.ids import TenantId
from tests.support import factories
from tests.support.commands import document
from tests.support.factories import make_tenant, rows
from tests.support.workflow_texts import ASK


@pytest.fixture
def act(run, acme):
    """Run `workflow VERB ...` of the tenant acme. Returns its exit code and its output."""
    make_tenant("other")
    return lambda *words, tenant="acme": run("workflow", *words, "--tenant", tenant)


@pytest.fixture
def run_id(act):
    """A run that waits for a signal and for an approval."""
    with db.transaction(TenantId("acme")) as conn:
        workflows.put(conn, ASK)
        started = workflows.start(conn, "ask", {})
    factories.do_all()
    return started.id


def states(shown):
    return {one["name"]: one["state"] for one in shown["steps"]}


def test_a_signal_and_an_approval_let_a_run_go_on_to_its_end(act, run_id):
    signalled = document(act("signal", run_id, "paid", "--payload", '{"sum": 7}', "--json"))
    approved = act("approve", run_id, "review", "--comment", "fine")
    factories.do_all()
    ended = document(act("show", run_id, "--json"))

    assert states(signalled)["paid"] == "completed"
    assert approved == (0, f"The run {run_id} is running.\n")
    assert (ended["state"], ended["output"]) == ("completed", {"sum": 7})
    review = next(one for one in ended["steps"] if one["name"] == "review")
    assert review["output"]["approved"] is True
    assert review["output"]["comment"] == "fine"


def test_a_rejected_step_fails_the_run_and_a_retry_asks_again(act, run_id):
    rejected = document(act("approve", run_id, "review", "--reject", "--comment", "no", "--json"))
    again = document(act("retry", run_id, "--json"))
    factories.do_all()
    act("signal", run_id, "paid", "--payload", "1")
    act("approve", run_id, "review")
    factories.do_all()
    ended = document(act("show", run_id, "--json"))

    assert rejected["state"] == "failed"
    assert "rejected by" in rejected["error"]
    assert (again["id"], again["state"], again["error"]) == (run_id, "running", None)
    assert (ended["state"], ended["output"]) == ("completed", 1)


def test_a_retry_from_a_step_is_a_new_run_that_keeps_what_came_before(act, run_id):
    act("cancel", run_id)

    made = document(act("retry", run_id, "--from", "review", "--json"))
    told = act("show", made["id"])[1]

    assert made["id"] != run_id
    assert made["forkOf"] == run_id
    assert states(made)["first"] == "completed"
    assert f"a fork of the run {run_id}" in told
    assert document(act("show", run_id, "--json"))["state"] == "cancelled"


def test_a_cancelled_run_is_over_and_cannot_be_cancelled_again(act, run_id):
    cancelled = act("cancel", run_id)
    again = act("cancel", run_id)

    assert cancelled == (0, f"The run {run_id} is cancelled.\n")
    assert again[0] == 2
    assert "cancelled" in again[1]
    assert rows('SELECT 1 FROM "WorkflowWait"') == []


def test_a_paused_run_begins_nothing_until_it_is_resumed(act, run_id):
    paused = document(act("pause", run_id, "--json"))
    act("signal", run_id, "paid")
    act("approve", run_id, "review")
    factories.do_all()
    still = document(act("show", run_id, "--json"))
    resumed = document(act("resume", run_id, "--json"))
    factories.do_all()

    assert paused["state"] == still["state"] == "paused"
    assert states(still)["last"] == "ready"
    assert resumed["state"] == "running"
    assert document(act("show", run_id, "--json"))["state"] == "completed"


def test_a_skipped_step_lets_what_follows_go_on(act, run_id):
    skipped = document(act("skip", run_id, "review", "--json"))
    act("signal", run_id, "paid", "--payload", '"yes"')
    factories.do_all()

    assert states(skipped)["review"] == "skipped"
    assert document(act("show", run_id, "--json"))["output"] == "yes"


def test_each_act_is_in_the_audit_log(act, run_id):
    act("pause", run_id)
    act("resume", run_id)
    act("signal", run_id, "paid")
    act("approve", run_id, "review")

    found = rows(
        """SELECT "action" FROM "AuditLog" WHERE "resourceId" = %s ORDER BY "createdAt" """, run_id
    )

    verbs = ("pause", "resume", "signal", "approve")
    assert found == [(f"workflow.{verb}",) for verb in verbs]


@pytest.mark.parametrize(
    "words",
    [
        ("cancel",),
        ("pause",),
        ("resume",),
        ("retry",),
        ("skip", "first"),
        ("signal", "paid"),
        ("approve", "review"),
    ],
)
def test_a_run_of_another_tenant_is_as_good_as_none(act, run_id, words):
    verb, *rest = words

    foreign = act(verb, run_id, *rest, tenant="other")
    unknown = act(verb, "nope", *rest, tenant="other")

    assert foreign[0] == unknown[0] == 2
    assert foreign[1].replace(run_id, "nope") == unknown[1]
    assert document(act("show", run_id, "--json"))["state"] == "running"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("signal", "paid", "--payload", "{"), 2, "invalid JSON"),
        (("signal", "paid", "--payload", "@nope.json"), 2, "nope.json cannot be read"),
        (("approve", "nope"), 2, "nope"),
        (("skip", "nope"), 2, "nope"),
        (("resume",), 2, "running"),
        (("retry",), 2, "running"),
        (("retry", "--wait"), 1, "No worker serves the queue workflow"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(act, run_id, words, code, sentence):
    verb, *rest = words

    ran = act(verb, run_id, *rest)

    assert ran[0] == code, ran[1]
    assert sentence in ran[1]
    assert document(act("show", run_id, "--json"))["state"] == "running"


def test_a_payload_may_lie_in_a_file(act, run_id, tmp_path):
    payload = tmp_path / "payload.json"
    payload.write_text('[1, "two"]')

    shown = document(act("signal", run_id, "paid", "--payload", f"@{payload}", "--json"))

    paid = next(one for one in shown["steps"] if one["name"] == "paid")
    assert paid["output"] == {"payload": [1, "two"]}


def test_who_waits_is_told_what_the_run_waits_for_and_how_to_answer(act, run_id, capsys):
    looks = []

    def answer():
        looks.append(1)
        with db.transaction(TenantId("acme")) as conn:
            if len(looks) == 1:
                workflows.signal(conn, run_id, "paid", None)
            elif len(looks) == 2:
                workflows.approve(conn, run_id, "review", approved=True)
        if len(looks) > 2:
            factories.do_all()

    run_watch.wait(TenantId("acme"), "acme", run_id, answer)

    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("Step paid waits for the signal paid")
    assert told[0].endswith(f"`ailydian workflow signal {run_id} paid --tenant acme`.")
    assert told[1].endswith(f"`ailydian workflow approve {run_id} review --tenant acme`.")
    assert len(told) == 2


def test_the_queues_of_the_workflows_that_a_workflow_starts_are_served_too(act):
    inner = "name: inner\nsteps: {a: {uses: delete_document, with: {document_id: d}}}"
    outer = "name: outer\nsteps: {a: {uses: workflow, with: {name: inner}}, b: {sleep: 1s}}"
    with db.transaction(TenantId("acme")) as conn:
        workflows.put(conn, inner)
        workflows.put(conn, outer)

    queues = run_watch.queues_of(TenantId("acme"), "outer")

    assert queues == ["embedding", "ingest", "workflow"]
