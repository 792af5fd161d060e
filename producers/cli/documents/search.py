"""The `search` command: hybrid search over a tenant's documents."""

import json
from typing import IO, Any, get_args

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json
from producers.cli.terminal.values import tenant_option
from producers.documents.searching import SearchMode, find
from producers.json_rows import as_document
from shared.errors import UsageError
from shared.ids import TenantId

EXCERPT_CHARS = 300


@click.command()
@click.argument("query", required=False)
@tenant_option
@click.option(
    "-k",
    "count",
    type=click.IntRange(1, 1_000),
    default=10,
    show_default=True,
    help="Maximum results.",
)
@click.option(
    "--mode",
    type=click.Choice(get_args(SearchMode)),
    default="hybrid",
    show_default=True,
    help="Search mode.",
)
@click.option(
    "--batch",
    type=click.File(encoding="utf-8"),
    help='File of queries, one JSON object per line: {"id", "text"}.',
)
@json_option
def search(
    query: str | None,
    slug: str,
    count: int,
    mode: SearchMode,
    batch: IO[str] | None,
    as_json: bool,
) -> None:
    """Search a tenant's documents; each hit gives its chunk and offsets.

    --batch evaluates retrieval and always prints JSON.
    """
    if (query is None) == (batch is None):
        raise click.UsageError("Give either a query or --batch FILE.")
    queries = [] if batch is None else _read(batch)
    with session.opened():
        tenant_id = session.tenant_named(slug)
        if query is not None:
            answer: list[dict[str, Any]] = _hits(tenant_id, query, count, mode)
        else:
            answer = [
                {"id": one["id"], "hits": _hits(tenant_id, one["text"], count, mode)}
                for one in queries
            ]
    if as_json or batch is not None:
        print_json(answer)
        return
    for place, hit in enumerate(answer, 1):
        where = f"{hit['source'] or hit['documentId']} [{hit['start']}:{hit['end']}]"
        click.echo(f"{place}. {hit['title']}  {hit['score']:.3f}\n   {where}")
        click.echo(f"   {' '.join(hit['content'].split())[:EXCERPT_CHARS]}\n")
    if not answer:
        click.echo("Nothing found.")


def _hits(tenant_id: TenantId, text: str, count: int, mode: SearchMode) -> list[dict[str, Any]]:
    return [as_document(hit) for hit in find(tenant_id, text, k=count, mode=mode)]


def _read(batch: IO[str]) -> list[dict[str, str]]:
    found = []
    for number, line in enumerate(batch, 1):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
            found.append({"id": one["id"], "text": str(one["text"])})
        except (ValueError, TypeError, KeyError):
            raise UsageError(
                f'{batch.name}, line {number}: must be a JSON object with "id" and "text".'
            ) from None
    return found
