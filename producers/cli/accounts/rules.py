"""What the commands `limit` and `allow` of tenants and keys have in common."""

from collections.abc import Sequence

import click

from producers.accounts import request_rules
from producers.accounts.request_rules import Rate
from producers.cli.terminal.output import Command, print_fields, print_json
from producers.cli.terminal.values import RATE
from producers.json_rows import as_document
from producers.queries.accounts.request_rules import RequestRule


def rate_options(function: Command) -> Command:
    """Add --rate, --burst and --default to a command."""
    of_default = click.option("--default", is_flag=True, help="Remove the rate that was set.")
    of_burst = click.option("--burst", type=float, help="Requests at once. Default: 10 seconds'.")
    of_rate = click.option("--rate", type=RATE, metavar="N/s", help="Requests a second.")
    return of_rate(of_burst(of_default(function)))


def address_options(function: Command) -> Command:
    """Add --address and --anywhere to a command."""
    anywhere = click.option("--anywhere", is_flag=True, help="Allow all addresses again.")
    address = click.option(
        "--address",
        "addresses",
        multiple=True,
        metavar="CIDR",
        help="An address or network, of IPv4 or IPv6; repeat it for more.",
    )
    return address(anywhere(function))


def wanted_rate(rate: float | None, burst: float | None, *, default: bool) -> Rate | None:
    """Return the rate that the options ask for; None for the default."""
    if (rate is None) != default or (default and burst is not None):
        raise click.UsageError("Give --rate N/s, or --default.")
    return None if rate is None else request_rules.rate(rate, burst)


def wanted_addresses(addresses: Sequence[str], *, anywhere: bool) -> list[str]:
    """Return the addresses that the options ask for."""
    if bool(addresses) == anywhere:
        raise click.UsageError("Give --address CIDR, or --anywhere.")
    return [*addresses]


def print_rule(rule: RequestRule, *, as_json: bool) -> None:
    """Print a rule."""
    (print_json if as_json else print_fields)(as_document(rule))
