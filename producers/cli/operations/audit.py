"""The `audit` commands: the audit log."""

import json
import sys
from contextlib import closing
from datetime import datetime
from typing import IO

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table, say
from producers.cli.terminal.progress import progress
from producers.cli.terminal.values import MOMENT
from producers.json_rows import as_document
from producers.operations import audit_keys, audit_log
from producers.operations.audit_export import Period
from producers.operations.audit_verification import Verification
from shared import db
from shared.db import Role
from shared.errors import UsageError
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import ActFilters
from shared.settings import settings


@click.group()
def audit() -> None:
    """Read, verify and export the audit log (append-only, sealed by hashes)."""


@audit.command("tail")
@click.option("--tenant", "slug", metavar="SLUG", help="Entries of this tenant.")
@click.option("--system", is_flag=True, help="Entries without a tenant, such as of queues.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Maximum rows."
)
@json_option
def tail_audit(slug: str | None, system: bool, limit: int, as_json: bool) -> None:
    """List the latest entries, newest last."""
    if (slug is None) != system:
        raise click.UsageError("Give either --tenant SLUG or --system.")
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        with db.transaction(None, role=Role.AUDIT_READER) as conn:
            rows = audit_logs.select_latest(conn, ActFilters(tenant_id), limit=limit)
    documents = [as_document(row) for row in reversed(rows)]
    if as_json:
        print_json(documents)
    else:
        columns = ("createdAt", "actor", "action", "resource", "resourceId", "what")
        print_table(columns, [[document[name] for name in columns] for document in documents])


@audit.command("verify")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant's entries.")
@click.option("--system", is_flag=True, help="Only entries without a tenant.")
@click.option(
    "--against",
    type=click.File("rb"),
    metavar="FILE",
    help="Checkpoints that were kept outside the database; - reads stdin.",
)
@json_option
def verify_audit(slug: str | None, system: bool, against: IO[bytes] | None, as_json: bool) -> None:
    """Compare all entries with their seals and the signed checkpoints.

    Without --against this finds what was changed without the signing key. With checkpoints that a
    superuser of the database cannot reach, it finds also what was removed with its seals, and an
    older state that was put back.
    """
    with session.opened():
        chain = _chain(slug, system)
        with progress(audit_log.count_entries(chain), "Verifying") as advance:
            found = audit_log.verify_audit(
                settings(),
                chain,
                against=against,
                where="" if against is None else against.name,
                advance=advance,
            )
    if as_json:
        print_json(audit_log.as_result(found))
    else:
        _print(found)
    sys.exit(0 if found.ok else 1)


@audit.command("checkpoints")
@click.option("--after", type=click.IntRange(0), default=0, help="Only those after this number.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Maximum rows."
)
@click.option(
    "--lines", "as_lines", is_flag=True, help="As they are kept outside, for `verify --against`."
)
@json_option
def list_checkpoints(after: int, limit: int, as_lines: bool, as_json: bool) -> None:
    """List signed checkpoints, oldest first."""
    with session.opened():
        rows = audit_log.list_checkpoints(after=after, limit=limit)
        if as_lines:
            for line in audit_log.kept_lines(rows):
                click.echo(line, nl=False)
            return
    bodies = [json.loads(row.body) for row in rows]
    if as_json:
        print_json(bodies)
    else:
        columns = ("number", "at", "chains", "root")
        print_table(columns, [[body[name] for name in columns] for body in bodies])


@audit.command("export")
@click.option("--tenant", "slug", metavar="SLUG", help="Entries of this tenant.")
@click.option("--system", is_flag=True, help="Entries without a tenant.")
@click.option("--all", "everything", is_flag=True, help="Entries of all.")
@click.option("--since", type=MOMENT, help="Sealed from this time on: 30d, 2026-11-01.")
@click.option("--until", type=MOMENT, help="Sealed before this time.")
@click.option(
    "--output", type=click.File("wb", lazy=True), default="-", help="File to write; - is stdout."
)
@json_option
def export_audit(
    slug: str | None,
    system: bool,
    everything: bool,
    output: IO[bytes],
    as_json: bool,
    **sealed: datetime | None,
) -> None:
    """Write entries as signed JSON lines, which `audit verifier` checks without this project."""
    if everything and (system or slug is not None):
        raise UsageError("--all excludes --tenant and --system.")
    if not (everything or system or slug is not None):
        raise UsageError("Give --tenant SLUG, --system or --all.")
    if as_json and output.name == "-":
        raise UsageError("--json needs --output FILE: the export itself goes to stdout.")
    with session.opened():
        chain = _chain(slug, system)
        tenant_id = None if slug is None else session.tenant_named(slug)
        chains = None if chain is None else [chain]
        count = 0
        lines = audit_log.export_audit(settings(), tenant_id, chains, Period(**sealed))
        with closing(lines):
            for line in lines:
                output.write(line)
                count += 1
        key = audit_keys.audit_keys(settings()).trusted[0]
    if as_json:
        print_json({"file": output.name, "lines": count, "key": key})
    else:
        say(f"{count} lines written, signed by {key}.")


@audit.command("key")
@json_option
def show_key(as_json: bool) -> None:
    """Show the public keys whose checkpoints are trusted; the first one signs."""
    with session.opened():
        trusted = audit_keys.audit_keys(settings()).trusted
    if as_json:
        print_json({"signing": trusted[0], "trusted": list(trusted)})
    else:
        print_fields({"signing": trusted[0], "trusted": ", ".join(trusted)})


@audit.command("verifier")
@json_option
def print_verifier(as_json: bool) -> None:
    """Print the stand-alone verifier of exports: one file, for Python with `cryptography`."""
    source = audit_log.VERIFIER.read_text()
    if as_json:
        print_json({"file": audit_log.VERIFIER.name, "source": source})
    else:
        click.echo(source, nl=False)


def _chain(slug: str | None, system: bool) -> str | None:
    if slug is not None and system:
        raise UsageError("--tenant and --system exclude each other.")
    if system:
        return audit_log.SYSTEM
    return None if slug is None else session.tenant_named(slug)


def _print(found: Verification) -> None:
    for fault in found.faults:
        say(fault.sentence)
    if found.late:
        say(
            f"{found.late} entries were sealed more than an hour after their time: a transaction "
            "was open for long, no scheduler was running, or the time was set by hand."
        )
    print_fields(
        {
            "ok": "yes" if found.ok else "no",
            "entries": found.entries,
            "checkpoints": found.checkpoints,
            "pending": found.pending,
        }
    )
