"""The `models` commands: providers, models and routing."""

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.json_rows import as_document
from producers.models import catalogue, shipped_catalogue
from producers.models.catalogue import ModelIncomplete
from shared import db
from shared.db import Role
from shared.judgement import intents
from shared.queries.models import model_routes
from shared.queries.models import models as queries


class _Price(click.ParamType[Decimal]):
    """Dollars per thousand tokens, as a Decimal."""

    name = "dollars"

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Decimal:
        try:
            price = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"invalid price {value!r}: use dollars, such as 0.0004.", param, ctx)
        if not price.is_finite() or not Decimal(0) <= price < Decimal(10) ** 12:
            self.fail(f"invalid price {value!r}: must be finite and not negative.", param, ctx)
        return price


PRICE = _Price()
_FLAGS = {"cost_in": "--in", "cost_out": "--out", "context_window": "--context-window"}


@click.group()
def models() -> None:
    """Manage providers, models and routing."""


@models.command("list")
@click.option("--enabled", is_flag=True, help="Only usable models.")
@json_option
def list_models(enabled: bool, as_json: bool) -> None:
    """List models: prices per thousand tokens, statistics, circuit breakers."""
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        found = queries.select_models(conn)
    rows = [
        as_document(one) for one in found if not enabled or (one.enabled and one.provider_enabled)
    ]
    if as_json:
        print_json(rows)
        return
    prices = ("slug", "provider", "costIn", "costOut", "enabled")
    columns = (*prices, "calls", "avgLatencyMs", "successRate", "health")
    print_table(columns, [[row[name] for name in columns] for row in rows])


@models.command("put")
@click.argument("slug")
@click.option("--provider", help="Provider; required for a new model.")
@click.option("--name", help="Display name. Default: the slug.")
@click.option(
    "--context-window", type=click.IntRange(1, 2**31 - 1), help="Context window in tokens."
)
@click.option("--in", "cost_in", type=PRICE, help="Input price in dollars per thousand tokens.")
@click.option("--out", "cost_out", type=PRICE, help="Output price in dollars per thousand tokens.")
@click.option(
    "--capability", "capabilities", multiple=True, help="Capability: completion, embedding, ..."
)
@click.option("--enabled/--disabled", default=None, help="Whether routing may choose it.")
@json_option
def put_model(slug: str, as_json: bool, **fields: Any) -> None:  # noqa: ANN401
    """Create or update a model. Options not given stay unchanged. Audited."""
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        try:
            given = {name: value for name, value in fields.items() if value not in (None, ())}
            row = catalogue.change_model(conn, slug, given)
        except ModelIncomplete as error:
            needed = ", ".join(_FLAGS.get(name, f"--{name}") for name in error.missing)
            raise click.UsageError(f"The model {slug} is new: it needs {needed}.") from None
    (print_json if as_json else print_fields)(as_document(row))


@models.command("provider")
@click.argument("slug")
@click.option("--name", help="Display name. Default: the slug.")
@click.option("--base-url", help="Base URL of its API. Default: the provider's own.")
@click.option(
    "--enabled/--disabled", default=None, help="Enable or disable the provider. New: enabled."
)
@json_option
def put_provider(
    slug: str, name: str | None, base_url: str | None, enabled: bool, as_json: bool
) -> None:
    """Create or update a provider. Disabling it takes its models out of use at once."""
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        new = catalogue.change_provider(conn, slug, name=name, base_url=base_url, enabled=enabled)
    (print_json if as_json else print_fields)(as_document(new))


@models.command("seed")
@json_option
def seed(as_json: bool) -> None:
    """Add the built-in providers and models that are missing; existing rows stay unchanged."""
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        providers, added = shipped_catalogue.seed(conn)
    (print_json if as_json else print_fields)({"providers": providers, "models": added})


@models.command("routes")
@click.option("--intent", help="Only this intent.")
@click.option("--text", help="Only the intent detected in this text.")
@json_option
def list_routes(intent: str | None, text: str | None, as_json: bool) -> None:
    """Show the routing score of each model per intent, and its components."""
    if text is not None:
        if intent is not None:
            raise click.UsageError("Give either an intent or a text, not both.")
        intent = intents.intent_of(text).name
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        rows = [as_document(one) for one in model_routes.select_routes(conn, intent)]
    if as_json:
        print_json(rows)
        return
    columns = ("intent", "model", "score", "pulls", "wins")
    terms = ("quality", "price", "speed", "success")
    lines = [
        [*(row[name] for name in columns), *((row["factors"] or {}).get(name) for name in terms)]
        for row in rows
    ]
    print_table((*columns, *terms), lines)
