"""Checks of the Postgres server's settings, for `ailydian verify`."""

from collections.abc import Callable, Iterator
from typing import Final

from producers.queries.operations import server_facts
from shared.db import Connection

Faults = Iterator[str]


def _jit(conn: Connection) -> Faults:
    """Before PostgreSQL 18 a plan that is switched off is compiled, which takes seconds."""
    if server_facts.select_jit(conn) != "off":
        yield "transactions run with jit on"
    for name in server_facts.select_compiled_functions(conn):
        yield f"{name} switches plans off with jit on: run `ailydian migrate`"


FINDERS: Final[dict[str, Callable[[Connection], Faults]]] = {"jit": _jit}
