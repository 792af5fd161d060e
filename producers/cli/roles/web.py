"""The `web` command: the HTTP server, a long-running role of one process or several."""

import os
import threading
from collections.abc import Callable, Sequence

import click
import psutil

from producers.cli.roles import processes
from producers.cli.roles.children import Child, end, look_after
from producers.cli.terminal import session
from producers.cli.terminal.output import announce, json_option, say
from producers.web.listeners import reserve
from shared import db
from shared.settings import settings

LOOK_S = 0.1


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, help="Port; 0 picks a free one."
)
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 accepts other machines."
)
@click.option(
    "--processes",
    "count",
    type=click.IntRange(1, 64),
    help="Processes that share the port. Default: AILYDIAN_WEB_PROCESSES.",
)
@click.option("--shared-port", is_flag=True, hidden=True)
@json_option
@processes.parent_option
def web(
    port: int, host: str, count: int | None, shared_port: bool, parent: int | None, as_json: bool
) -> None:
    """Serve the HTTP API, /metrics, /health and /ready.

    The API needs keys (`ailydian keys create`); the three pages need none: let no proxy pass them
    on. Stop it with SIGTERM: requests that run are answered. A process that dies is started again.
    """
    stop = processes.stop_on_signals()
    wanted = 1 if shared_port else count or settings().web_processes

    def listening(at: int) -> None:
        url = f"http://{host}:{at}"
        if as_json:
            announce({"role": "web", "pid": os.getpid(), "url": url})
        elif not shared_port:  # then our parent says so, once
            say(f"Listening on {url}")

    if wanted > 1:
        _share(host, port, wanted, stop, listening, migrated=parent is None)
        return
    # Imported here: who only looks after processes needs none of it.
    from producers.cli.roles import web_server  # noqa: PLC0415

    web_server.run(host, port, stop, listening, migrated=parent is None, shared_port=shared_port)


def _share(
    host: str,
    port: int,
    wanted: int,
    stop: threading.Event,
    listening: Callable[[int], None],
    *,
    migrated: bool,
) -> None:
    """Look after processes that share a port until told to stop; then let them end.

    Raises:
        click.ClickException: The address is taken.
    """
    with session.opened(role_of_its_own=True, migrated=migrated):
        db.close_pool()  # the connections are for those who answer
        try:
            reserved = reserve(host, port)
        except OSError as error:
            raise click.ClickException(f"{host}:{port}: {error.strerror}.") from None
        with reserved:
            at = reserved.getsockname()[1]
            role = ["web", "--host", host, "--port", str(at), "--shared-port"]
            children = [Child.of(role) for _ in range(wanted)]
            try:
                _keep(children, at, stop, listening)
            finally:
                end(children)


def _keep(
    children: Sequence[Child], port: int, stop: threading.Event, listening: Callable[[int], None]
) -> None:
    ready = False
    while not stop.wait(LOOK_S):
        for one in children:
            look_after(one, ready=ready)
        if not ready and all(_listens(one.process.pid, port) for one in children):
            ready = True
            listening(port)


def _listens(pid: int, port: int) -> bool:
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # it has ended by now
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)
