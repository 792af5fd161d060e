"""The `explain` command."""

from typing import Any, Final

import click

from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json
from producers.cli.terminal.values import tenant_option
from producers.cli.terminal.waiting import ENDED, follow
from producers.errors import ExplanationFailed
from producers.json_rows import as_document
from producers.judgement import explanations as asking
from shared import db
from shared.ids import JobId
from shared.queries.judgement import explanations
from shared.queries.judgement.explanations import KINDS

BAR_CHARS: Final = 24


@click.command()
@click.argument("subject_id", metavar="ID")
@tenant_option
@click.option("--subject", "kind", type=click.Choice(KINDS), help="Only this score.")
@json_option
def explain(subject_id: str, slug: str, kind: str | None, as_json: bool) -> None:
    """Explain scores by the Shapley values of their factors.

    ID is a message, a document, a verdict, a user (id or e-mail), or a route as MODEL/INTENT.
    The base value plus the contributions of all factors equals the score.
    """
    with session.opened() as servers:
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            jobs = asking.explain(conn, subject_id, KINDS if kind is None else (kind,))
        outcomes: dict[JobId, dict[str, Any]] = {}
        # A stored explanation needs no worker.
        queues = [] if all(one.state in ENDED for one in jobs.values()) else ["scoring"]
        with someone_works(servers, queues) as check:
            for job_id, family in follow([one.id for one in jobs.values()], check):
                if family[0].state != "COMPLETED":
                    raise ExplanationFailed(f"{family[0].error or family[0].state}")
                outcomes[job_id] = family[0].outcome or {}
        with db.transaction(tenant_id) as conn:
            rows = [
                explanations.select(conn, outcomes[one.id]["explanationId"])
                for one in jobs.values()
            ]
    documents = [as_document(row) for row in rows if row is not None]
    if as_json:
        print_json(documents)
        return
    for document in documents:
        _show(document)


def _show(document: dict[str, Any]) -> None:
    importance = document["importance"]
    click.echo(f"{document['subject']}  {importance['score']:.4f}  ({document['method']})")
    _bars(importance)
    if sentences := importance.get("sentences"):
        click.echo(f"its sentences, by words alone and uncalibrated  {sentences['score']:.4f}")
        _bars(sentences)


def _bars(importance: dict[str, Any]) -> None:
    values = sorted(importance["values"].items(), key=lambda pair: -abs(pair[1]))
    most = max((abs(value) for _, value in values), default=0.0) or 1.0
    width = max((len(name) for name, _ in values), default=4)
    click.echo(f"  {'base'.ljust(width)}  {importance['base']:+.4f}")
    for name, value in values:
        bar = ("+" if value >= 0 else "-") * round(BAR_CHARS * abs(value) / most)
        click.echo(f"  {name.ljust(width)}  {value:+.4f}  {bar}".rstrip())
    click.echo()
