"""Trials: workflows run in memory, with fake steps and a fake clock."""

from datetime import UTC, datetime

import pytest

from shared.errors import (
    DefinitionRefused,
    PayloadRefused,
    PermanentError,
    RunRefused,
    SignalRefused,
    TransientError,
)
from shared.workflow.limits import SIGNALS_KEPT_MAX
from shared.workflow.trial import FakeMissing, Trial, fake

ORDER = """
name: order
inputs: {type: object, properties: {customer: {type: string}}, required: [customer]}
steps:
  price:
    uses: http
    with: {url: "https://prices.example/${{ inputs.customer }}"}
    retry: {attempts: 3, backoff: 10s}
  gate:
    uses: approval
    needs: price
    if: steps.price.output.body.total > 100
    timeout: 2d
  ship:
    uses: http
    needs: [price, gate]
    with: {url: "https://ship.example", method: POST, json_body: "${{ steps.price.output.body }}"}
outputs: {total: "${{ steps.price.output.body.total }}", shipped: "${{ steps.ship.output.status }}"}
"""


def priced(total):
    return {"status": 200, "body": {"total": total}}


def steps(**steps):
    """A definition of these steps, each a mapping in YAML's flow style."""
    lines = "".join(f"  {name}: {step}\n" for name, step in steps.items())
    return f"name: test\nsteps:\n{lines}"


def test_a_run_goes_to_its_end_with_fakes_by_name_and_by_kind():
    trial = Trial(ORDER, steps={"price": priced(20), "http": {"status": 201}})

    outcome = trial.run({"customer": "7"})

    assert (outcome.state, outcome.output) == ("completed", {"total": 20, "shipped": 201})
    assert outcome.steps["gate"].state == "skipped"
    assert outcome.steps["price"].given == {"url": "https://prices.example/7"}
    assert outcome.began == ("price", "ship", "outputs")


def test_a_run_that_waits_says_for_what_and_goes_on_when_it_is_answered():
    trial = Trial(ORDER, steps={"price": priced(500), "ship": {"status": 201}})

    asked = trial.run({"customer": "7"})
    done = trial.approve("gate", by="Ada")

    (wait,) = asked.waits
    assert (asked.state, wait.step, wait.what) == ("running", "gate", "approval")
    assert wait.due == datetime(2026, 1, 3, tzinfo=UTC)
    assert done.steps["gate"].output["by"] == "Ada"
    assert done.state == "completed"


def test_a_rejection_and_a_wait_that_is_too_long_fail_the_step():
    trial = Trial(ORDER, steps={"price": priced(500), "ship": {}})

    trial.run({"customer": "7"})
    rejected = trial.approve("gate", approved=False, by="Ada", comment="too dear")
    trial.run({"customer": "7"})
    late = trial.advance(days=2)

    assert rejected.error == "rejected by Ada: too dear"
    assert late.error == "timed out: waited too long for the approval gate"


def test_a_step_without_a_fake_is_named_before_anything_runs():
    with pytest.raises(FakeMissing, match=r"order\.ship \(http\)"):
        Trial(ORDER, steps={"price": {}})


def test_a_definition_and_an_input_that_do_not_fit_are_refused():
    with pytest.raises(DefinitionRefused):
        Trial(steps(a="{uses: nothing_such}"))
    with pytest.raises(PayloadRefused, match="customer"):
        Trial(ORDER, steps={"http": {}}).run({})


def test_attempts_are_repeated_by_the_clock_of_the_trial():
    attempts = fake(ConnectionError("away"), TransientError("busy", retry_after_s=60), priced(5))
    trial = Trial(ORDER, steps={"price": attempts, "ship": {"status": 201}})

    outcome = trial.run({"customer": "7"})

    assert outcome.steps["price"].attempts == 3
    assert outcome.now == datetime(2026, 1, 1, 0, 1, 10, tzinfo=UTC)


