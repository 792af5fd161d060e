"""The engine's rules as values: what may begin when a step ends, however it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RunRefused
from shared.workflow.plan import Node
from shared.workflow.trial.engine_model import LIVE, RUN_LIVE, Graph, Run


def node(position, *dependents, needs=0, undoes=None, **spec):
    return Node(position, f"s{position}", "transform", spec, needs, dependents, (), undoes)


def begun(*nodes):
    run = Run(Graph.of(nodes))
    for at in run.start():
        assert run.begin(at)
    return run


def go(run, at, verdict="completed", output=None, error=None):
    """End a step and begin what may begin. Returns the positions, or the items, of those."""
    opened = run.settle(at, verdict, output, error)
    for one in opened:
        run.begin(one)
    return [position if index < 0 else (position, index) for position, index in opened]


def states(run):
    return [step.state for at, step in sorted(run.steps.items())]


def test_a_step_begins_when_its_last_need_is_over():
    run = begun(node(0, 2), node(1, 2), node(2, needs=2))

    assert go(run, (0, -1)) == []
    assert go(run, (1, -1)) == [2]
    assert go(run, (2, -1), output="end") == []

    assert (run.state, run.output) == ("completed", "end")


def test_a_step_that_is_over_is_not_over_again():
    run = begun(node(0, 1), node(1, needs=1))
    go(run, (0, -1), output=1)

    assert go(run, (0, -1), "failed", error="late") == []

    assert run.steps[0, -1].output == 1
    assert run.state == "running"


def test_a_run_with_two_last_steps_yields_nothing_of_its_own():
    run = begun(node(0), node(1))

    go(run, (0, -1), output=1)
    go(run, (1, -1), output=2)

    assert (run.state, run.output) == ("completed", None)


def test_a_failure_stops_the_run_unless_it_may_go_on():
    stopped = begun(node(0), node(1, 2), node(2, needs=1))
    goes_on = begun(node(0, 1, on_error="continue"), node(1, needs=1))

    go(stopped, (0, -1), "failed", error="no")
    go(goes_on, (0, -1), "failed", error="no")

    assert (stopped.state, stopped.error) == ("failed", "no")
    assert states(stopped) == ["failed", "cancelled", "cancelled"]
    assert states(goes_on) == ["failed", "running"]


def test_only_a_step_whose_needs_were_all_skipped_is_told_so():
    run = begun(node(0, 2, 3), node(1, 3), node(2, needs=1), node(3, needs=2))

    go(run, (0, -1), "skipped")
    go(run, (1, -1))

    assert run.all_needs_skipped((2, -1))
    assert not run.all_needs_skipped((3, -1))


def test_items_begin_a_few_at_once_and_are_collected_in_their_order():
    run = begun(node(0, 1, for_each=[]), node(1, needs=1))

    opened = run.expand((0, -1), ["a", "b", "c"], 2)
    for at in opened:
        run.begin(at)

    assert opened == [(0, 0), (0, 1)]
    assert go(run, (0, 1), output="B") == [(0, 2)]
    assert go(run, (0, 2), output="C") == []
    assert go(run, (0, 0), output="A") == [1]
    assert run.steps[0, -1].output == ["A", "B", "C"]


def test_no_items_are_an_empty_list_at_once():
    run = begun(node(0, 1, for_each=[]), node(1, needs=1))

    assert run.expand((0, -1), [], 2) == [(1, -1)]
    assert run.steps[0, -1].output == []


def test_what_was_done_is_undone_in_the_reverse_of_the_order_in_which_it_was_done():
    run = begun(
        node(0), node(1), node(2, on_error="compensate"), node(3, undoes=0), node(4, undoes=1)
    )
    go(run, (1, -1))
    go(run, (0, -1))

    undone = [go(run, (2, -1), "failed", error="no")]
    undone += [go(run, (undone[-1][0], -1)), go(run, (4, -1), "failed", error="stuck")]

    assert undone == [[3], [4], []]
    assert (run.state, run.error) == ("failed", "no; not undone: stuck")
    with pytest.raises(RunRefused, match="undone"):
        run.retry()


def test_a_paused_run_begins_nothing_until_it_is_resumed():
    run = begun(node(0, 1), node(1, needs=1))
    run.pause()

    assert go(run, (0, -1)) == []
    assert run.steps[1, -1].state == "ready"

    assert run.resume() == [(1, -1)]
    assert run.begin((1, -1))


def test_a_step_that_finds_its_run_paused_waits_for_the_resume():
    run = Run(Graph.of([node(0)]))
    run.start()
    run.pause()

    assert not run.begin((0, -1))
    assert run.resume() == [(0, -1)]


def test_a_run_that_failed_goes_on_with_what_is_left():
    run = begun(node(0, 2), node(1, 2), node(2, needs=2))
    go(run, (0, -1))
    go(run, (1, -1), "failed", error="no")

    assert run.retry() == [(1, -1)]
    run.begin((1, -1))

    assert go(run, (1, -1)) == [2]
    assert go(run, (2, -1)) == []
    assert (run.state, run.error) == ("completed", None)


def test_items_that_are_left_go_on_as_many_at_once_as_before():
    run = begun(node(0, for_each=[]))
    for at in run.expand((0, -1), list(range(5)), 2):
        run.begin(at)
    assert go(run, (0, 0), output=0) == [(0, 2)]
    go(run, (0, 1), "failed", error="no")

    assert run.retry() == [(0, 1), (0, 2)]
    assert run.steps[0, -1].open_items == 4


def test_acts_on_a_run_that_is_over_are_refused():
    run = begun(node(0))
    go(run, (0, -1))

    for act in (run.pause, run.resume, run.cancel, run.retry, lambda: run.skip((0, -1))):
        with pytest.raises(RunRefused):
            act()


@st.composite
def graphs(draw):
    """Nodes of a random graph, with what undoes some of them."""
    count = draw(st.integers(1, 12))
    needs = [
        draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set() for at in range(count)
    ]
    nodes = []
    for at in range(count):
        after = tuple(later for later in range(count) if at in needs[later])
        on_error = draw(st.sampled_from(("fail", "continue", "continue", "compensate")))
        mapped = {"for_each": []} if draw(st.booleans()) else {}
        nodes.append(node(at, *after, needs=len(needs[at]), on_error=on_error, **mapped))
    for at in draw(st.sets(st.integers(0, count - 1))):
        nodes.append(node(len(nodes), undoes=at))
    return nodes


@given(graphs(), st.randoms(use_true_random=False))
def test_every_run_ends_with_each_step_over_once(nodes, chance):
    run = Run(Graph.of(nodes))
    ready, over = run.start(), set()

    while ready:
        at = ready.pop(chance.randrange(len(ready)))
        if not run.begin(at):
            continue
        if at[1] < 0 and "for_each" in nodes[at[0]].spec:
            ready += run.expand(at, list(range(chance.randrange(4))), 1 + chance.randrange(3))
            continue
        assert at not in over
        over.add(at)
        ready += run.settle(at, chance.choice(["completed"] * 6 + ["skipped", "failed"]))

    assert run.state not in RUN_LIVE
    assert not any(step.state in LIVE for step in run.steps.values())
