"""The `pause`, `resume` and `drain` commands."""

import time
from collections.abc import Callable
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import Command, json_option, print_json
from producers.cli.terminal.values import DURATION, JOB, QUEUE
from producers.errors import WaitedTooLong
from producers.ledger import pausing
from producers.queries.ledger import pauses
from producers.queries.ledger.pauses import Pause
from shared import db
from shared.db import Role

DRAIN_LOOK_S = 0.2


def scoped(function: Command) -> Command:
    """Add `[QUEUE] [--tenant SLUG] [--job NAME]` to a command; one is required."""
    options: tuple[Callable[[Command], Command], ...] = (
        click.argument("queue", type=QUEUE, required=False),
        click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant's jobs."),
        click.option("--job", type=JOB, help="Only this kind of job."),
        json_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@scoped
def pause(queue: str | None, slug: str | None, job: str | None, as_json: bool) -> None:
    """Pause jobs: none is started, publishing continues, running jobs finish.

    It takes effect in every process within a second. Several conditions must all match:
    `pause ingest --tenant acme` pauses that queue for that tenant only.
    """
    _change(queue, slug, job, as_json, paused=True)


@click.command()
@scoped
def resume(queue: str | None, slug: str | None, job: str | None, as_json: bool) -> None:
    """Resume what was paused with the same arguments."""
    _change(queue, slug, job, as_json, paused=False)


def _change(
    queue: str | None, slug: str | None, job: str | None, as_json: bool, *, paused: bool
) -> None:
    with session.opened():
        selected = _pause(queue, slug, job)
        with db.transaction(None, role=Role.RELAY) as conn:
            changed = (pausing.pause if paused else pausing.resume)(conn, selected)
    if as_json:
        print_json({"queue": queue, "tenant": slug, "job": job, "paused": paused})
    else:
        word = "paused" if paused else "running"
        already = "" if changed else " already"
        click.echo(f"{_name(queue, slug, job).capitalize()} is {word}{already}.")


@click.command()
@scoped
@click.option("--timeout", "timeout_s", type=DURATION, help="Give up after this time and exit 1.")
def drain(
    queue: str | None, slug: str | None, job: str | None, timeout_s: float | None, as_json: bool
) -> None:
    """Wait until no matching job is ready or running; delayed jobs are not waited for."""
    began = time.monotonic()
    with session.opened():
        selected = _pause(queue, slug, job)
        while True:
            with db.transaction(None, role=Role.RELAY) as conn:
                left = pauses.count_left(conn, selected)
            waited_s = time.monotonic() - began
            if left.ready + left.running == 0:
                break
            if timeout_s is not None and waited_s > timeout_s:
                many = " or more" if left.ready >= pauses.COUNTED_MAX else ""
                raise WaitedTooLong(
                    f"{_name(queue, slug, job).capitalize()} still has {left.ready}{many} ready "
                    f"and {left.running} running jobs after {waited_s:.0f} s."
                )
            time.sleep(DRAIN_LOOK_S)
    document: dict[str, Any] = {"queue": queue, "tenant": slug, "job": job}
    if as_json:
        print_json(document | {"seconds": round(waited_s, 3), "delayed": left.delayed})
    else:
        click.echo(f"{_name(queue, slug, job).capitalize()} is empty after {waited_s:.1f} s.")


def _pause(queue: str | None, slug: str | None, job: str | None) -> Pause:
    if queue is None and slug is None and job is None:
        raise click.UsageError("Give a QUEUE, --tenant SLUG or --job NAME; see --help.")
    return Pause(queue, None if slug is None else session.tenant_named(slug), job)


def _name(queue: str | None, slug: str | None, job: str | None) -> str:
    parts = [
        job and f"the job {job}",
        slug and f"the tenant {slug}",
        queue and f"the queue {queue}",
    ]
    return ", ".join(part for part in parts if part)
