"""`workflow validate|put|run|definitions|schema`; other modules have the rest."""

import sys
from pathlib import Path
from typing import Any

import click

from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, print_table
from producers.cli.terminal.values import JSON_OBJECT, tenant_option
from producers.cli.workflow import run_actions, run_show, run_tree
from producers.cli.workflow.run_watch import queues_of
from producers.cli.workflow.run_watch import wait as wait_for
from producers.json_rows import as_document
from producers.queries.workflow import workflow_lists
from producers.workflow import run_view, workflows
from producers.workflow.json_schema import json_schema
from shared import db
from shared.errors import UsageError
from shared.ids import TenantId
from shared.workflow.runs import StartedRun

LIST_MAX = 10_000
STDIN = "-"


@click.group()
def workflow() -> None:
    """Manage workflow definitions and runs.

    A definition is YAML or JSON; `ailydian workflow schema` prints its JSON Schema for editors.
    Run states: queued, running, paused, compensating, completed, failed,
    cancelled.
    """


for _command in (*run_show.COMMANDS, *run_actions.COMMANDS):
    workflow.add_command(_command)


@workflow.command("validate")
@click.argument("file", metavar="FILE|-")
@json_option
@click.pass_context
def validate(ctx: click.Context, /, file: str, as_json: bool) -> None:
    """Validate a definition; errors have line, column and rule. Exits 1 on errors."""
    found = workflows.validate(text_of(file), source=file)
    if as_json:
        document = as_document(found)
        if not found.ok:
            del document["digest"]
        print_json(document)
    elif found.ok:
        steps = "1 step" if found.steps == 1 else f"{found.steps:,} steps"
        click.echo(f"{file}: {found.name} is valid, {steps}.")
    else:
        click.echo("\n".join(found.faults), err=True)
    ctx.exit(0 if found.ok else 1)


@workflow.command("put")
@click.argument("file", metavar="FILE|-")
@tenant_option
@json_option
def put(file: str, slug: str, as_json: bool) -> None:
    """Store a definition. A changed one becomes a new version; runs keep their version."""
    text = text_of(file)
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        done = workflows.put(conn, text, source=file)
    if as_json:
        document = as_document(done)
        print_json({"id": document.pop("versionId")} | document)
    else:
        what = "is now" if done.changed else "is already"
        click.echo(f"{done.name} {what} version {done.version}.")


@workflow.command("definitions")
@click.argument("name", required=False)
@tenant_option
@json_option
def definitions(name: str | None, slug: str, as_json: bool) -> None:
    """List workflows with their latest version; with NAME, all versions of that one."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            rows = workflow_lists.select_definitions(conn, tenant_id, name, limit=LIST_MAX)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    columns = ("workflow", "version", "steps", "put", "by", "description")
    print_table(
        columns,
        [
            (one.workflow, one.version, one.steps, one.created_at, one.created_by, one.description)
            for one in rows
        ],
    )


@workflow.command("schema")
@json_option
def schema(as_json: bool) -> None:  # noqa: ARG001 - it is JSON anyway
    """Print the JSON Schema of definitions, for editors."""
    print_json(json_schema())


@workflow.command("run")
@click.argument("name")
@tenant_option
@click.option(
    "--input",
    "given",
    type=JSON_OBJECT,
    metavar="JSON|@FILE",
    default="{}",
    help="Input as JSON, or @FILE.",
)
@click.option("--key", help="Idempotency key: the same key starts no second run.")
@click.option("--version", type=click.IntRange(1), help="Version. Default: the latest.")
@click.option("--wait", is_flag=True, help="Wait until ended; exit 1 unless completed.")
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    /,
    name: str,
    slug: str,
    wait: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Start a run. With embedded servers and no running worker, --wait does the work itself."""
    with session.opened() as servers:
        tenant_id = session.tenant_named(slug)
        if wait:
            with someone_works(servers, queues_of(tenant_id, name)) as check:
                started = _start(tenant_id, name, options)
                wait_for(tenant_id, slug, started.id, check)
        else:
            started = _start(tenant_id, name, options)
        view = run_view.read(tenant_id, started.id, slug, limit=LIST_MAX)
    if as_json:
        print_json(run_view.document(view) | {"duplicate": started.duplicate})
    elif wait:
        run_tree.show(view)
    else:
        again = " already existed and" if started.duplicate else ""
        click.echo(
            f"{started.id}{again} is {view.run.state}: "
            f"`ailydian workflow show {started.id} --tenant {slug} --watch`"
        )
    ctx.exit(1 if wait and view.run.state != "completed" else 0)


def _start(tenant_id: TenantId, name: str, options: dict[str, Any]) -> StartedRun:
    with db.transaction(tenant_id) as conn:
        return workflows.start(
            conn, name, options["given"], key=options["key"], version=options["version"]
        )


def text_of(file: str) -> str:
    """Read a definition's text from a file or standard input.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8.") from None
