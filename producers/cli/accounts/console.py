"""The `console` commands: signing in at the HTTP API from a terminal."""

import click

from producers.accounts import api_keys, logins, sessions
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, say
from shared.servers import embedded
from shared.settings import settings


@click.group()
def console() -> None:
    """Sign in at the HTTP API."""


@console.command("login")
@click.option("--email", help="User who signs in. Default: the first SUPER_ADMIN.")
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="Where the HTTP API is reached, such as at the port of `up --web`.",
)
@json_option
def login(email: str | None, url: str, as_json: bool) -> None:
    """Print a link that signs in once, within ten minutes.

    Where there is no SUPER_ADMIN, operator@localhost is created as one.
    """
    with session.opened():
        link, user = login_link(url, email)
    if as_json:
        print_json({"url": link, "user": user, "seconds": logins.LINK_S})
    else:
        click.echo(link)
        say(f"It signs {user} in, once, within {logins.LINK_S / 60:.0f} minutes; --url says where.")


def login_link(url: str, email: str | None) -> tuple[str, str]:
    """Make a link. Returns it, and the e-mail of the user whom it signs in."""
    config = settings()
    pepper = api_keys.peppers(config, embedded.signing_key(config))
    token, user = logins.make_link(sessions.policy(config, pepper), email)
    return f"{url.rstrip('/')}/login?token={token}", user
