"""Which queues are served by workers that live."""

import socket

import psutil

from producers.queries.ledger import queue_figures
from shared import db
from shared.db import Role


def queues_served() -> set[str]:
    """Return the queues that have a live worker process."""
    with db.transaction(None, role=Role.RELAY) as conn:
        processes = queue_figures.select_processes(conn)
    here = socket.gethostname()
    # A killed process stays in the table a little longer; on this machine its pid is checked.
    live = [one for one in processes if one.host != here or psutil.pid_exists(one.pid)]
    return {queue for one in live for queue in one.queues}