def test_a_permanent_error_and_the_last_attempt_fail_the_run():
    refused = Trial(ORDER, steps={"price": fake(PermanentError("no such customer")), "ship": {}})
    away = Trial(ORDER, steps={"price": fake(ConnectionError("away")), "ship": {}})

    first, second = refused.run({"customer": "7"}), away.run({"customer": "7"})

    assert (first.state, first.error, first.steps["price"].attempts) == (
        "failed",
        "no such customer",
        1,
    )
    assert (second.error, second.steps["price"].attempts) == ("away", 3)


def test_what_does_not_fit_a_step_fails_it_as_in_a_worker():
    text = steps(a="{uses: http, with: {url: 'https://x.org', method: '${{ inputs.method }}'}}")
    bad_output = Trial(text, steps={"a": fake(object())})
    bad_with = Trial(text, steps={"a": {}})

    assert "with.method" in bad_with.run({"method": 7}).error
    assert "JSON" in bad_output.run({"method": "GET"}).error


def test_an_assertion_in_a_fake_is_the_tests_own():
    def check(given, step):
        assert given["url"] == "https://other.example"

    trial = Trial(steps(a="{uses: http, with: {url: 'https://x.org'}}"), steps={"a": check})

    with pytest.raises(AssertionError, match=r"x\.org"):
        trial.run()


def test_items_know_their_place_and_come_back_in_order():
    text = steps(
        each="{uses: http, for_each: '${{ inputs.urls }}', with: {url: '${{ item }}'}, "
        "if: index != 1, max_parallel: 2}"
    )
    trial = Trial(text, steps={"each": lambda given, step: [step.index, given["url"]]})

    outcome = trial.run({"urls": ["https://a", "https://b", "https://c"]})

    assert outcome.output == [[0, "https://a"], None, [2, "https://c"]]
    assert outcome.steps["each[1]"].state == "skipped"
    assert outcome.began == ("each[0]", "each[2]")


def test_a_step_whose_needs_were_all_skipped_is_skipped_unless_it_has_its_own_say():
    text = steps(
        a="{uses: transform, with: {value: 1}, if: false}",
        b="{uses: transform, with: {value: 2}, needs: a}",
        c="{uses: transform, with: {value: 3}, needs: a, if: steps.a.state == 'skipped'}",
    )

    outcome = Trial(text).run()

    assert {name: step.state for name, step in outcome.steps.items()} == {
        "a": "skipped",
        "b": "skipped",
        "c": "completed",
    }


def test_what_was_done_is_undone_when_a_later_step_fails():
    book = "{uses: http, with: {url: 'https://x.org'}, compensate: {uses: http, with: {url: '%s'}}}"
    text = steps(
        room=book % "https://x.org/${{ steps.room.output.body }}",
        train=book.replace("compensate", "needs: room, compensate") % "https://x.org/train",
        pay="{uses: http, needs: train, with: {url: 'https://x.org'}, on_error: compensate}",
    )
    trial = Trial(text, steps={"pay": fake(PermanentError("no money")), "http": {"body": 9}})

    outcome = trial.run()

    undone = outcome.began[3:]
    assert [outcome.steps[name].given["url"] for name in undone] == [
        "https://x.org/train",
        "https://x.org/9",
    ]
    assert (outcome.state, outcome.error) == ("failed", "no money")


def test_a_sleep_ends_when_its_time_has_come():
    trial = Trial(steps(a="{sleep: 2h}", b="{uses: transform, needs: a, with: {value: up}}"))

    assert trial.run().steps["a"].state == "waiting"
    assert trial.advance(minutes=119).state == "running"
    assert trial.advance(minutes=1).output == "up"


def test_a_sleep_until_a_time_that_is_past_is_over_at_once():
    text = steps(a="{uses: sleep, with: {until: '2026-03-01T00:00:00Z'}}")
    before = Trial(text, now=datetime(2026, 2, 28, 23, tzinfo=UTC))
    after = Trial(text, now=datetime(2026, 3, 2, tzinfo=UTC))

    assert before.run().state == "running"
    assert before.advance(hours=1).state == "completed"
    assert after.run().state == "completed"


