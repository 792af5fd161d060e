"""The `training` commands: examples from ratings, for fine-tuning."""

import json
from typing import IO, Literal, get_args

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, print_table, say
from producers.cli.terminal.progress import progress
from producers.cli.terminal.values import TEXT, Between, tenant_option
from producers.json_rows import as_document
from producers.judgement import training as exporting
from producers.judgement.training import Format, Split
from shared import db
from shared.ids import TenantId
from shared.operations import audit


@click.group()
def training() -> None:
    """List and export training examples."""


@training.command("list")
@tenant_option
@click.option("--source", type=click.Choice(("feedback", "preference")), help="Only this kind.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_examples(slug: str, source: str | None, limit: int, as_json: bool) -> None:
    """List usable examples: nothing flagged, nothing from users who withdrew consent."""
    with session.opened():
        found = exporting.examples(session.tenant_named(slug), source)
        documents = [as_document(row) for _, row in zip(range(limit), found, strict=False)]
    if as_json:
        print_json(documents)
    else:
        columns = ("source", "rating", "prompt", "completion", "rejected")
        print_table(columns, [[one[name] for name in columns] for one in documents])


@training.command("export")
@tenant_option
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Format)),
    default="openai",
    show_default=True,
    help="openai: chats to imitate; dpo: preferred and rejected answers.",
)
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    default="all",
    show_default=True,
    help="Split to export.",
)
@click.option(
    "--holdout",
    type=Between(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of examples held out, chosen by a hash of the prompt.",
)
@click.option("--system", type=TEXT, help="System message of each chat.")
@click.option(
    "-o",
    "--output",
    type=click.File("w", encoding="utf-8"),
    default="-",
    help="Output file. Default: stdout.",
)
@json_option
def export_examples(
    slug: str, form: Format, split: Split, holdout: float, as_json: bool, **where: object
) -> None:
    """Export examples as JSON Lines in OpenAI's fine-tuning format. The export is audited.

    --json prints the count instead and needs -o.
    """
    output: IO[str] = where["output"]  # type: ignore[assignment]
    if as_json and output.name == "<stdout>":
        raise click.UsageError("--json needs -o FILE.")
    system = None if where["system"] is None else str(where["system"])
    with session.opened():
        tenant_id = session.tenant_named(slug)
        written = _write(tenant_id, output, form, (split, holdout), system)
        with db.transaction(tenant_id) as conn:
            what = {"format": form, "split": split, "holdout": holdout, "examples": written}
            audit.note(conn, "training.export", "TrainingExample", None, what)
    if as_json:
        print_json({"examples": written, "format": form, "split": split})
    else:
        say(f"Examples written: {written}.")


def _write(
    tenant_id: TenantId,
    output: IO[str],
    form: Literal["openai", "dpo"],
    part: tuple[str, float],
    system: str | None,
) -> int:
    split, holdout = part
    found = [
        example
        for example in exporting.examples(tenant_id, exporting.SOURCES[form])
        if split in {"all", exporting.split_of(example.prompt, holdout=holdout)}
    ]
    with progress(len(found), "Exporting") as advance:
        for example in found:
            line = exporting.line(example, form, system)
            output.write(json.dumps(line, ensure_ascii=False) + "\n")
            advance()
    return len(found)
