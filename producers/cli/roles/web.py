"""The `web` command: the HTTP server, a long-running role."""

import os

import click

from producers.accounts import api_keys, client_addresses, openid, sessions
from producers.cli.roles import processes
from producers.cli.terminal import session
from producers.cli.terminal.output import announce, json_option, say
from producers.web import app, cors
from producers.web.access import Keys
from producers.web.connections import Connections, connections_allowed
from producers.web.pages import Pages
from producers.web.server import serve
from producers.web.sessions_seen import Sessions
from producers.web.streams import Streams
from producers.web.visitors import Visitors
from shared import connections
from shared.ledger.wakeups import Wire, connect
from shared.servers import embedded
from shared.settings import settings

REDIS_TIMEOUT_S = 3.0


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, help="Port; 0 picks a free one."
)
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 accepts other machines."
)
@json_option
@processes.parent_option
def web(port: int, host: str, parent: int | None, as_json: bool) -> None:
    """Serve the HTTP API, /metrics, /health and /ready.

    The API needs keys (`ailydian keys create`); the three pages need none: let no proxy pass them
    on. Stop it with SIGTERM.
    """
    stop = processes.stop_on_signals()
    config = settings()
    origins = cors.origins(config.web_cors_origins)
    proxies, provider = client_addresses.proxies(config), openid.client(config)
    most = connections.WEB - 1  # one listens
    with session.opened(
        role_of_its_own=True, migrated=parent is None, connections_max=most
    ) as servers:
        key = embedded.signing_key(config)
        keys = Keys(api_keys.peppers(config, key), config.platform_key_hash)
        visitors = Visitors(Sessions(sessions.policy(config, keys.pepper)), proxies, provider)
        with connect(servers.redis_url, timeout_s=REDIS_TIMEOUT_S) as client:
            listen_url = config.database_listen_url
            clients = connections_allowed()
            streams = Streams(
                listen_url.get_secret_value() if listen_url else servers.database_url,
                most=clients * 4 // 5,
            )
            pages = Pages(client, Wire(config.redis_namespace, key))
            built = app.build(keys, pages, streams, origins=origins, visitors=visitors)
            try:
                serving = serve(built, host=host, port=port, connections=Connections(clients))
            except OSError as error:
                pages.close()
                raise click.ClickException(f"{host}:{port}: {error.strerror}.") from None
            try:
                _announce(f"http://{host}:{serving.port}", as_json=as_json)
                stop.wait()
            finally:
                streams.stop()
                serving.stop()
                keys.flush()
                pages.close()


def _announce(url: str, *, as_json: bool) -> None:
    if as_json:
        announce({"role": "web", "pid": os.getpid(), "url": url})
    else:
        say(f"Listening on {url}")
