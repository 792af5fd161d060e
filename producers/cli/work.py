"""`work`: becomes `workers.supervisor`, a room that producers never import."""

import os
import sys

import click

from producers.cli.processes import parent_option
from producers.cli.values import QUEUE


@click.command()
@click.option("--queue", "queues", type=QUEUE, multiple=True, help="Which; default: all.")
@click.option("--processes", type=click.IntRange(1, 256), help="Default: AILYDIAN_PROCESSES.")
@click.option("--threads", type=click.IntRange(1, 256), help="A process; AILYDIAN_THREADS.")
@parent_option
def work(
    queues: tuple[str, ...], processes: int | None, threads: int | None, parent: int | None
) -> None:
    """Run workers: processes that take jobs of these queues, each replaced alone when it dies.

    SIGTERM drains: what runs is finished within AILYDIAN_GRACE_S, the rest goes back.
    """
    command = [sys.executable, "-m", "workers.supervisor"]
    for queue in queues:
        command += ["--queue", queue]
    if processes is not None:
        command += ["--processes", str(processes)]
    if threads is not None:
        command += ["--threads", str(threads)]
    if parent is not None:  # it holds the servers and has migrated
        os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell
    # Imported now: a child of `up` needs neither, and every worker waits for this process.
    from producers.cli import session  # noqa: PLC0415
    from shared import db  # noqa: PLC0415

    with session.opened(role_of_its_own=True):
        db.close_pool()
        # Inside the block: embedded servers still run when the supervisor asks for them.
        os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell
