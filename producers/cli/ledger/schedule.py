"""The `schedule` commands: cron schedules."""

from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import (
    DURATION,
    JOB,
    JSON_OBJECT,
    contract_for_operators,
    tenant_option,
)
from producers.ledger import schedule_changes
from producers.queries.ledger import schedules as queries
from producers.queries.ledger.schedules import NewSchedule
from shared import db
from shared.contracts import StartWorkflow
from shared.db import Role
from shared.errors import UsageError

NAME_CHARS_MAX = 100
LIST_MAX = 10_000
COLUMNS = ("tenant", "name", "cron", "time zone", "does", "enabled", "next", "last ran", "error")


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.strip() or len(value) > NAME_CHARS_MAX or not value.isprintable():
        raise click.BadParameter(f"must be 1-{NAME_CHARS_MAX} printable characters.")
    return value


_name_argument = click.argument("name", callback=_name)


@click.group()
def schedule() -> None:
    """Manage cron schedules. Each slot publishes one job, however many schedulers run."""


@schedule.command("put")
@_name_argument
@tenant_option
@click.option(
    "--cron",
    required=True,
    metavar="'M H D M W'",
    help="Cron expression: five fields, or six starting with seconds.",
)
@click.option(
    "--tz", "time_zone", default="UTC", show_default=True, metavar="ZONE", help="Time zone."
)
@click.option("--job", type=JOB, help="Job to publish.")
@click.option(
    "--payload", type=JSON_OBJECT, metavar="JSON|@FILE", help="Payload as JSON, or @FILE."
)
@click.option("--workflow", metavar="NAME", help="Start a run of this workflow instead of --job.")
@click.option(
    "--input",
    "given",
    type=JSON_OBJECT,
    metavar="JSON|@FILE",
    help="Input of the run as JSON, or @FILE.",
)
@click.option(
    "--jitter",
    "jitter_s",
    type=DURATION,
    default="0s",
    help="Delay each slot by a fixed part of this time, to spread load.",
)
@click.option(
    "--missed",
    type=click.Choice(["once", "skip", "all"]),
    default="once",
    show_default=True,
    help="Missed slots: run once, skip all, or run each (at most 100).",
)
@click.option("--disabled", is_flag=True, help="Store the schedule without running it.")
@json_option
def put_schedule(as_json: bool, disabled: bool, slug: str, **fields: Any) -> None:  # noqa: ANN401
    """Create or update a schedule.

    New times apply from now on: slots due before are skipped. The job's contract validates the
    payload. With --workflow, each slot starts one run of the latest version.
    """
    fields["jitter_s"] = round(fields["jitter_s"])
    fields["job"], fields["payload"] = _what(fields, fields.pop("workflow"), fields.pop("given"))
    wanted = NewSchedule(enabled=not disabled, **fields)
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            row = schedule_changes.put(conn, tenant_id, slug, wanted)
    document = schedule_changes.document(row)
    if as_json:
        print_json(document)
    else:
        print_fields(document)


def _what(
    fields: dict[str, Any], workflow: str | None, given: dict[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return the job of each slot, and its payload.

    Raises:
        UsageError: Not exactly one of job and workflow, or an option of the other one.
    """
    job, payload = fields["job"], fields["payload"]
    if (job is None) == (workflow is None):
        raise UsageError("Give either --job with --payload, or --workflow with --input.")
    if (given if workflow is None else payload) is not None:
        raise UsageError("--payload needs --job, and --input needs --workflow.")
    if job is not None:
        return contract_for_operators(job).actor_name, payload or {}
    return StartWorkflow.actor_name, {"name": workflow, "input": given or {}}


@schedule.command("list")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant's.")
@json_option
def list_schedules(slug: str | None, as_json: bool) -> None:
    """List schedules and their next runs. Those without a tenant are system sweeps."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = queries.select_schedules(conn, tenant_id, limit=LIST_MAX)
    if as_json:
        print_json([schedule_changes.document(row) for row in rows])
        return
    print_table(
        COLUMNS,
        [
            (
                *(row.tenant, row.name, row.cron, row.time_zone, row.job or row.sweep),
                *(row.enabled, row.next_at, row.ran_at, row.error),
            )
            for row in rows
        ],
    )


@schedule.command("delete")
@_name_argument
@tenant_option
@json_option
def delete_schedule(name: str, slug: str, as_json: bool) -> None:
    """Delete a schedule; jobs already published stay."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            schedule_id = schedule_changes.delete(conn, tenant_id, slug, name)
    if as_json:
        print_json({"id": schedule_id, "name": name, "deleted": True})
    else:
        click.echo(f"Schedule {name} is deleted.")
