"""The `keys` commands: API keys."""

from typing import Any

import click

from producers.accounts import api_keys, request_rules, users
from producers.accounts.api_keys import MadeKey, Wish
from producers.cli.accounts import rules
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table, say
from producers.cli.terminal.values import DURATION, any_tenant_option
from producers.json_rows import as_document
from shared import db
from shared.db import Role
from shared.servers import embedded
from shared.settings import settings


@click.group()
def keys() -> None:
    """Manage API keys: create, list, rotate, revoke, limit, allow."""


@keys.command("create")
@click.argument("name")
@click.option("--tenant", "slug", metavar="SLUG", help="Whose. Default: all, for a SUPER_ADMIN.")
@click.option("--owner", required=True, metavar="EMAIL|ID", help="User whose role bounds the key.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    metavar="SCOPE",
    help="A right, such as jobs:write; repeat it for more.",
)
@click.option("--expires", "expires_s", type=DURATION, help="Lifetime, such as 90d. Default: none.")
@json_option
def create_key(slug: str | None, name: str, owner: str, as_json: bool, **wish: Any) -> None:  # noqa: ANN401
    """Create a key. It is printed once and stored as a hash only.

    Scopes are a thing and what is done with it: jobs:read, jobs:write, dead:replay, search:read,
    documents:write, runs:write, events:read, webhooks:write, ... An unknown one names them all.
    """
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        user_id = users.anywhere(tenant_id, owner)
        config = settings()
        pepper = api_keys.peppers(config, embedded.signing_key(config))
        made = api_keys.create(pepper, tenant_id, user_id, Wish(name, **wish))
    _print(made, as_json)


@keys.command("list")
@any_tenant_option
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="Maximum rows.",
)
@json_option
def list_keys(slug: str | None, limit: int, as_json: bool) -> None:
    """List keys, newest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        rows = api_keys.list_keys(tenant_id, limit=limit)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    columns = ("prefix", "name", "owner", "tenant", "scopes", "state", "expires", "last used")
    print_table(
        columns,
        [
            (r.prefix, r.name, r.owner, r.tenant, r.scopes, r.state, r.expires_at, r.last_used_at)
            for r in rows
        ],
    )


@keys.command("rotate")
@click.argument("key", metavar="PREFIX|ID")
@any_tenant_option
@click.option(
    "--overlap",
    "overlap_s",
    type=DURATION,
    default="1d",
    show_default=True,
    help="How long the old key goes on.",
)
@json_option
def rotate_key(key: str, slug: str | None, overlap_s: float, as_json: bool) -> None:
    """Create a key's successor: same owner, name, scopes and lifetime."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        config = settings()
        pepper = api_keys.peppers(config, embedded.signing_key(config))
        made = api_keys.rotate(pepper, tenant_id, key, overlap_s=overlap_s)
    _print(made, as_json)


@keys.command("revoke")
@click.argument("key", metavar="PREFIX|ID")
@any_tenant_option
@json_option
def revoke_key(key: str, slug: str | None, as_json: bool) -> None:
    """Revoke a key. Every process refuses it within a second."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            row = api_keys.revoke(conn, tenant_id, key)
    if as_json:
        print_json(as_document(row))
    else:
        click.echo(f"The key {row.prefix} is revoked.")


@keys.command("limit")
@click.argument("key", metavar="PREFIX|ID")
@any_tenant_option
@rules.rate_options
@json_option
def limit_key(
    key: str,
    slug: str | None,
    rate: float | None,
    burst: float | None,
    default: bool,
    as_json: bool,
) -> None:
    """Limit how many requests a key may make, beside what its tenant may."""
    wanted = rules.wanted_rate(rate, burst, default=default)
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        subject = request_rules.of_key(tenant_id, key)
        rule = request_rules.limit(subject, wanted)
    rules.print_rule(rule, as_json=as_json)


@keys.command("allow")
@click.argument("key", metavar="PREFIX|ID")
@any_tenant_option
@rules.address_options
@json_option
def allow_key(
    key: str, slug: str | None, addresses: tuple[str, ...], anywhere: bool, as_json: bool
) -> None:
    """Accept requests of a key from these addresses alone."""
    wanted = rules.wanted_addresses(addresses, anywhere=anywhere)
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        subject = request_rules.of_key(tenant_id, key)
        rule = request_rules.allow(subject, wanted)
    rules.print_rule(rule, as_json=as_json)


def _print(made: MadeKey, as_json: bool) -> None:
    document = as_document(made)
    if as_json:
        print_json(document)
        return
    print_fields(document)
    say("Keep the key now: it is not shown again.")
