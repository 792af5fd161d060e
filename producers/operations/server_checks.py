"""Checks of the Postgres server's settings, for `ailydian verify`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from producers.queries.operations import server_facts
from shared import connections
from shared.db import Connection
from shared.settings import Settings, settings

Faults = Iterator[str]


def _jit(conn: Connection) -> Faults:
    """Before PostgreSQL 18 a plan that is switched off is compiled, which takes seconds."""
    if server_facts.select_jit(conn) != "off":
        yield "transactions run with jit on"
    for name in server_facts.select_compiled_functions(conn):
        yield f"{name} switches plans off with jit on: run `ailydian migrate`"


def _connections(conn: Connection) -> Faults:
    """Compare what the processes may open with what the server gives; a pooler shares its own."""
    if not settings().prepared_statements:
        return
    alive = server_facts.select_roles_alive(conn)
    needed = needed_by(alive, settings()) if alive else needed_by_up(settings())
    most = server_facts.select_connections_max(conn)
    if needed > most:
        who = f"the {len(alive)} processes that run" if alive else "`ailydian up`"
        yield f"{who} may open {needed} connections, max_connections leaves {most}"


def needed_by(alive: Sequence[tuple[str, int]], config: Settings) -> int:
    """Connections that processes may open, given as role and threads.

    Supervisors are not in the ledger: there are at most as many as worker processes.
    """
    each = {"relay": connections.RELAY, "scheduler": connections.SCHEDULER}
    return sum(
        connections.of_worker(threads) + connections.SUPERVISOR
        if role == "worker"
        else each.get(role, 0)
        for role, threads in alive
    ) + of_web(config)


def needed_by_up(config: Settings) -> int:
    """Connections that `ailydian up` may open with these settings."""
    workers = config.processes * connections.of_worker(config.threads) + connections.SUPERVISOR
    return workers + connections.RELAY + connections.SCHEDULER + of_web(config)


def of_web(config: Settings) -> int:
    """Connections of the HTTP server, which is not in the ledger, and those to spare."""
    return config.web_processes * connections.WEB + connections.SPARE


FINDERS: Final[dict[str, Callable[[Connection], Faults]]] = {
    "jit": _jit,
    "connections": _connections,
}
