"""The `limits` commands: concurrency and rate limits."""

from typing import Any

import click

from producers.cli.accounts.tenants import TIER
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, print_table
from producers.cli.terminal.values import JOB, RATE
from producers.ledger import limits as ledger
from producers.queries.ledger.job_limits import Limit
from shared import db
from shared.db import Role


@click.group()
def limits() -> None:
    """Manage concurrency and rate limits of tenants, tiers, kinds of jobs and limit keys."""


@limits.command("set")
@click.option("--tenant", "slug", metavar="SLUG", help="Limit this tenant (overrides its tier).")
@click.option(
    "--tier", type=TIER, help="Limit each tenant of this tier that has no limit of its own."
)
@click.option("--job", type=JOB, help="Limit this kind of job. Default: all kinds together.")
@click.option(
    "--per-key",
    is_flag=True,
    help="Limit each limit key separately; jobs without a key are not limited.",
)
@click.option("--concurrency", type=click.IntRange(1, 2**31 - 1), help="Maximum jobs in flight.")
@click.option("--rate", type=RATE, metavar="N/s", help="Maximum average start rate.")
@click.option(
    "--burst",
    type=click.FloatRange(1, 1e9),
    default=1.0,
    help="Maximum burst after an idle period.",
)
@click.option("--by-cost", is_flag=True, help="Apply the rate to the cost of jobs, such as tokens.")
@json_option
def set_limit(as_json: bool, slug: str | None, **options: Any) -> None:  # noqa: ANN401
    """Set a limit, replacing an existing one with the same scope.

    It applies to all processes within a second. A job is in flight from its wake-up to its end;
    each attempt counts as one start.
    """
    if slug is not None and options["tier"] is not None:
        raise click.UsageError("Give --tenant or --tier, not both.")
    if slug is None and options["tier"] is None and options["job"] is None:
        raise click.UsageError("Give a scope: --tenant, --tier or --job; see --help.")
    if options["concurrency"] is None and options["rate"] is None:
        raise click.UsageError("Give --concurrency N, --rate N/s or both.")
    with session.opened():
        limit = Limit(
            id="",
            tenant_id=None if slug is None else session.tenant_named(slug),
            tier=options["tier"],
            job=options["job"],
            per_key=options["per_key"],
            concurrency_max=options["concurrency"],
            rate_per_s=options["rate"],
            burst=options["burst"],
            unit="cost" if options["by_cost"] else "jobs",
        )
        with db.transaction(None, role=Role.RELAY) as conn:
            document = ledger.document(conn, ledger.put(conn, limit))
    if as_json:
        print_json(document)
    else:
        _print([document])


@limits.command("list")
@json_option
def list_limits(as_json: bool) -> None:
    """List all limits; a tenant's own limit overrides its tier's."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        documents = [ledger.document(conn, limit) for limit in ledger.of_tenant(conn, None)]
    if as_json:
        print_json(documents)
    else:
        _print(documents)


@limits.command("delete")
@click.argument("limit_id", metavar="ID")
@json_option
def delete_limit(limit_id: str, as_json: bool) -> None:
    """Delete a limit."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        ledger.delete(conn, limit_id)
    if as_json:
        print_json({"id": limit_id, "deleted": True})
    else:
        click.echo("The limit is deleted.")


def _print(documents: list[dict[str, Any]]) -> None:
    columns = ("id", "tenant", "tier", "job", "per key", "at once", "per s", "burst", "unit")
    print_table(columns, [list(document.values()) for document in documents])
