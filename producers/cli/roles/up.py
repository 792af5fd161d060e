"""The `up` command: all roles in one process tree."""

import socket
import threading

import click
import psutil
import structlog

from producers.cli.accounts import console
from producers.cli.roles.children import Child, end, look_after
from producers.cli.roles.processes import stop_on_signals
from producers.cli.terminal import session, values
from producers.cli.terminal.output import announce, json_option, say
from producers.queries.ledger import queue_figures
from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.errors import AilydianError, ServerUnavailable
from shared.ledger import outbox
from shared.servers.embedded import Servers
from shared.settings import settings

log = structlog.get_logger()

LOOK_S = 0.1


@click.command()
@click.option("--per-queue", is_flag=True, help="One supervisor per queue, as in the Procfile.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="Worker processes per supervisor. Default: 2, or 1 with --per-queue.",
)
@click.option(
    "--web",
    "port",
    type=click.IntRange(1, 65_535),
    help="Serve the HTTP API, /metrics, /health and /ready on this port.",
)
@json_option
def up(per_queue: bool, processes: int | None, port: int | None, as_json: bool) -> None:  # noqa: ARG001 - it is JSON in any case
    """Run all roles: relay, scheduler and workers for all queues.

    The first line on stdout is JSON, printed when workers are ready. SIGTERM and Ctrl-C drain:
    running jobs finish, the rest stays in the ledger. A second `up` shares the work.
    """
    each = processes or (1 if per_queue else settings().processes)
    roles = []  # workers first: they take longest to be ready
    for queues in [[queue] for queue in QUEUES] if per_queue else [[]]:
        chosen = [part for queue in queues for part in ("--queue", queue)]
        roles.append(["work", *chosen, "--processes", str(each)])
    supervisors = len(roles)
    roles += [["relay"], ["scheduler"]]
    if port is not None:
        roles.append(["web", "--port", str(port)])
    stop = stop_on_signals()
    with session.opened(role_of_its_own=True) as servers:
        running = [Child.of(role) for role in roles]
        try:
            _keep(running, servers, stop, expected=each * supervisors, port=port)
        finally:
            end(running)


def _keep(
    running: list[Child],
    servers: Servers,
    stop: threading.Event,
    *,
    expected: int,
    port: int | None,
) -> None:
    ready = False
    while not stop.wait(LOOK_S):
        for one in running:
            look_after(one, ready=ready)
        if not ready and _answers(port) and _registered() >= expected:
            ready = True
            places = {
                "database": values.without_password(servers.database_url),
                "redis": values.without_password(servers.redis_url),
            }
            web = None if port is None else f"http://127.0.0.1:{port}"
            announce({"ready": True, **places, "web": web})
            if web is not None and settings().database_url is None:
                _tell_login(web)


def _tell_login(web: str) -> None:
    """Print where the API is, and a link: embedded servers have one operator, who is here."""
    try:
        with outbox.published_by(session.actor()):
            link, user = console.login_link(web, None)
    except AilydianError as error:
        log.warning("login_link.failed", error=db.sentence(error))
        return
    say(f"The HTTP API is at {web}/v1. Sign in as {user}, once, within 10 minutes: {link}")


def _answers(port: int | None) -> bool:
    if port is None:
        return True
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _registered() -> int:
    """Count the worker processes of this tree that have sent a heartbeat."""
    try:
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = queue_figures.select_processes(conn)
    except ServerUnavailable:
        return 0
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    here = socket.gethostname()
    return sum(bool(row.queues) and row.host == here and row.pid in ours for row in rows)
