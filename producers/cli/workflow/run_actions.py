"""`workflow cancel|pause|resume|retry|skip|signal|approve`: actions on a run."""

import contextlib
from collections.abc import Callable
from typing import Any

import click

from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import Command, json_option, print_json
from producers.cli.terminal.values import JSON_VALUE, tenant_option
from producers.cli.workflow import run_tree, run_watch
from producers.workflow import run_view, workflows
from shared import db
from shared.db import Connection
from shared.ids import RunId

LIST_MAX = 10_000


def _run_argument(function: Command) -> Command:
    return click.argument("run_id", metavar="RUN")(function)


def _wait_option(function: Command) -> Command:
    text = "Wait until the run has ended; exit 1 unless completed."
    return click.option("--wait", is_flag=True, help=text)(function)


@click.command()
@_run_argument
@tenant_option
@json_option
def cancel(run_id: str, slug: str, as_json: bool) -> None:
    """Cancel a run: its running steps and child runs are stopped."""
    _act(lambda conn: workflows.cancel(conn, RunId(run_id)), run_id, slug, as_json)


@click.command()
@_run_argument
@tenant_option
@json_option
def pause(run_id: str, slug: str, as_json: bool) -> None:
    """Pause a run: no further step starts, running steps finish."""
    _act(lambda conn: workflows.pause(conn, RunId(run_id)), run_id, slug, as_json)


@click.command()
@_run_argument
@tenant_option
@_wait_option
@json_option
def resume(run_id: str, slug: str, as_json: bool, wait: bool) -> None:
    """Resume a paused run."""
    _act(lambda conn: workflows.resume(conn, RunId(run_id)), run_id, slug, as_json, wait=wait)


@click.command()
@_run_argument
@tenant_option
@click.option("--from", "from_step", metavar="STEP", help="Start a new run from this step.")
@_wait_option
@json_option
def retry(run_id: str, slug: str, as_json: bool, wait: bool, from_step: str | None) -> None:
    """Retry a failed or cancelled run from where it failed.

    With --from, a new run starts at that step with the outputs of all earlier steps; the old run
    stays unchanged.
    """

    def act(conn: Connection) -> RunId:
        return workflows.retry(conn, RunId(run_id), from_step=from_step)

    _act(act, run_id, slug, as_json, wait=wait)


@click.command()
@_run_argument
@click.argument("step")
@tenant_option
@json_option
def skip(run_id: str, step: str, slug: str, as_json: bool) -> None:
    """Skip an unfinished step; the steps after it continue."""
    _act(lambda conn: workflows.skip(conn, RunId(run_id), step), run_id, slug, as_json)


@click.command()
@_run_argument
@click.argument("name")
@tenant_option
@click.option(
    "--payload",
    type=JSON_VALUE,
    metavar="JSON|@FILE",
    default="null",
    help="Payload as JSON, or @FILE.",
)
@_wait_option
@json_option
def signal(run_id: str, name: str, slug: str, as_json: bool, wait: bool, payload: object) -> None:
    """Send a signal to a run. It is stored until a step waits for it."""

    def act(conn: Connection) -> None:
        workflows.signal(conn, RunId(run_id), name, payload)

    _act(act, run_id, slug, as_json, wait=wait)


@click.command()
@_run_argument
@click.argument("step")
@tenant_option
@click.option("--reject", is_flag=True, help="Reject: the step fails.")
@click.option("--comment", help="Comment, stored with the run.")
@_wait_option
@json_option
def approve(run_id: str, step: str, slug: str, as_json: bool, wait: bool, **answer: Any) -> None:  # noqa: ANN401
    """Approve or reject a waiting step; step[3] is an item of a mapped step."""

    def act(conn: Connection) -> None:
        approved = not answer["reject"]
        workflows.approve(conn, RunId(run_id), step, approved=approved, comment=answer["comment"])

    _act(act, run_id, slug, as_json, wait=wait)


def _act(
    act: Callable[[Connection], RunId | None],
    run_id: str,
    slug: str,
    as_json: bool,
    *,
    wait: bool = False,
) -> None:
    """Apply the action and print the new state of the run, or of its fork."""
    with session.opened() as servers:
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            run = run_view.find(conn, run_id, slug)
        with contextlib.ExitStack() as stack:
            if wait:
                queues = run_watch.queues_of(tenant_id, run.workflow)
                check = stack.enter_context(someone_works(servers, queues))
            with db.transaction(tenant_id) as conn:
                shown = act(conn) or run.id
            if wait:
                run_watch.wait(tenant_id, slug, shown, check)
        view = run_view.read(tenant_id, shown, slug, limit=LIST_MAX)
    if as_json:
        print_json(run_view.document(view))
    elif wait:
        run_tree.show(view)
    else:
        click.echo(f"The run {view.run.id} is {view.run.state}.")
    if wait and view.run.state != "completed":
        raise click.exceptions.Exit(1)


COMMANDS = (cancel, pause, resume, retry, skip, signal, approve)
