"""Following a run to its end: a progress bar, a live tree, or lines in a pipe."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from producers.cli.terminal.output import say
from producers.cli.workflow import run_tree
from producers.queries.workflow import workflow_runs as queries
from producers.queries.workflow.workflow_runs import RunRow, StepRow
from producers.workflow import run_view
from producers.workflow.run_view import View
from shared import db
from shared.contracts import CONTRACTS, RunStep
from shared.db import Connection
from shared.ids import RunId, StepId, TenantId
from shared.queries.workflow import workflows

LOOK_S_MIN, LOOK_S_MAX = 0.02, 0.25
WATCH_S = 0.5
# Counting a large run's steps must not be what keeps Postgres busy.
SHARE = 10
HEAD_LINES = 8
# Follow-up queues of these queues: a document is embedded after it was ingested.
FOLLOWED_BY = {"ingest": "embedding"}
DEPTH_MAX = 8

# Progress in [0, 1], and what the run waits for if no step is running.
Advance = Callable[[float, str | None], None]


def queues_of(tenant_id: TenantId, name: str) -> list[str]:
    """Return the queues that a workflow needs, including those of its child workflows."""
    queues, names, seen = {RunStep.queue_name}, [name], set[str]()
    with db.transaction(tenant_id) as conn:
        while names and len(seen) < DEPTH_MAX:
            seen.add(one := names.pop())
            found = workflows.select_newest(conn, one)
            for step in [] if found is None else found.definition.get("steps", {}).values():
                for part in (step, step.get("compensate") or {}):
                    uses, given = part.get("uses"), part.get("with") or {}
                    if uses in CONTRACTS:
                        queues.add(CONTRACTS[uses].queue_name)
                    elif uses == "workflow" and given.get("name") not in seen:
                        names.append(str(given.get("name")))
    return sorted(queues | {FOLLOWED_BY[one] for one in queues if one in FOLLOWED_BY})


def wait(tenant_id: TenantId, slug: str, run_id: RunId, check: Callable[[], None]) -> None:
    """Wait until a run has ended, with a bar on a terminal.

    Args:
        tenant_id: Whose run it is.
        slug: The tenant's slug.
        run_id: The run.
        check: Called at each poll; an exception from it ends the wait.
    """
    look_s = LOOK_S_MIN
    with _progress() as advance:
        while True:
            began = time.monotonic()
            with db.transaction(tenant_id) as conn:
                run = queries.select_run(conn, run_id)
                if run is None or run.state not in run_view.LIVE:
                    return
                counts = queries.count_states(conn, run_id)
                moving = run.state == "compensating" or any(
                    one.state in {"ready", "running"} for one in counts
                )
                waiting = [] if moving else _waiting(conn, run)
            advance(run_view.progress(run, counts), _still(run, slug, waiting, moving))
            check()
            took_s = time.monotonic() - began
            time.sleep(max(look_s, SHARE * took_s))
            look_s = min(look_s * 1.5, LOOK_S_MAX)


def _waiting(conn: Connection, run: RunRow) -> list[StepRow]:
    ids = queries.select_notable(conn, run.id, ["waiting"], first=0, limit=1)
    return queries.select_steps(conn, run, ids)


def _still(run: RunRow, slug: str, waiting: list[StepRow], moving: bool) -> str | None:
    """Describe why a run makes no progress, and the command that would continue it."""
    if run.state == "paused":
        return f"the run is paused, until `ailydian workflow resume {run.id} --tenant {slug}`"
    if run.state == "queued":
        return f"the run waits for its turn behind the run {run.behind}"
    if moving or not waiting:
        return None
    step = waiting[0]
    said = f"step {step.name} {run_tree.waits(step)}"
    command = {"approval": ("approve", step.name), "signal": ("signal", step.wait_name)}
    if step.waits_for not in command:
        return said
    verb, name = command[step.waits_for]
    return f"{said}: `ailydian workflow {verb} {run.id} {name} --tenant {slug}`"


@contextmanager
def _progress() -> Iterator[Advance]:
    """Show a bar on a terminal; in a pipe, a line when the run starts to wait."""
    if not sys.stderr.isatty():
        shown: list[str | None] = [None]

        def show_progress(_: float, still: str | None) -> None:
            if still is not None and still != shown[0]:
                say(f"{still[0].upper()}{still[1:]}.")
            shown[0] = still or shown[0]

        yield show_progress
        return
    from rich.progress import Progress, TimeElapsedColumn  # noqa: PLC0415

    from producers.cli.terminal import drawing  # noqa: PLC0415 - as rich

    columns = (*Progress.get_default_columns()[:3], TimeElapsedColumn())
    with Progress(*columns, console=drawing.console(sys.stderr), transient=True) as bar:
        task = bar.add_task("Running", total=1.0)
        yield lambda part, still: bar.update(task, completed=part, description=still or "Running")


def watch(read: Callable[[], View], *, quiet: bool) -> View:
    """Show a run until it has ended: live on a terminal, one line per change in a pipe.

    Args:
        read: Reads the run.
        quiet: Whether to print nothing until the end.

    Returns:
        The run as it ended.
    """
    if quiet or not sys.stdout.isatty():
        return _lines(read, quiet=quiet)
    from rich.console import Group  # noqa: PLC0415 - for terminals only
    from rich.live import Live  # noqa: PLC0415

    from producers.cli.terminal import drawing  # noqa: PLC0415 - as rich

    console = drawing.console(sys.stdout)
    view = read()

    def tree() -> Group:
        room = max(5, console.height - HEAD_LINES)
        lines = run_tree.rendered(view, lines_max=room)
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    with Live(tree(), console=console, auto_refresh=False, transient=True) as live:
        while view.is_live:
            time.sleep(WATCH_S)
            view = read()
            live.update(tree(), refresh=True)
    return view


def _lines(read: Callable[[], View], *, quiet: bool) -> View:
    seen: dict[StepId, str] = {}
    while True:
        view = read()
        if not quiet:
            for line in _changes(view, seen):
                click.echo(line)
        if not view.is_live:
            return view
        time.sleep(WATCH_S)


def _changes(view: View, seen: dict[StepId, str]) -> Iterator[str]:
    """Yield a line for each step whose state, attempt or wait has changed."""
    at = f"{datetime.now(UTC):%H:%M:%S}"
    for step in (*view.steps, *view.further):
        shown = step.state + (f", attempt {step.attempt}" if step.attempt > 1 else "")
        if step.waits_for is not None:
            shown += f": {run_tree.waits(step)}"
        elif step.error is not None:
            shown += f": {step.error}"
        before, seen[step.id] = seen.get(step.id), shown
        if shown != before and not (before is None and step.state == "pending"):
            yield f"{at}  {view.progress:4.0%}  {step.name}  {shown}"
