"""The `jobs` commands: list, show, why, cancel."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import click

from producers.cli.ledger import jobs_why
from producers.cli.terminal import session
from producers.cli.terminal.failures import JobNotFound, NothingToCancel
from producers.cli.terminal.output import (
    as_document,
    json_option,
    print_fields,
    print_json,
    print_table,
)
from producers.cli.terminal.values import JOB, MOMENT, QUEUE
from producers.queries.ledger import job_history
from producers.queries.ledger import jobs as ledger
from producers.queries.ledger.job_history import Scope
from producers.queries.ledger.jobs import CancelledJob, JobRow
from shared import db
from shared.db import Connection, Role
from shared.ids import JobId, TenantId
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry

STATES = ("PENDING", "QUEUED", "RUNNING", "COMPLETED", "DEAD", "CANCELLED")
PAGE = 1_000
CANCEL_MAX = 1_000_000


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
        document = as_document(_found(conn, job_id))
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
            row = _found(conn, job_id)
        history = jobs_why.read(row)
    if as_json:
        print_json(jobs_why.document(history))
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
        with db.transaction(None, role=Role.RELAY) as conn:
            ids = job_history.select_unended(
                conn, Scope(tenant_id=tenant_id, **filters), limit=CANCEL_MAX
            )
        cancelled = 0 if dry_run else _cancel_pages(ids, words)
    if as_json:
        print_json({"matched": len(ids), "cancelled": cancelled})
    else:
        click.echo(f"{len(ids):,} jobs match, {cancelled:,} cancelled.")


def _cancel_one(job_id: str, *, dry_run: bool, as_json: bool) -> None:
    with db.transaction(None, role=Role.RELAY) as conn:
        row = _found(conn, job_id)
        if dry_run:
            ended = row.state in {"COMPLETED", "DEAD", "CANCELLED"}
            cancelled, was = [], None if ended else row.state
        else:
            cancelled = ledger.cancel_all(conn, [row.id])
            was = cancelled[0].was if cancelled else None
        _note(conn, cancelled, {})
        if was is None:
            ended_as = _found(conn, job_id).state
            raise NothingToCancel(f"The job {job_id} is {ended_as}: nothing to cancel.")
    if as_json:
        state = row.state if dry_run else "CANCELLED"
        print_json({"id": row.id, "state": state, "was": was})
    elif dry_run:
        click.echo(f"Would cancel the job: it is {was}.")
    else:
        ran = was == "RUNNING"
        click.echo(
            f"Cancelled{' while running: the attempt cannot commit any more' if ran else ''}."
        )


def _cancel_pages(ids: Sequence[JobId], words: dict[str, Any]) -> int:
    """Cancel a page in one transaction, to hold locks only briefly. Returns how many."""
    count = 0
    in_order = sorted(ids)
    for start in range(0, len(in_order), PAGE):
        with db.transaction(None, role=Role.RELAY) as conn:
            cancelled = ledger.cancel_all(conn, in_order[start : start + PAGE])
            _note(conn, cancelled, words)
        count += len(cancelled)
    return count


def _note(conn: Connection, cancelled: Sequence[CancelledJob], words: dict[str, Any]) -> None:
    """Write one audit entry per tenant for cancelled jobs."""
    of: dict[TenantId, list[JobId]] = defaultdict(list)
    for one in cancelled:
        of[one.tenant_id].append(one.id)
    acts = []
    for tenant_id, ids in of.items():
        what = {"count": len(ids), "jobs": ids} | ({"filters": words} if words else {})
        one_id = ids[0] if len(ids) == 1 else None
        acts.append(AuditEntry(tenant_id, session.actor(), "jobs.cancel", "Job", one_id, what))
    if acts:
        audit.write(conn, acts)


def _found(conn: Connection, job_id: str) -> JobRow:
    rows = ledger.select_by_ids(conn, [JobId(job_id)])
    if not rows:
        raise JobNotFound(f"No job has the id {job_id!r}: see `ailydian jobs list`.")
    return rows[0]
