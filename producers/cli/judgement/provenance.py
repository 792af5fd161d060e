"""The `provenance` commands."""

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json
from producers.cli.terminal.values import tenant_option
from producers.json_rows import as_document
from producers.judgement import provenance as verifying
from shared import db
from shared.ids import MessageId
from shared.servers import embedded
from shared.settings import settings


@click.group()
def provenance() -> None:
    """Show and verify the provenance of answers."""


@provenance.command("verify")
@click.argument("message_id", metavar="MESSAGE")
@tenant_option
@json_option
@click.pass_context
def verify_message(ctx: click.Context, message_id: str, slug: str, as_json: bool) -> None:
    """List everything altered since an answer was recorded. Exits 1 if anything was."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        key = embedded.signing_key(settings())
        with db.transaction(tenant_id) as conn:
            report = verifying.verify(conn, key, MessageId(message_id))
    if as_json:
        findings = [as_document(one) for one in report.findings]
        print_json({"id": message_id, "ok": report.ok, "findings": findings})
    elif report.ok:
        click.echo("Answer, question, model, parameters and citations are as they were recorded.")
    for finding in () if as_json else report.findings:
        click.echo(f"{finding.what}: {finding.detail}.")
    ctx.exit(0 if report.ok else 1)


@provenance.command("show")
@click.argument("message_id", metavar="MESSAGE")
@tenant_option
@json_option
def show_record(message_id: str, slug: str, as_json: bool) -> None:
    """Show the provenance record: model, hashes, citations and watermark."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            row = verifying.found(conn, MessageId(message_id), slug)
    (print_json if as_json else print_fields)(as_document(row))
