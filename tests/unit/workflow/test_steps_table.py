"""The table of step kinds: what finds its function, what is refused, what waits."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from shared.contracts import CONTRACTS, Probe
from shared.errors import PayloadRefused, PermanentError, StepCancelled, UnknownKind
from shared.workflow.kinds import kinds
from tests.support.steps import make_step
from workers.steps.functions import FunctionNotFound, function
from workers.steps.outcomes import AwaitSignal, Delegate, Sleep, StartRun
from workers.steps.step import NOT_DONE, Step
from workers.steps.table import lookup, step_kind

SECRET = "sk-abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"


def do(kind, given, step=None):
    return lookup(kind)(given, step or make_step())


# ---- finding


def test_every_kind_that_a_definition_may_use_has_a_function():
    missing = [name for name in kinds() if not callable(lookup(name))]

    assert missing == []
    assert kinds().keys() >= CONTRACTS.keys() - {"run_step"}  # what moves runs is no step of one


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(UnknownKind, match="transform"):
        lookup("transfrom")


def test_a_kind_has_one_function():
    with pytest.raises(AssertionError):
        step_kind("transform")(lambda given, step: None)


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        ("transform", {}, "value"),
        ("http", {"url": "https://a.test", "method": "BREW"}, "method"),
        ("http", {"url": "https://a.test", "bytes_max": 1 << 30}, "bytes_max"),
        ("http", {"url": "https://a.test", "hedaers": {}}, "hedaers"),
        ("search", {"query": "a", "k": 0}, "k"),
        ("python", {"function": "f", "args": ["a"]}, "args"),
        ("complete", {"prompt": "a", "tokens_max": "many"}, "tokens_max"),
        ("sleep", {"for": "30 parsecs"}, "for"),
        ("probe", {"n": "many"}, "n"),
        ("probe", {"m": 1}, "m"),
    ],
)
def test_what_does_not_fit_names_the_step_and_the_field(kind, given, field):
    with pytest.raises(PayloadRefused, match=rf"fetch: .*\b{field}\b"):
        do(kind, given)


def test_a_refusal_does_not_repeat_the_value():
    with pytest.raises(PayloadRefused) as caught:
        do("http", {"url": "https://a.test", "method": SECRET, SECRET: 1})

    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


# ---- what needs no one else


@pytest.mark.parametrize("value", [None, 7, "text", [1, {"a": []}], {"b": 0.5}])
def test_a_transform_gives_its_value_back(value):
    assert do("transform", {"value": value}) == value


def test_a_contract_becomes_its_job():
    assert do("probe", {"n": 3, "note": "hi"}) == Delegate(Probe(n=3, note="hi"))


def test_a_workflow_step_starts_a_run():
    assert do("workflow", {"name": "child", "input": {"a": 1}}) == StartRun("child", {"a": 1})


@pytest.mark.parametrize(
    ("given", "waits"),
    [
        ({"for": "500ms"}, Sleep(for_s=0.5)),
        ({"for": "2h"}, Sleep(for_s=7_200.0)),
        ({"for": 30}, Sleep(for_s=30.0)),
        (
            {"until": "2030-01-02T03:04:05+03:00"},
            Sleep(until=datetime(2030, 1, 2, 0, 4, 5, tzinfo=UTC)),
        ),
    ],
)
def test_a_sleep_says_how_long_or_until_when(given, waits):
    assert do("sleep", given) == waits


@pytest.mark.parametrize(
    "given", [{}, {"for": "1s", "until": "2030-01-01T00:00:00Z"}, {"until": "2030-01-01T00:00:00"}]
)
def test_a_sleep_without_one_clear_end_is_refused(given):
    with pytest.raises(PayloadRefused, match="fetch"):
        do("sleep", given)


def test_a_signal_waits_for_its_name_and_an_approval_for_its_step():
    assert do("signal", {"name": "paid"}) == AwaitSignal("paid", "signal")
    waits = do("approval", {"prompt": "Publish?"}, make_step(name="publish"))
    assert (waits.name, waits.what, waits.asked["prompt"]) == ("publish", "approval", "Publish?")
    json.dumps(waits.asked)


# ---- functions


@function("test_steps.double")
def double(n: int, by: int = 2) -> int:
    return n * by


@function("test_steps.told")
def told(step: Step, part: float) -> str:
    step.progress(part, "half-way")
    return step.name


@function("test_steps.fails")
def fails() -> None:
    raise PermanentError("It cannot be done.")


def test_a_function_gets_its_arguments_by_name():
    assert do("python", {"function": "test_steps.double", "args": {"n": 4}}) == 8
    assert do("python", {"function": "test_steps.double", "args": {"n": 4, "by": 3}}) == 12


def test_a_function_that_asks_for_the_step_gets_it():
    heard = []
    step = make_step(_progress=lambda _, part, note: heard.append((part, note)))

    name = do("python", {"function": "test_steps.told", "args": {"part": 0.5}}, step)

    assert name == "fetch"
    assert heard == [(0.5, "half-way")]


@pytest.mark.parametrize("args", [{}, {"n": 1, "m": 2}])
def test_arguments_that_a_function_does_not_take_are_refused(args):
    with pytest.raises(PayloadRefused, match=r"fetch: with.args: test_steps\.double"):
        do("python", {"function": "test_steps.double", "args": args})


def test_a_function_that_nobody_registered_is_named_with_the_nearest():
    with pytest.raises(FunctionNotFound, match=r"test_steps\.double"):
        do("python", {"function": "test_steps.doubel"})
    with pytest.raises(FunctionNotFound, match="AILYDIAN_PLUGINS"):
        do("python", {"function": "qqq"})


def test_what_a_function_raises_leaves_as_it_is():
    with pytest.raises(PermanentError, match="cannot be done"):
        do("python", {"function": "test_steps.fails"})


# ---- the step


class Transactions:
    """Where a step's effects would go: `committed` is what was left without an exception."""

    def __init__(self, fails=False):
        self.written, self.committed, self.fails = [], [], fails

    @contextmanager
    def open(self, step):
        self.written = []
        yield self.written
        if self.fails:
            raise ConnectionError
        self.committed.append(tuple(self.written))


