"""`workflow show|graph|list|diff`: runs and definitions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import MOMENT, Typed, tenant_option
from producers.cli.workflow import run_tree, run_watch
from producers.json_rows import as_document
from producers.queries.workflow import workflow_lists
from producers.queries.workflow.workflow_lists import ListedRun
from producers.workflow import graphs, run_view
from producers.workflow.differences import difference
from producers.workflow.run_view import View
from shared import db
from shared.errors import UsageError, WorkflowNotFound
from shared.ids import TenantId
from shared.queries.workflow import workflows as shelf
from shared.workflow.reading import read

STATES = ("queued", "running", "paused", "compensating", "completed", "failed", "cancelled")
STEPS_SHOWN = 200


def _condition(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"invalid condition {text!r}: use field=value or outer.inner=value")
    return path.strip(), value


@click.command("show")
@click.argument("run_id", metavar="RUN")
@tenant_option
@click.option(
    "--watch", is_flag=True, help="Follow until it ends: live, or one line per change in a pipe."
)
@click.option("--step", metavar="STEP", help="Only this step in full; step[3] is an item.")
@click.option("--items", is_flag=True, help="With --json: include items of mapped steps.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    help=f"Maximum steps. Default: {STEPS_SHOWN}, with --json 10,000.",
)
@json_option
def show(run_id: str, slug: str, as_json: bool, watch: bool, **options: Any) -> None:  # noqa: ANN401
    """Show a run: its tree of steps, their waits and failures."""
    step, limit = options["step"], options["limit"]
    most = limit or (10_000 if as_json else STEPS_SHOWN)
    with session.opened():
        tenant_id = session.tenant_named(slug)
        if step is not None:
            _show_step(tenant_id, run_id, slug, step, as_json=as_json)
            return

        def look() -> View:
            return run_view.read(tenant_id, run_id, slug, limit=most)

        view = run_watch.watch(look, quiet=as_json) if watch else look()
        if options["items"] and as_json:
            view = run_view.with_items(tenant_id, view, limit=most)
    if as_json:
        print_json(run_view.document(view))
    else:
        run_tree.show(view)


def _show_step(tenant_id: TenantId, run_id: str, slug: str, name: str, *, as_json: bool) -> None:
    document = run_view.named_step(tenant_id, run_id, slug, name)
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@click.command("list")
@tenant_option
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only this state.")
@click.option("--since", type=MOMENT, help="Only runs started since this time or age, such as 2h.")
@click.option("--until", type=MOMENT, help="Only runs started before this time or age.")
@click.option(
    "--where",
    type=Typed("field=value", _condition),
    multiple=True,
    metavar="FIELD=VALUE",
    help="Match a field of the input (also outer.inner); repeat to match several.",
)
@click.option("--fingerprint", metavar="F", help="Only this failure, as in `workflow show --json`.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_runs(
    slug: str,
    limit: int,
    as_json: bool,
    where: tuple[tuple[str, str], ...],
    **filters: Any,  # noqa: ANN401
) -> None:
    """List runs, newest first."""
    wanted = workflow_lists.RunFilters(where=dict(where), **filters)
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            rows = workflow_lists.select_runs(conn, tenant_id, wanted, limit=limit)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    columns = ("id", "workflow", "version", "state", "started", "took", "error")
    print_table(columns, [_listed(row) for row in rows])


def _listed(row: ListedRun) -> tuple[object, ...]:
    took = None
    if row.completed_at is not None:
        took = run_tree.duration((row.completed_at - row.started_at).total_seconds())
    return row.id, row.workflow, row.version, row.state, row.started_at, took, row.error


@click.command("graph")
@click.argument("what", metavar="RUN|NAME|FILE")
@click.option("--tenant", "slug", metavar="SLUG", help="Tenant slug; not needed for a file.")
@json_option
def graph(what: str, slug: str | None, as_json: bool) -> None:
    """Print a Mermaid diagram of a run (coloured by state), a workflow or a file."""
    states: Mapping[str, str] = {}
    if Path(what).is_file():
        definition = read(Path(what).read_text(encoding="utf-8"), source=what)
    elif slug is None:
        raise UsageError(f"{what}: no such file; a run or a workflow needs --tenant.")
    else:
        with session.opened():
            tenant_id = session.tenant_named(slug)
            with db.transaction(tenant_id) as conn:
                definition, states = graphs.read(conn, what, slug)
    drawn = graphs.drawn(what, definition, states)
    if as_json:
        print_json(as_document(drawn))
    else:
        click.echo(drawn.mermaid.rstrip())


@click.command("diff")
@click.argument("name")
@click.argument("one", type=click.IntRange(1), metavar="V1")
@click.argument("other", type=click.IntRange(1), metavar="V2")
@tenant_option
@json_option
def diff(name: str, one: int, other: int, slug: str, as_json: bool) -> None:
    """Compare two versions of a workflow: steps added, removed and changed."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        found = [shelf.select_version(conn, name, version) for version in (one, other)]
    texts = []
    for version, row in zip((one, other), found, strict=True):
        if row is None:
            raise WorkflowNotFound(f"Tenant {slug} has no version {version} of {name!r}.")
        texts.append(row.definition)
    changes = difference(*texts)
    if as_json:
        print_json({"workflow": name, "from": one, "to": other} | changes)
        return
    _print_changes(changes)


def _print_changes(changes: dict[str, Any]) -> None:
    lines = [f"+ {name}" for name in changes["added"]]
    lines += [f"- {name}" for name in changes["removed"]]
    for name, fields in {"(workflow)": changes["workflow"], **changes["changed"]}.items():
        if fields:
            lines.append(f"~ {name}")
        for field, (old, new) in fields.items():
            lines += [f"    {field}: {_short(old)} -> {_short(new)}"]
    for line in lines or ["Nothing changed."]:
        click.echo(line)


def _short(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


COMMANDS = (show, list_runs, graph, diff)
