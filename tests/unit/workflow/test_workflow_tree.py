"""A run as a tree, and what changed between two definitions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.cli.workflow.run_tree import BAR_CHARS, arrange, bar, duration, rendered, waits
from producers.queries.workflow.workflow_runs import Count, FailedAttempt, RunRow, StepRow
from producers.workflow.differences import difference
from producers.workflow.run_view import ChildRun, View, document

BEGAN = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def step(position, name, *dependents, state="completed", begin=0.0, end=1.0, **fields):
    known = dict.fromkeys(StepRow.__slots__)
    known |= {"id": f"run/{position}", "position": position, "name": name, "state": state}
    known |= {"uses": "transform", "attempt": 1, "attempts_max": 3, "dependents": dependents}
    known |= {"started_at": at(begin), "completed_at": None if end is None else at(end)}
    return StepRow(**(known | fields))


def view(*steps, state="running", counts=None, further=(), attempts=None, children=None, **run):
    known = dict.fromkeys(RunRow.__slots__)
    known |= {"id": "run", "workflow": "order", "version": 3, "state": state, "now": at(10)}
    known |= {"steps_total": len(steps), "started_at": BEGAN}
    if counts is None:
        counts = [Count(None, one.state, 1, one.state == "completed") for one in steps]
    row = RunRow(**(known | run))
    return View(row, steps, further, counts, attempts or {}, children or {})


def lines(seen, **options):
    return [line.plain for line in rendered(seen, **options)]


def drawn(*steps):
    return [one.guides + one.step.name for one in arrange(steps)]


def test_a_chain_stays_on_its_level():
    assert drawn(step(0, "a", 1), step(1, "b", 2), step(2, "c")) == ["a", "b", "c"]


def test_branches_are_one_level_in_and_join_where_they_left():
    steps = [step(0, "a", 1, 2), step(1, "b", 3), step(2, "c", 4), step(3, "b2", 4), step(4, "d")]

    placed = arrange(steps)

    assert [one.guides + one.step.name for one in placed] == ["a", "├ b", "│ b2", "└ c", "d"]
    assert placed[-1].after == ("c", "b2")


def test_the_last_branch_of_each_fan_is_drawn_as_the_last():
    fans = [step(0, "a", 1, 2), step(1, "w", 3, 4), step(2, "x", 5, 6)]
    leaves = [step(n, name) for n, name in enumerate(("w1", "w2", "x1", "x2"), start=3)]

    assert drawn(*fans, *leaves) == ["a", "├ w", "│ ├ w1", "│ └ w2", "└ x", "  ├ x1", "  └ x2"]


def test_a_step_behind_others_names_what_it_needs():
    steps = [step(0, "a", 2), step(1, "b"), step(2, "c")]
    assert [(one.step.name, one.after) for one in arrange(steps)] == [
        ("a", ()),
        ("c", ()),
        ("b", ()),
    ]
    several = [step(0, "a", 3), step(1, "b", 3), step(2, "c"), step(3, "d")]

    placed = arrange(several)

    assert [one.step.name for one in placed] == ["a", "b", "d", "c"]
    assert placed[2].after == ("a", "b")


@given(st.data())
def test_every_step_of_any_graph_stands_once_and_behind_its_needs(data):
    size = data.draw(st.integers(1, 40))
    later = [
        data.draw(st.sets(st.integers(n + 1, size - 1))) if n < size - 1 else ()
        for n in range(size)
    ]
    steps = [step(n, f"s{n}", *sorted(later[n])) for n in range(size)]

    placed = arrange(steps)

    order = {one.step.position: n for n, one in enumerate(placed)}
    assert sorted(order) == list(range(size))
    assert all(order[n] < order[after] for n in range(size) for after in later[n])
    assert all(0 <= one.level <= 8 for one in placed)


@pytest.mark.thorough
def test_a_chain_of_100_000_steps_is_arranged_without_recursion():
    count = 100_000

    placed = arrange([step(n, "s", *([n + 1] if n < count - 1 else [])) for n in range(count)])

    assert len(placed) == count
    assert {one.level for one in placed} == {0}


@pytest.mark.parametrize(
    ("begin", "end", "drawn"),
    [
        (0, 12, "━" * 12),
        (12, 24, " " * 12 + "━" * 12),
        (0, 0, "━"),
        (24, 24, " " * 23 + "━"),
        (-5, 30, "━" * 24),
    ],
)
def test_a_bar_lies_where_its_step_lay_in_the_run(begin, end, drawn):
    assert bar(at(begin), at(end), (BEGAN, at(24)), 24) == drawn


def test_what_was_over_before_the_run_began_has_no_bar():
    assert bar(at(-5), at(-3), (BEGAN, at(24))) == ""


def test_what_has_not_begun_has_no_bar():
    assert bar(None, at(3), (BEGAN, at(24))) == ""


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_a_bar_is_never_longer_than_its_run(begin, end, whole):
    found = bar(at(begin), at(max(begin, end)), (BEGAN, at(whole)))

    assert 1 <= len(found) <= BAR_CHARS
    assert found.strip()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (200, "3 m 20 s"),
        (7_500, "2 h 5 m"),
        (273_600, "3 d 4 h"),
    ],
)
def test_times_are_told_as_people_say_them(seconds, told):
    assert duration(seconds) == told


def test_the_head_tells_version_state_progress_and_time():
    seen = view(step(0, "a", 1), step(1, "b", state="running", begin=1, end=None, progress=0.5))

    told = lines(seen)

    assert told[0] == "order v3  run  ▶ running  50%  10.0 s"
    assert told[2].split() == ["✔", "a", "completed", "1", "1.0", "s", "━━"]
    assert told[3].split()[:8] == ["▶", "b", "running", "50%", "1", "9.0", "s", "━" * 22]


def test_a_mapped_step_folds_its_items_and_names_those_that_failed():
    item = step(0, "pages[7]", state="failed", item_index=7, error="no page", id="run/0/7")
    counts = [
        Count(None, "running", 1, 0.99),
        Count(0, "completed", 9_999, 9_999),
        Count(0, "failed", 1, 1),
    ]
    pages = step(0, "pages", state="running", end=None, items=10_000, progress=0.99)

    told = lines(view(pages, counts=counts, further=[item]))

    assert "  10,000 items: 9,999 completed, 1 failed" in told
    assert "  ✘ pages[7]  failed  no page" in told
    assert len(told) == 5


def test_a_step_tells_what_it_waits_for_and_until_when():
    waiting = {"state": "waiting", "end": None, "waits_for": "signal", "wait_name": "paid"}
    signal = step(0, "pay", **waiting, wait_until=at(60))
    timer = step(0, "nap", **(waiting | {"waits_for": "timer"}), wait_until=at(60))

    assert waits(signal) == "waits for the signal paid, until 2026-11-01 12:01:00 UTC at most"
    assert waits(timer) == "sleeps until 2026-11-01 12:01:00 UTC"
    assert "  " + waits(signal) in lines(view(signal))


def test_attempts_children_and_undoing_steps_are_shown():
    failed = FailedAttempt("run/0", 1, "failed", "X", "it broke", "f", "w", at(0), at(1))
    again = step(0, "a", 1, state="running", begin=4, end=None, attempt=2)
    child = step(1, "sub", uses="workflow", state="waiting", end=None)
    undo = step(2, "undo_a", compensates=0)
    seen = view(
        *(again, child, undo),
        attempts={"run/0": [failed]},
        children={"run/1": [ChildRun("run-2", "inner", "running")]},
        counts=[],
        steps_total=2,
    )

    told = lines(seen)

    assert "2/3" in told[2]
    assert told[2].endswith("  " + "━" * BAR_CHARS)
    assert told[3] == "  attempt 1 failed: it broke"
    assert "  run run-2 of inner: running" in told
    assert told[-1].startswith("✔ undo_a")


def test_what_has_no_room_is_counted():
    steps = [step(n, f"s{n}", n + 1) for n in range(50)]
    steps += [step(50, "now", 51, state="running", end=None)]
    steps += [step(n, f"s{n}", n + 1, state="pending", end=None) for n in range(51, 80)]
    late = step(90_000, "late", state="failed", error="it broke", id="run/90000")
    counts = [Count(None, "completed", 50, 50), Count(None, "pending", 99_950, 0)]

    told = lines(view(*steps, counts=counts, steps_total=100_000, further=[late]), lines_max=10)

    assert told[1] == "… 47 steps above"
    assert "▶ now" in told[6]
    assert "… 99,943 steps more; of all: 50 completed, 99,950 pending" in told
    assert told[-1] == "✘ late  failed  it broke"


def test_a_run_that_waits_or_is_paused_says_for_what():
    assert any(
        "behind the run first" in line for line in lines(view(state="queued", behind="first"))
    )
    assert any("workflow resume" in line for line in lines(view(state="paused")))
    assert any("in 50.0 s" in line for line in lines(view(deadline=at(60))))


def test_a_failed_step_far_away_is_told_in_the_head():
    told = lines(view(state="failed", error="it broke", failed_step_id="run/7"))

    assert told[1] == "  it broke"


def test_a_document_has_the_names_that_scripts_know():
    found = document(view(step(0, "a", waits_for="signal", wait_name="paid")))

    assert {"id", "workflow", "status", "input", "output", "error", "steps"} <= found.keys()
    [one] = found["steps"]
    wanted = {"name", "status", "attempt", "startedAt", "completedAt", "output", "error"}
    assert wanted <= one.keys()
    assert one["waits"] == {"for": "signal", "name": "paid", "until": None}


def test_a_difference_names_steps_and_fields():
    before = {"name": "w", "timeout": "1h", "steps": {"a": {"uses": "x"}, "b": {"uses": "y"}}}
    after = {"name": "w", "steps": {"a": {"uses": "x", "if": "true"}, "c": {"uses": "z"}}}

    assert difference(before, after) == {
        "added": ["c"],
        "removed": ["b"],
        "changed": {"a": {"if": [None, "true"]}},
        "workflow": {"timeout": ["1h", None]},
    }