def test_a_signal_that_comes_early_is_kept():
    trial = Trial(steps(a="{sleep: 1h}", b="{wait_for: go, needs: a}"))

    trial.run()
    trial.signal("go", {"n": 1})

    assert trial.advance(hours=1).output == {"payload": {"n": 1}}
    with pytest.raises(RunRefused, match="completed"):
        trial.signal("go")


def test_a_run_keeps_a_limited_number_of_signals():
    trial = Trial(steps(a="{sleep: 1h}"))
    trial.run()
    for n in range(SIGNALS_KEPT_MAX):
        trial.signal("go", n)

    with pytest.raises(SignalRefused, match="1,000 signals"):
        trial.signal("go")


def test_a_signal_does_not_pass_for_an_approval():
    trial = Trial(steps(a="{sleep: 1h}", gate="{uses: approval, needs: a}"))
    trial.run()

    with pytest.raises(SignalRefused, match="gate"):
        trial.signal("gate", {"approved": True})
    with pytest.raises(RunRefused, match="waits"):
        trial.approve("gate")


def test_a_run_and_an_attempt_have_only_their_time():
    slow = steps(a="{uses: http, with: {url: 'https://x.org'}, timeout: 5s, retry: {attempts: 1}}")
    attempt = Trial(slow, steps={"a": fake({}, takes="6s")})
    whole = Trial(f"timeout: 1h\n{steps(a='{sleep: 2h}')}")
    whole.run()

    assert "longer than 5 s" in attempt.run().error
    assert "the run took longer" in whole.advance(hours=3).error


def test_one_key_lets_one_step_go_at_a_time():
    call = "{uses: http, with: {url: 'https://x.org'}, concurrency: 'shop-${{ inputs.shop }}'}"
    trial = Trial(steps(a=call, b=call), steps={"http": fake({}, takes="10s")})

    outcome = trial.run({"shop": 1})

    assert outcome.state == "completed"
    assert outcome.now == datetime(2026, 1, 1, 0, 0, 20, tzinfo=UTC)


CHILD = "name: child\nsteps:\n  wait: {wait_for: go}\n"
PARENT = """
name: parent
steps:
  part: {uses: workflow, with: {name: child, input: {n: 1}}, timeout: 1h}
"""


def test_a_sub_workflow_is_run_as_well():
    trial = Trial(PARENT, workflows=[CHILD])

    waiting = trial.run()
    done = trial.signal("go", 5, workflow="child")

    assert [(one.workflow, one.what) for one in waiting.waits] == [
        ("parent", "run"),
        ("child", "signal"),
    ]
    assert done.output == {"payload": 5}


def test_a_sub_workflow_ends_with_the_step_that_waits_for_it():
    trial = Trial(PARENT, workflows=[CHILD])
    trial.run()

    late = trial.advance(hours=1)

    assert (late.state, late.waits) == ("failed", ())
    with pytest.raises(RunRefused, match="cancelled"):
        trial.signal("go", workflow="child")


def test_a_sub_workflow_that_nobody_gave_fails_its_step():
    assert "child" in Trial(PARENT).run().error


def test_people_pause_skip_cancel_and_retry_a_run():
    trial = Trial(steps(a="{sleep: 1h}", b="{sleep: 1h, needs: a}"))
    trial.run()

    trial.pause()
    assert trial.advance(hours=2).steps["b"].state == "ready"
    assert trial.resume().steps["b"].state == "waiting"
    assert trial.cancel("enough").error == "enough"
    assert trial.retry().steps["b"].state == "waiting"
    assert trial.skip("b").state == "completed"


def test_the_same_trial_runs_the_same_way_again():
    trial = Trial(ORDER, steps={"price": fake(ConnectionError(), priced(5)), "ship": {"status": 1}})

    assert trial.run({"customer": "7"}) == trial.run({"customer": "7"})
