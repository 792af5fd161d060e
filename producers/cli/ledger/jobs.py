"""The `jobs` commands: list, show, why, cancel."""

from typing import Any

import click

from producers.cli.ledger import jobs_why
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import JOB, MOMENT, QUEUE
from producers.json_rows import as_document
from producers.ledger import cancellation, job_history
from producers.queries.ledger import jobs as ledger
from producers.queries.ledger.job_history import UnfinishedFilters
from shared import db
from shared.db import Role

STATES = ("PENDING", "QUEUED", "RUNNING", "COMPLETED", "DEAD", "CANCELLED")


@click.group()
def jobs() -> None:
    """List, show, explain and cancel jobs.

    States: PENDING (in the outbox), QUEUED (sent to Redis), RUNNING, COMPLETED, DEAD, CANCELLED.
    """


@jobs.command("list")
@click.option("--queue", type=QUEUE, help="Only this queue.")
@click.option("--job", type=JOB, help="Only this kind of job.")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only this state.")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant.")
@click.option(
    "--since", type=MOMENT, help="Only jobs published since this time or age, such as 2h."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_jobs(slug: str | None, limit: int, as_json: bool, **filters: Any) -> None:  # noqa: ANN401
    """List jobs, newest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        wanted = ledger.JobFilters(tenant_id=tenant_id, **filters)
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = ledger.select_jobs(conn, wanted, limit=limit)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    columns = ("id", "job", "queue", "tenant", "state", "attempt", "created", "error")
    print_table(
        columns,
        [(r.id, r.job, r.queue, r.tenant, r.state, r.attempt, r.created_at, r.error) for r in rows],
    )


@jobs.command("show")
@click.argument("job_id", metavar="ID")
@json_option
def show_job(job_id: str, as_json: bool) -> None:
    """Show a job with all its fields."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        document = as_document(cancellation.found(conn, job_id))
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@jobs.command("why")
@click.argument("job_id", metavar="ID")
@json_option
def explain_job(job_id: str, as_json: bool) -> None:
    """Explain a job: its publisher, what it waits for, its attempts and follow-ups."""
    with session.opened():
        with db.transaction(None, role=Role.RELAY) as conn:
            row = cancellation.found(conn, job_id)
        history = job_history.read(row)
    if as_json:
        print_json(job_history.document(history))
    else:
        jobs_why.render(history)


@jobs.command("cancel")
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--queue", type=QUEUE, help="All unfinished jobs of this queue.")
@click.option("--job", type=JOB, help="Only this kind of job.")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant.")
@click.option("--batch", "batch_id", metavar="ID", help="Only jobs of this batch.")
@click.option("--dry-run", is_flag=True, help="Only print how many jobs match.")
@json_option
def cancel_jobs(
    job_id: str | None,
    slug: str | None,
    dry_run: bool,
    as_json: bool,
    **filters: Any,  # noqa: ANN401
) -> None:
    """Cancel an unfinished job, or all that match. A running attempt cannot commit any more.

    Jobs must match all filters; jobs published meanwhile are not cancelled.
    """
    words = {name: value for name, value in {"tenant": slug, **filters}.items() if value}
    if (job_id is None) == (not words):
        raise click.UsageError("Give either an ID or filters: --queue, --job, --tenant, --batch.")
    with session.opened():
        if job_id is not None:
            _cancel_one(job_id, dry_run=dry_run, as_json=as_json)
            return
        tenant_id = None if slug is None else session.tenant_named(slug)
        ids = cancellation.matching(UnfinishedFilters(tenant_id=tenant_id, **filters))
        cancelled = 0 if dry_run else cancellation.cancel(ids, words)
    if as_json:
        print_json({"matched": len(ids), "cancelled": cancelled})
    else:
        click.echo(f"{len(ids):,} jobs match, {cancelled:,} cancelled.")


def _cancel_one(job_id: str, *, dry_run: bool, as_json: bool) -> None:
    with db.transaction(None, role=Role.RELAY) as conn:
        done = cancellation.cancel_one(conn, job_id, None, dry_run=dry_run)
    if as_json:
        print_json(as_document(done))
    elif dry_run:
        click.echo(f"Would cancel the job: it is {done.was}.")
    else:
        ran = done.was == "RUNNING"
        click.echo(
            f"Cancelled{' while running: the attempt cannot commit any more' if ran else ''}."
        )
