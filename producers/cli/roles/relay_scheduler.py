"""The `relay` and `scheduler` commands: long-running roles, as in the Procfile."""

import os
import threading

import click

from producers.cli.roles import processes
from producers.cli.terminal import session
from producers.cli.terminal.output import announce, json_option
from producers.ledger import scheduler as clock
from producers.ledger.redis_ingress import RedisIngress
from producers.ledger.relay import Relay
from shared import connections
from shared.ledger.wakeups import Wire, connect
from shared.observability import outages
from shared.servers import embedded
from shared.settings import settings


@click.command()
@json_option
@processes.parent_option
def relay(parent: int | None, as_json: bool) -> None:
    """Run the relay: dispatch due jobs to Redis, recover expired leases, serve Redis ingress.

    Several relays share the work. Stop it with SIGTERM.
    """
    stop = processes.stop_on_signals()
    config = settings()
    most = connections.RELAY - 1  # one more listens
    with session.opened(
        role_of_its_own=True, migrated=parent is None, connections_max=most
    ) as servers:
        wire = Wire(config.redis_namespace, embedded.signing_key(config))
        outages.report_to(connect(servers.redis_url, timeout_s=1.0), config.redis_namespace)
        ingress = RedisIngress(connect(servers.redis_url), config.redis_namespace)
        broken: list[Exception] = []
        thread = threading.Thread(target=_keep_open, args=(ingress, stop, broken), name="door")
        thread.start()
        if as_json:
            announce({"role": "relay", "pid": os.getpid()})
        listen_url = config.database_listen_url
        try:
            Relay(config, connect(servers.redis_url), wire).run(
                listen_url.get_secret_value() if listen_url else servers.database_url, stop
            )
        finally:
            stop.set()
            thread.join()
        if broken:  # the process manager restarts us
            raise broken[0]


def _keep_open(ingress: RedisIngress, stop: threading.Event, broken: list[Exception]) -> None:
    try:
        ingress.run(stop)
    except Exception as error:
        broken.append(error)
        stop.set()


@click.command()
@json_option
@processes.parent_option
def scheduler(parent: int | None, as_json: bool) -> None:
    """Run the scheduler: cron schedules, system sweeps and changes made by the platform.

    Several schedulers share the work. Stop it with SIGTERM.
    """
    stop = processes.stop_on_signals()
    most = connections.SCHEDULER
    with session.opened(
        role_of_its_own=True, migrated=parent is None, connections_max=most
    ) as servers:
        client = connect(servers.redis_url, timeout_s=1.0)
        outages.report_to(client, settings().redis_namespace)
        if as_json:
            announce({"role": "scheduler", "pid": os.getpid()})
        clock.run(stop)
