"""`relay`, `scheduler`, `work`: the long-running roles, one process each, as in the Procfile."""

import os
import sys
import threading

import click

from producers import scheduler as clock
from producers.cli import children, session
from producers.cli.values import QUEUE
from producers.door import Door
from producers.relay import Relay
from shared import db, embedded
from shared.broker import Wire, connect
from shared.settings import settings


@click.command()
@children.parent_option
def relay(parent: int | None) -> None:
    """Run the relay: due jobs to Redis, lapsed ones back, and the Redis door beside it.

    Several at once share the work. SIGTERM ends it.
    """
    stop = children.stop_on_signals()
    config = settings()
    with session.opened(role_of_its_own=True, migrated=parent is None) as servers:
        wire = Wire(config.redis_namespace, embedded.signing_key(config))
        door = Door(connect(servers.redis_url), config.redis_namespace)
        broken: list[Exception] = []
        thread = threading.Thread(target=_keep_open, args=(door, stop, broken), name="door")
        thread.start()
        listen_url = config.database_listen_url
        try:
            Relay(config, connect(servers.redis_url), wire).run(
                listen_url.get_secret_value() if listen_url else servers.database_url, stop
            )
        finally:
            stop.set()
            thread.join()
        if broken:  # whoever started us starts us again
            raise broken[0]


def _keep_open(door: Door, stop: threading.Event, broken: list[Exception]) -> None:
    try:
        door.run(stop)
    except Exception as error:
        broken.append(error)
        stop.set()


@click.command()
@children.parent_option
def scheduler(parent: int | None) -> None:
    """Run the scheduler: what is due by the clock, and what the platform wrote.

    Several at once share the work. SIGTERM ends it.
    """
    stop = children.stop_on_signals()
    with session.opened(role_of_its_own=True, migrated=parent is None):
        clock.run(stop)


@click.command()
@click.option("--queue", "queues", type=QUEUE, multiple=True, help="Which; default: all.")
@click.option("--processes", type=click.IntRange(1, 256), help="Default: AILYDIAN_PROCESSES.")
@click.option("--threads", type=click.IntRange(1, 256), help="A process; AILYDIAN_THREADS.")
@children.parent_option
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
    with session.opened(role_of_its_own=True):
        db.close_pool()
        # Inside the block: embedded servers still run when the supervisor asks for them.
        os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell
