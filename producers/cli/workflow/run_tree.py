"""Rendering of a run as a tree: states, attempts, times and a time bar per step."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from producers.cli.terminal import drawing
from producers.queries.workflow.workflow_runs import StepRow
from producers.workflow.run_view import View

BAR_CHARS = 24
LEVELS_MAX = 8
NEEDS_NAMED = 3
SENTENCE_CHARS_MAX = 160
TOOK = 3  # the column that is aligned to the right
MINUTE_S = HOUR_M = 60
DAY_M = 24 * HOUR_M

# state: (mark, colour)
LOOKS = {
    "pending": ("·", "bright_black"),
    "ready": ("○", "cyan"),
    "running": ("▶", "blue"),
    "waiting": ("◷", "yellow"),
    "completed": ("✔", "green"),
    "skipped": ("–", "bright_black"),
    "failed": ("✘", "red"),
    "cancelled": ("■", "magenta"),
    "queued": ("○", "cyan"),
    "paused": ("◷", "yellow"),
    "compensating": ("↺", "yellow"),
}
_WAITS = {
    "timer": "sleeps",
    "signal": "waits for the signal {name}",
    "approval": "waits for an approval",
    "run": "waits for the run {name}",
    "slot": "waits for its turn behind the key {name}",
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A step's place in the tree.

    Attributes:
        step: The step.
        level: How deep it is indented, from 0.
        branches: Whether it is one of several that the step above opened.
        guides: Line-drawing characters before its mark.
        after: Dependencies that are not visible from its place.
    """

    step: StepRow
    level: int
    branches: bool
    guides: str
    after: tuple[str, ...]


def arrange(steps: Sequence[StepRow]) -> list[Placed]:
    """Place steps in the tree, chains together.

    A step that alone follows another stays on its level; several that follow one are branches,
    one level in; where branches join again, the level is the one they left. Nothing recurs.

    Args:
        steps: In topological order, closed under needs, none of them an item.
    """
    by_position = {step.position: step for step in steps}
    needs: dict[int, list[int]] = {step.position: [] for step in steps}
    for step in steps:
        for dependent in step.dependents:
            if dependent in needs:
                needs[dependent].append(step.position)
    levels: dict[int, int] = {}
    order: list[tuple[StepRow, bool, tuple[str, ...]]] = []
    above: int | None = None
    for position in _walk(steps, needs):
        step, before = by_position[position], needs[position]
        level, branches = _level(before, levels, by_position)
        levels[position] = level
        is_visible = not before or before == [above] or branches
        names = () if is_visible else tuple(by_position[one].name for one in before)
        order.append((step, branches, names))
        above = position
    return _drawn(order, levels)


def _walk(steps: Sequence[StepRow], needs: dict[int, list[int]]) -> Iterator[int]:
    """Positions in topological order, what follows from a step right behind it."""
    left = {position: len(before) for position, before in needs.items()}
    by_position = {step.position: step for step in steps}
    stack = [step.position for step in reversed(steps) if not needs[step.position]]
    while stack:
        position = stack.pop()
        yield position
        opened = []
        for dependent in by_position[position].dependents:
            if dependent in left:
                left[dependent] -= 1
                if not left[dependent]:
                    opened.append(dependent)
        stack.extend(reversed(opened))


def _level(
    before: Sequence[int], levels: dict[int, int], steps: dict[int, StepRow]
) -> tuple[int, bool]:
    if not before:
        return 0, False
    if len(before) > 1:
        return max(0, min(levels[one] for one in before) - 1), False
    only = before[0]
    several = len(steps[only].dependents) > 1
    return min(LEVELS_MAX, levels[only] + several), several


def _drawn(
    order: Sequence[tuple[StepRow, bool, tuple[str, ...]]], levels: dict[int, int]
) -> list[Placed]:
    """From the last line to the first: a guide goes on where its level has another branch."""
    placed = []
    later: set[int] = set()
    for step, branches, after in reversed(order):
        level = levels[step.position]
        later = {one for one in later if one <= level}
        guides = "".join("│ " if one in later else "  " for one in range(1, level))
        if level:
            if branches:
                guides += "├ " if level in later else "└ "
                later.add(level)
            else:
                guides += "│ " if level in later else "  "
        placed.append(Placed(step, level, branches, guides, after))
    return placed[::-1]


def bar(
    begin: datetime | None, end: datetime, run: tuple[datetime, datetime], width: int = BAR_CHARS
) -> str:
    """A step's time as a bar: where it lies in the run's, and how long it is.

    Args:
        begin: When the step began; None draws nothing, nor does what ended before the run, which
            a fork has taken over.
        end: When it ended, or now.
        run: When the run began, and when it ended, or now.
        width: Of the whole run, in characters, >= 1.
    """
    if begin is None or (end < run[0] and begin < run[0]):
        return ""
    whole = max((run[1] - run[0]).total_seconds(), 1e-9)
    first = int(width * min(max((begin - run[0]).total_seconds() / whole, 0.0), 1.0))
    last = round(width * min(max((end - run[0]).total_seconds() / whole, 0.0), 1.0))
    first = min(first, width - 1)
    return " " * first + "━" * max(1, last - first)


def duration(seconds: float) -> str:
    """Format a duration: `12 ms`, `1.2 s`, `3 m 20 s`, `2 h 5 m`, `3 d 4 h`."""
    if seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s"
    minutes = int(seconds // MINUTE_S)
    if minutes < HOUR_M:
        return f"{minutes} m {int(seconds % MINUTE_S)} s"
    if minutes < DAY_M:
        return f"{minutes // HOUR_M} h {minutes % HOUR_M} m"
    return f"{minutes // DAY_M} d {minutes % DAY_M // HOUR_M} h"


def rendered(view: View, *, lines_max: int | None = None) -> list[Text]:
    """Render a run as lines: its head, and its tree with state, attempts, time and bar.

    Args:
        view: The run.
        lines_max: Maximum steps shown, around the first running one.
    """
    steps = [step for step in view.steps if step.item_index is None]
    placed = arrange([step for step in steps if step.compensates is None])
    undone = [
        Placed(step, 0, branches=False, guides="", after=())
        for step in sorted(steps, key=lambda one: one.started_at or view.run.now)
        if step.compensates is not None
    ]
    lines = [*placed, *undone]
    first, last = _window(lines, lines_max)
    above = [Text(f"… {first:,} steps above")] if first else []
    hidden = view.run.steps_total - len(placed) + (len(lines) - last)
    below = [*_further(view, hidden), *_tail(view)]
    return [*_head(view), *above, *_table(view, lines[first:last]), *below]


def show(view: View) -> None:
    """Print a run as a tree on stdout, coloured on a terminal."""
    console = drawing.console(sys.stdout)
    for line in rendered(view):
        console.print(line, soft_wrap=True)


def _table(view: View, placed: Sequence[Placed]) -> Iterator[Text]:
    """The steps' lines, columns aligned, with the details of a step below its line."""
    header = [Text(name, style="bold") for name in ("step", "state", "tries", "took")]
    scale = duration((view.ends_at - view.run.started_at).total_seconds())
    header.append(Text(f"0{scale.rjust(BAR_CHARS - 1)}", style="bright_black"))
    rows = [(header, list[Text]()), *((_cells(view, one), _below(view, one)) for one in placed)]
    widths = [max(cells[n].cell_len for cells, _ in rows) for n in range(len(header))]
    for cells, sentences in rows:
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            if n == TOOK:
                cell.pad_left(width - cell.cell_len)
            elif n < len(cells) - 1:
                cell.pad_right(width - cell.cell_len)
        line = Text("  ").join(cells)
        line.rstrip()
        yield line
        yield from sentences


def _window(lines: Sequence[Placed], lines_max: int | None) -> tuple[int, int]:
    if lines_max is None or len(lines) <= lines_max:
        return 0, len(lines)
    under_way = ("running", "ready", "waiting", "pending")
    at = next((n for n, one in enumerate(lines) if one.step.state in under_way), len(lines))
    first = max(0, min(at - lines_max // 3, len(lines) - lines_max))
    return first, first + lines_max


def _head(view: View) -> Iterator[Text]:
    run = view.run
    mark, colour = LOOKS[run.state]
    took = duration((view.ends_at - run.started_at).total_seconds())
    yield Text.assemble(
        (f"{run.workflow}", "bold"),
        f" v{run.version}  {run.id}  ",
        (f"{mark} {run.state}", colour),
        f"  {view.progress:.0%}  {took}",
    )
    shown = {step.id for step in (*view.steps, *view.further)}
    if run.error is not None and run.failed_step_id not in shown:
        yield Text(f"  {_cut(run.error)}", style="red")
    if run.behind is not None:
        yield Text(f"  waits for its turn behind the run {run.behind}", style="yellow")
    if run.state == "paused":
        yield Text("  paused: `ailydian workflow resume` continues it", style="yellow")
    if run.fork_of is not None:
        yield Text(f"  a fork of the run {run.fork_of}", style="bright_black")
    if view.parent is not None:
        yield Text(f"  started by a step of the run {view.parent}", style="bright_black")


def _cells(view: View, placed: Placed) -> list[Text]:
    step = placed.step
    mark, colour = LOOKS[step.state]
    name = Text.assemble((placed.guides, "bright_black"), (mark, colour), " ", step.name)
    if placed.after:
        named = ", ".join(placed.after[:NEEDS_NAMED])
        more = len(placed.after) - NEEDS_NAMED
        name.append(f"  ← {named}{f' and {more} more' if more > 0 else ''}", "bright_black")
    ends_at = step.completed_at or view.ends_at
    took = None if step.started_at is None else (ends_at - step.started_at).total_seconds()
    state = step.state
    if state == "running" and step.progress:
        state += f" {step.progress:.0%}"
    tries = f"{step.attempt}/{step.attempts_max}" if step.attempt > 1 else str(step.attempt or "")
    begins = [one.started_at for one in view.attempts.get(step.id, ()) if one.started_at]
    drawn = bar(min(begins, default=step.started_at), ends_at, (view.run.started_at, view.ends_at))
    return [
        name,
        Text(state, style=colour),
        Text(tries),
        Text("" if took is None else duration(max(took, 0.0))),
        Text(drawn, style=colour),
    ]


def _below(view: View, placed: Placed) -> list[Text]:
    indent = " " * (len(placed.guides) + 2)
    said = _sentences(view, placed.step)
    lines = [Text(indent + sentence, style=style) for sentence, style in said]
    items = (one for one in view.further if one.item_index is not None)
    error = placed.step.error or ""  # one that failed its step is shown there
    of_it = [
        one
        for one in items
        if one.position == placed.step.position and not error.startswith(f"item {one.item_index}:")
    ]
    return lines + [Text(indent).append_text(_line(view, item)) for item in of_it]


def _sentences(view: View, step: StepRow) -> Iterator[tuple[str, str]]:
    """Yield the details of a step below its line, with their style."""
    if step.items is not None:
        states = view.items(step.position)
        counted = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        yield f"{step.items:,} items: {counted}", "bright_black"
    if step.waits_for is not None:
        yield waits(step), "yellow"
    if step.state == "running" and step.job_state == "PENDING":
        yield f"its job {step.job_id} waits in the queue {step.job_queue}", "yellow"
    for child in view.children.get(step.id, ()):
        yield f"run {child.id} of {child.workflow}: {child.state}", "bright_black"
    if step.note and step.state == "running":
        yield _cut(step.note), "bright_black"
    attempts = view.attempts.get(step.id, ())
    if step.error is not None and step.state != "cancelled":
        yield _cut(step.error), "red"
    elif attempts:
        last = attempts[-1]
        yield f"attempt {last.attempt} {last.verdict}: {_cut(last.error or '')}", "yellow"


def waits(step: StepRow) -> str:
    """Describe what a step waits for, and until when."""
    sentence = _WAITS[step.waits_for or "timer"].format(name=step.wait_name)
    if step.wait_until is None:
        return sentence
    until = f"until {step.wait_until:%Y-%m-%d %H:%M:%S} UTC"
    return f"{sentence} {until}" if step.waits_for == "timer" else f"{sentence}, {until} at most"


def _further(view: View, hidden: int) -> Iterator[Text]:
    if hidden > 0:
        states = {one.state: one.count for one in view.counts if one.position is None}
        counted = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        yield Text(f"… {hidden:,} steps more; of all: {counted}")
    placed = {step.position for step in view.steps}
    for step in view.further:
        if step.position not in placed:
            yield _line(view, step)


def _line(view: View, step: StepRow) -> Text:
    """A step or an item on a line of its own."""
    mark, colour = LOOKS[step.state]
    text = Text.assemble((f"{mark} {step.name}", colour), f"  {step.state}")
    for sentence, style in _sentences(view, step):
        text.append(f"  {sentence}", style)
    return text


def _tail(view: View) -> Iterator[Text]:
    deadline = view.run.deadline
    if deadline is not None:
        left = duration(max((deadline - view.run.now).total_seconds(), 0.0))
        yield Text(
            f"Ends at the latest {deadline:%Y-%m-%d %H:%M:%S} UTC, in {left}.",
            style="bright_black",
        )


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SENTENCE_CHARS_MAX else line[: SENTENCE_CHARS_MAX - 1] + "…"
