"""How many connections to Postgres a process opens at most; idle ones end after a minute."""

from typing import Final

SUPERVISOR: Final = 1
RELAY: Final = 4  # one of them listens
SCHEDULER: Final = 4
WEB: Final = 5  # one of them listens
# Of a command, and what an administrator and the server's own processes may need beside all.
COMMAND: Final = 6
SPARE: Final = 10


def of_worker(threads: int) -> int:
    """A worker process: one a thread, one for its heartbeat, one for claims and completions."""
    return threads + 2
