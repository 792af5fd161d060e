"""One process of the HTTP server, from its settings to its end."""

import threading
from collections.abc import Callable
from typing import Final

import click

from producers.accounts import api_keys, client_addresses, openid, sessions
from producers.cli.terminal import session
from producers.web import app, cors
from producers.web.access import Keys
from producers.web.connections import Connections, connections_allowed
from producers.web.pages import Pages
from producers.web.server import serve
from producers.web.sessions_seen import Sessions
from producers.web.streams import Streams
from producers.web.visitors import Visitors
from shared import connections, db
from shared.ledger.wakeups import Wire, connect
from shared.servers import embedded
from shared.settings import settings

STATEMENT_S: Final = 60  # one that stores an upload of 128 MB takes some seconds
REDIS_TIMEOUT_S = 3.0


def run(
    host: str,
    port: int,
    stop: threading.Event,
    listening: Callable[[int], None],
    *,
    migrated: bool,
    shared_port: bool,
) -> None:
    """Serve until it is told to stop.

    Args:
        host: The address to listen on.
        port: 0 takes a free one.
        stop: Tells it.
        listening: Called with the port.
        migrated: Whether an embedded database is migrated first.
        shared_port: Whether other processes of ours listen there too.

    Raises:
        click.ClickException: The address is taken.
    """
    config = settings()
    origins = cors.origins(config.web_cors_origins)
    proxies, provider = client_addresses.proxies(config), openid.client(config)
    most = connections.WEB - 1  # one listens
    with session.opened(role_of_its_own=True, migrated=migrated, connections_max=most) as servers:
        db.answer_requests(statement_s=STATEMENT_S)
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
                serving = serve(
                    built,
                    host=host,
                    port=port,
                    connections=Connections(clients),
                    shared_port=shared_port,
                )
            except OSError as error:
                pages.close()
                raise click.ClickException(f"{host}:{port}: {error.strerror}.") from None
            try:
                listening(serving.port)
                stop.wait()
            finally:
                streams.stop()
                serving.stop()
                keys.flush()
                pages.close()
