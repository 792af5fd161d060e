"""The `publish` command."""

from typing import Any

import click

from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import (
    error_line,
    json_option,
    print_fields,
    print_json,
    print_table,
)
from producers.cli.terminal.values import DURATION, JSON_OBJECT, contract_for_operators
from producers.cli.terminal.waiting import follow
from producers.queries.ledger import jobs
from shared import db
from shared.contracts import CONTRACTS, Contract
from shared.db import Role
from shared.ids import JobId, TenantId
from shared.ledger import outbox
from shared.ledger.outbox import Published
from shared.operations import audit
from shared.queries.ledger import attempts
from shared.servers.embedded import Servers


@click.command()
@click.argument("job", required=False)
@click.option("--tenant", "slug", metavar="SLUG", help="Tenant of the job.")
@click.option(
    "--payload",
    type=JSON_OBJECT,
    metavar="JSON|@FILE",
    default="{}",
    help="Payload as JSON, or @FILE.",
)
@click.option("--key", help="Idempotency key. Default: computed from the payload.")
@click.option(
    "--delay",
    "delay_s",
    type=DURATION,
    default="0s",
    help="Delay before the job is due, such as 30s.",
)
@click.option(
    "--priority", type=click.IntRange(-9, 9), default=0, help="Priority; higher goes first."
)
@click.option("--wait", is_flag=True, help="Wait until ended; exit 1 unless COMPLETED.")
@click.option(
    "--list", "listing", is_flag=True, help="List job names, queues and JSON Schemas instead."
)
@json_option
@click.pass_context
def publish(
    ctx: click.Context,
    /,
    job: str | None,
    listing: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Publish a job by name.

    Publishing the same job again creates no second job and reports "duplicate". With embedded
    servers and no running worker, --wait does the work itself.
    """
    if listing:
        _list(as_json)
        return
    if job is None or options["slug"] is None:
        raise click.UsageError("Give a job and --tenant, or --list to list the jobs.")
    contract = contract_for_operators(job)
    read = contract.from_payload(options["payload"], contract.schema_version)
    with session.opened() as servers:
        document = _publish(servers, read, options)
        shown = document if as_json else _shown(document)
    if as_json:
        print_json(document)
    else:
        print_fields(shown)
    ctx.exit(1 if options["wait"] and document["state"] != "COMPLETED" else 0)


def _publish(servers: Servers, job: Contract, options: dict[str, Any]) -> dict[str, Any]:
    tenant_id = session.tenant_named(options["slug"])
    if not options["wait"]:
        published = _accept(tenant_id, job, options)
        return _described(published)
    with someone_works(servers, [job.queue_name]) as check:
        published = _accept(tenant_id, job, options)
        for _ in follow([published.id], check, alone=True):
            pass
        return _described(published)


def _accept(tenant_id: TenantId, job: Contract, options: dict[str, Any]) -> Published:
    with db.transaction(tenant_id) as conn:
        published = outbox.publish(
            conn,
            job,
            key=options["key"],
            delay_s=options["delay_s"],
            priority=options["priority"],
        )
        if not published.duplicate:
            audit.note(conn, "job.publish", "Job", published.id, {"job": job.actor_name})
        return published


def _described(published: Published) -> dict[str, Any]:
    with db.transaction(None, role=Role.RELAY) as conn:
        row = jobs.select_by_ids(conn, [JobId(published.id)])[0]
    return {
        "id": row.id,
        "state": row.state,
        "duplicate": published.duplicate,
        "outcome": row.outcome,
        "error": row.error,
    }


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    """A job as text: its error with its class, as lists of dead letters have it."""
    if document["error"] is None:
        return document
    with db.transaction(None, role=Role.RELAY) as conn:
        history = attempts.select_history(conn, JobId(document["id"]))
    kind = history[-1].error_type if history else None
    return document | {"error": error_line(document | {"errorType": kind})}


def _list(as_json: bool) -> None:
    rows = [
        {
            "job": contract.actor_name,
            "queue": contract.queue_name,
            "schemaVersion": contract.schema_version,
            "attemptsMax": contract.attempts_max,
            "audience": contract.audience,
            "timeLimitSeconds": contract.time_limit_s,
            "description": contract.__doc__,
            "schema": contract.model_json_schema(),
        }
        for contract in CONTRACTS.values()
    ]
    if as_json:
        print_json(rows)
        return
    lines = []
    for row in rows:
        fields = row["schema"]["properties"]  # type: ignore[index]
        lines.append((row["job"], row["queue"], ", ".join(fields), row["description"]))
    print_table(("job", "queue", "fields", "does"), lines)
