"""The `publishers` commands: who may publish what at the Redis door."""

import re
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import JOB
from producers.errors import PublisherNotFound
from producers.json_rows import as_document
from producers.ledger import publishers as rights
from producers.ledger.ingress_streams import stream_of
from producers.queries.ledger import publishers as queries
from producers.queries.ledger.publishers import PublisherRow
from shared import db
from shared.contracts import CONTRACTS
from shared.db import Connection, Role
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import AuditEntry
from shared.settings import settings

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("use 1-31 small letters, digits and hyphens, a letter first.")
    return value


_name_argument = click.argument("name", callback=_name)


@click.group()
def publishers() -> None:
    """Manage who may publish what by Redis.

    The publisher NAME writes to the stream ailydian:publish:NAME and reads its replies at
    ailydian:replies:NAME:KEY. The publisher `default` writes to ailydian:publish; until it is put,
    it may publish every open job for every tenant.
    """


@publishers.command("put")
@_name_argument
@click.option("--tenant", "slugs", multiple=True, metavar="SLUG", help="Tenant; may be repeated.")
@click.option("--job", "jobs", multiple=True, type=JOB, help="Kind of job; may be repeated.")
@click.option("--all-tenants", is_flag=True, help="All tenants, later ones too.")
@click.option("--all-jobs", is_flag=True, help="All jobs that are open to publishers.")
@click.option("--nothing", is_flag=True, help="No tenant and no job: close its stream.")
@json_option
def put_publisher(name: str, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Create a publisher, or replace what it may publish. It applies within seconds."""
    slugs, jobs = given["slugs"], given["jobs"]
    if given["nothing"] and (slugs or jobs or given["all_tenants"] or given["all_jobs"]):
        raise click.UsageError("Give --nothing alone.")
    if not given["nothing"] and (bool(slugs) == given["all_tenants"]):
        raise click.UsageError("Give --tenant SLUG or --all-tenants.")
    if not given["nothing"] and (bool(jobs) == given["all_jobs"]):
        raise click.UsageError("Give --job NAME or --all-jobs.")
    closed = [job for job in jobs if CONTRACTS[job].audience != "anyone"]
    if closed:
        raise click.UsageError(f"Not open to publishers: {', '.join(closed)}.")
    with session.opened():
        tenant_ids = sorted({session.tenant_named(slug) for slug in slugs})
        with db.transaction(None, role=Role.RELAY) as conn:
            queries.put(
                conn,
                name,
                tenant_ids=None if given["all_tenants"] else tenant_ids,
                jobs=None if given["all_jobs"] else sorted(set(jobs)),
                set_by=session.actor(),
            )
            document = _described(_found(conn, name))
            _note(conn, "publisher.put", name, document)
    _print(document, as_json)


@publishers.command("list")
@json_option
def list_publishers(as_json: bool) -> None:
    """List publishers and what they may publish; `*` is all."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        rows = queries.select_publishers(conn, limit=rights.PUBLISHERS_MAX)
    documents = [_described(row) for row in rows]
    if as_json:
        print_json(documents)
        return
    columns = ("name", "stream", "tenants", "jobs", "setBy", "setAt")
    print_table(columns, [[_cell(one[column]) for column in columns] for one in documents])


@publishers.command("show")
@_name_argument
@json_option
def show_publisher(name: str, as_json: bool) -> None:
    """Show a publisher, and the rules of its user of Redis."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        document = _described(_found(conn, name))
    _print(document, as_json)


@publishers.command("remove")
@_name_argument
@json_option
def remove_publisher(name: str, as_json: bool) -> None:
    """Remove a publisher: its stream is not read any more.

    Without its row `default` may publish every open job for every tenant; to close it, put it with
    --nothing.
    """
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        document = _described(_found(conn, name))
        queries.remove(conn, name)
        _note(conn, "publisher.remove", name, document)
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        click.echo("The publisher is removed.")


def _found(conn: Connection, name: str) -> PublisherRow:
    rows = queries.select_publishers(conn, name=name, limit=1)
    if not rows:
        raise PublisherNotFound(
            f"No publisher has the name {name!r}: see `ailydian publishers list`."
        )
    return rows[0]


def _described(row: PublisherRow) -> dict[str, Any]:
    stream = stream_of(settings().redis_namespace, row.name)
    document = as_document(row)
    del document["tenantIds"]
    return {
        "name": document.pop("name"),
        "stream": stream.key,
        "replies": f"{stream.reply.decode()}KEY",
        **document,
        "acl": f"-@all (+xadd ~{stream.key}) (+blpop +lpop ~{stream.reply.decode()}*)",
    }


def _note(conn: Connection, action: str, name: str, document: dict[str, Any]) -> None:
    what = {"tenants": document["tenants"], "jobs": document["jobs"]}
    act = AuditEntry(None, session.actor(), action, "Publisher", name, what)
    audit_logs.insert_acts(conn, [act])


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print_fields({name: _cell(value) for name, value in document.items()})


def _cell(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "*" if value is None else value
