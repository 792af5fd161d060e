"""`jobs`: list, show, why, cancel."""

from datetime import UTC, datetime
from typing import Any

import click

from producers.cli import session
from producers.cli.failures import JobNotFound, NothingToCancel
from producers.cli.output import as_document, json_option, print_fields, print_json, print_table
from producers.cli.values import JOB, MOMENT, QUEUE
from shared import db
from shared.db import Connection, Role
from shared.ids import JobId
from shared.queries import dead_letters
from shared.queries import jobs as ledger
from shared.queries.jobs import JobRow

STATES = ("PENDING", "QUEUED", "RUNNING", "COMPLETED", "DEAD", "CANCELLED")
CHILDREN_MAX = 1_000


@click.group()
def jobs() -> None:
    """List, show, explain and cancel jobs.

    States: PENDING (in the outbox), QUEUED (woken up), RUNNING, COMPLETED, DEAD, CANCELLED.
    """


@jobs.command("list")
@click.option("--queue", type=QUEUE)
@click.option("--job", type=JOB)
@click.option("--state", type=click.Choice(STATES, case_sensitive=False))
@click.option("--tenant", "slug", metavar="SLUG")
@click.option("--since", type=MOMENT, help="A time, or an age such as 2h.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@json_option
def list_jobs(slug: str | None, limit: int, as_json: bool, **filters: Any) -> None:  # noqa: ANN401
    """Jobs, newest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        wanted = ledger.Filters(tenant_id=tenant_id, **filters)
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
    """One job, whole."""
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
    """The whole life of a job: who published it, what it waits for, how its attempts ended."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        row = _found(conn, job_id)
        attempts = ledger.select_attempts(conn, row.id)
        children = ledger.select_by_ids(
            conn, ledger.select_children(conn, row.id, limit=CHILDREN_MAX)
        )
        parents = ledger.select_by_ids(conn, [row.parent_id] if row.parent_id else [])
        letters = dead_letters.select_dead(conn, dead_letters.Filters(), ids=[row.id], limit=1)
        waits = _waits(conn, row)
    life = {
        "job": as_document(row),
        "waits": waits,
        "parent": as_document(parents[0]) if parents else None,
        "attempts": [as_document(attempt) for attempt in attempts],
        "deadLetter": as_document(letters[0]) if letters else None,
        "children": [as_document(child) for child in children],
    }
    if as_json:
        print_json(life)
    else:
        _tell(life)


@jobs.command("cancel")
@click.argument("job_id", metavar="ID")
@json_option
def cancel_job(job_id: str, as_json: bool) -> None:
    """Cancel a job that has not ended. One that runs may go on, but nothing of it is kept."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        row = _found(conn, job_id)
        was = ledger.cancel(conn, row.id)
        if was is None:
            ended = _found(conn, job_id).state
            raise NothingToCancel(f"The job {job_id} is {ended}: there is nothing to cancel.")
    if as_json:
        print_json({"id": row.id, "state": "CANCELLED", "was": was})
    else:
        ran = was == "RUNNING"
        click.echo(f"Cancelled{' while it ran: it can commit nothing any more' if ran else ''}.")


def _found(conn: Connection, job_id: str) -> JobRow:
    rows = ledger.select_by_ids(conn, [JobId(job_id)])
    if not rows:
        raise JobNotFound(f"No job has the id {job_id!r}: `ailydian jobs list` shows those there.")
    return rows[0]


def _waits(conn: Connection, row: JobRow) -> str | None:
    """What has to happen next, for a person; None when the job has ended well or for good."""
    if row.state in {"PENDING", "QUEUED"}:
        return _waits_for_its_turn(conn, row)
    if row.state == "RUNNING":
        return f"for the worker {row.worker}, which does attempt {row.attempt}"
    if row.state == "DEAD":
        return f"for an operator: `ailydian dead replay {row.id}`"
    return None


def _waits_for_its_turn(conn: Connection, row: JobRow) -> str:
    if row.due_at > datetime.now(UTC):
        return f"for {row.due_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({row.waiting_for})"
    queue = ledger.select_figures(conn, [row.queue], scan_bytes_max=0)[0]
    if queue.paused:
        return f"for an operator: `ailydian resume {row.queue}`"
    if not queue.workers:
        return f"for a worker: none serves the queue {row.queue}, see `ailydian work`"
    if row.state == "QUEUED":
        return f"for one of {queue.workers} worker processes to be free; it has been woken up"
    return f"for its turn among {queue.ready} ready jobs of the queue {row.queue}"


def _tell(life: dict[str, Any]) -> None:
    job = life["job"]
    print_fields({name: job[name] for name in ("id", "job", "queue", "tenant", "state", "payload")})
    parent = life["parent"]
    publisher = f"{parent['job']} {parent['id']}" if parent else "a producer"
    click.echo(f"\npublished {job['createdAt']:%Y-%m-%d %H:%M:%S} by {publisher}")
    for attempt in life["attempts"]:
        error = f"{attempt['errorType'] or ''} {attempt['error'] or ''}".strip()
        ended = f"{attempt['endedAt']:%Y-%m-%d %H:%M:%S}"
        click.echo(f"attempt {attempt['attempt']} {attempt['verdict']} {ended}: {error}")
    if job["finishedAt"]:
        click.echo(f"{job['state'].lower()} {job['finishedAt']:%Y-%m-%d %H:%M:%S}")
    if life["waits"]:
        click.echo(f"waits {life['waits']}")
    for child in life["children"]:
        click.echo(f"led to {child['job']} {child['id']}: {child['state']}")
