"""The `batches` commands: jobs published together, with progress and a follow-up job."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import click

from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import (
    DURATION,
    JOB,
    JSON_OBJECT,
    contract_for_operators,
    json_object,
    tenant_option,
)
from producers.cli.terminal.waiting import follow
from producers.json_rows import as_document
from producers.ledger import batches as publishing
from producers.queries.ledger import batches as ledger
from producers.queries.ledger.batches import BatchRow
from shared import db
from shared.contracts import Contract
from shared.db import Role
from shared.errors import UsageError
from shared.ids import TenantId

PAGE = 1_000
LOOK_S = 0.5
Advance = Callable[[int, int], None]


@click.group()
def batches() -> None:
    """Publish jobs as a batch and track its progress."""


@batches.command("list")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant.")
@click.option("--unfinished", is_flag=True, help="Only unfinished batches.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_batches(slug: str | None, unfinished: bool, limit: int, as_json: bool) -> None:
    """List batches, newest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = ledger.select_batches(conn, tenant_id, unfinished=unfinished, limit=limit)
    documents = [as_document(row) for row in rows]
    if as_json:
        print_json(documents)
        return
    counters = ("total", "completed", "dead", "cancelled", "waiting")
    columns = ("id", "tenant", "name", "state", *counters, "createdAt")
    print_table(columns, [[document[name] for name in columns] for document in documents])


@batches.command("show")
@click.argument("batch_id", metavar="ID")
@click.option("--watch", is_flag=True, help="Wait until it has finished.")
@json_option
def show_batch(batch_id: str, watch: bool, as_json: bool) -> None:
    """Show a batch and its progress (as of the last second)."""
    with session.opened():
        row = _watched(batch_id, lambda: None) if watch else _read(batch_id)
    _print(row, as_json)


@batches.command("publish")
@click.argument("file", metavar="FILE.jsonl|-")
@tenant_option
@click.option("--job", type=JOB, required=True, help="Kind of job.")
@click.option("--name", required=True, help="Display name.")
@click.option(
    "--then", type=JOB, help="Job to publish when all jobs have ended, failed ones included."
)
@click.option(
    "--then-payload",
    type=JSON_OBJECT,
    metavar="JSON|@FILE",
    default="{}",
    help="Payload of the follow-up job.",
)
@click.option(
    "--id", "batch_id", help="Batch id of your choice; repeating it resumes an interrupted batch."
)
@click.option(
    "--delay",
    "delay_s",
    type=DURATION,
    default="0s",
    help="Delay before the jobs are due, such as 30s.",
)
@click.option(
    "--priority", type=click.IntRange(-9, 9), default=0, help="Priority; higher goes first."
)
@click.option(
    "--wait", is_flag=True, help="Wait until finished; exit 1 unless all jobs are COMPLETED."
)
@json_option
@click.pass_context
def publish_batch(
    ctx: click.Context,
    /,
    file: str,
    slug: str,
    wait: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Publish one job per line of FILE as a batch.

    All lines are validated before the first job is published. Jobs are accepted a thousand at a
    time, then the batch is sealed.
    """
    contract = contract_for_operators(options["job"])
    jobs = list(_read_jobs(contract, file))
    with session.opened() as servers:
        tenant_id = session.tenant_named(slug)
        if wait:
            with someone_works(servers, _queues(contract, options)) as check:
                batch_id, duplicates = _publish(tenant_id, jobs, options)
                row = _watched(batch_id, check)
                for _ in follow([row.then_id] if row.then_id else [], check, alone=True):
                    pass
        else:
            batch_id, duplicates = _publish(tenant_id, jobs, options)
            row = _read(batch_id)
    _print(row, as_json, duplicates=duplicates)
    ctx.exit(1 if wait and row.completed < row.total else 0)


def _queues(contract: type[Contract], options: dict[str, Any]) -> list[str]:
    then = options["then"]
    queues = {contract.queue_name} | ({contract_for_operators(then).queue_name} if then else set())
    return sorted(queues)


def _read_jobs(contract: type[Contract], file: str) -> Iterator[Contract]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield contract.from_payload(json_object(line), contract.schema_version)
            except (UsageError, ValueError) as error:
                raise UsageError(f"{file}, line {number}: {str(error).rstrip('.')}.") from None


def _publish(
    tenant_id: TenantId, jobs: Sequence[Contract], options: dict[str, Any]
) -> tuple[str, int]:
    """Publish page by page. Returns the batch's id and the number of duplicates."""
    then = None
    if options["then"]:
        follow_up = contract_for_operators(options["then"])
        then = follow_up.from_payload(options["then_payload"], follow_up.schema_version)
    with db.transaction(tenant_id) as conn:
        opened = publishing.open_batch(
            conn, name=options["name"], then=then, batch_id=options["batch_id"]
        )
    batch_id = opened or options["batch_id"]
    if opened is None and _read(batch_id).sealed_at is not None:
        return batch_id, len(jobs)
    duplicates = 0
    with _progress("Publishing") as advance:
        for page in _pages(jobs):
            with db.transaction(tenant_id) as conn:
                published = publishing.add(
                    conn,
                    batch_id,
                    page,
                    delay_s=options["delay_s"],
                    priority=options["priority"],
                )
            duplicates += sum(one.duplicate for one in published)
            advance(len(page), len(jobs))
    with db.transaction(tenant_id) as conn:
        publishing.seal(conn, batch_id)
    return batch_id, duplicates


def _pages(jobs: Iterable[Contract]) -> Iterator[list[Contract]]:
    rest = iter(jobs)
    while page := list(islice(rest, PAGE)):
        yield page


def _read(batch_id: str) -> BatchRow:
    with db.transaction(None, role=Role.RELAY) as conn:
        return publishing.found(conn, batch_id)


def _watched(batch_id: str, check: Callable[[], None]) -> BatchRow:
    seen = 0
    with _progress("Working") as advance:
        while True:
            row = _read(batch_id)
            ended = row.total - row.waiting
            advance(ended - seen, row.total)
            seen = ended
            if row.finished_at is not None:
                return row
            check()
            time.sleep(LOOK_S)


@contextmanager
def _progress(title: str) -> Iterator[Advance]:
    """Show a progress bar on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415

    from producers.cli.terminal import drawing  # noqa: PLC0415 - as rich

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=drawing.console(sys.stderr), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda count, total: bar.update(task, advance=count, total=total)


def _print(row: BatchRow, as_json: bool, **more: object) -> None:
    document = as_document(row) | more
    if as_json:
        print_json(document)
    else:
        print_fields(document)