def test_an_effect_commits_with_the_output_that_done_was_given():
    transactions = Transactions()
    step = make_step(_transaction=transactions.open)

    with step.effect() as conn:
        conn.append("row")
        step.done({"rows": 1})

    assert transactions.committed == [("row",)]
    assert step.is_done
    assert step.output == {"rows": 1}


def test_done_may_be_given_nothing():
    step = make_step(_transaction=Transactions().open)

    with step.effect():
        step.done(None)

    assert step.is_done
    assert step.output is None


def test_an_effect_that_does_not_end_the_step_is_rolled_back():
    transactions = Transactions()
    step = make_step(_transaction=transactions.open)

    with pytest.raises(RuntimeError, match="done"), step.effect() as conn:
        conn.append("row")

    assert transactions.committed == []
    assert not step.is_done


def test_an_effect_whose_commit_fails_has_not_ended_the_step():
    step = make_step(_transaction=Transactions(fails=True).open)

    with pytest.raises(ConnectionError), step.effect():
        step.done(1)

    assert step.output is NOT_DONE


def test_a_step_has_one_effect():
    step = make_step(_transaction=Transactions().open)
    with step.effect():
        step.done(1)

    with pytest.raises(RuntimeError, match="one effect"), step.effect():
        step.done(2)

    assert step.output == 1


@pytest.mark.parametrize("part", [-0.1, 1.1, float("nan")])
def test_progress_is_a_share(part):
    with pytest.raises(ValueError, match="not within 0 and 1"):
        make_step().progress(part)


def test_progress_of_a_cancelled_run_raises():
    def cancelled(step, part, note):
        raise StepCancelled("The run was cancelled.")

    with pytest.raises(StepCancelled):
        make_step(_progress=cancelled).progress(0.1)
