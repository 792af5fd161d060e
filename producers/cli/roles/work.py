"""The `work` command: replaces itself by `workers.process.supervisor`."""

import os

import click

from producers.cli.roles.processes import parent_option
from producers.cli.terminal.output import announce, json_option, print_json
from producers.cli.terminal.values import QUEUE
from shared.settings import child_command


@click.command()
@click.option(
    "--queue", "queues", type=QUEUE, multiple=True, help="Queue to serve. Default: all queues."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="Worker processes. Default: AILYDIAN_PROCESSES.",
)
@click.option(
    "--threads", type=click.IntRange(1, 256), help="Threads per process. Default: AILYDIAN_THREADS."
)
@click.option(
    "--restart", is_flag=True, help="Rolling restart of the workers running on this machine."
)
@json_option
@parent_option
def work(
    queues: tuple[str, ...],
    processes: int | None,
    threads: int | None,
    restart: bool,
    as_json: bool,
    parent: int | None,
) -> None:
    """Run worker processes for these queues; a process that dies is replaced.

    SIGTERM drains: running jobs finish within AILYDIAN_GRACE_S, the rest goes back. SIGHUP, or
    --restart from another shell, does a rolling restart: an old process ends when its replacement
    takes jobs. A process above AILYDIAN_WORKER_RSS_MB_MAX, or after AILYDIAN_WORKER_JOBS_MAX jobs,
    is replaced in the same way.
    """
    if restart:
        _restart(queues, as_json=as_json)
        return
    command = child_command("workers.process.supervisor")
    for queue in queues:
        command += ["--queue", queue]
    if processes is not None:
        command += ["--processes", str(processes)]
    if threads is not None:
        command += ["--threads", str(threads)]
    role: dict[str, object] = {"role": "work", "pid": os.getpid()}  # which stays the supervisor's
    if parent is not None:  # it holds the servers and has migrated
        if as_json:
            announce(role)
        os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell
    # Imported here: a child of `up` needs neither, and every worker waits for this process.
    from producers.cli.terminal import session  # noqa: PLC0415
    from shared import db  # noqa: PLC0415

    with session.opened(role_of_its_own=True):
        db.close_pool()
        if as_json:
            announce(role)
        # Inside the block: embedded servers still run when the supervisor needs them.
        os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell


def _restart(queues: tuple[str, ...], *, as_json: bool) -> None:
    """Signal the supervisors of these queues, or all, on this machine to restart."""
    # Imported here: a worker waits for this process, and needs none of it.
    import signal  # noqa: PLC0415
    import socket  # noqa: PLC0415

    import psutil  # noqa: PLC0415

    from producers.cli.terminal import session  # noqa: PLC0415
    from producers.errors import WorkersMissing  # noqa: PLC0415
    from producers.queries.ledger import queue_figures  # noqa: PLC0415
    from shared import db  # noqa: PLC0415
    from shared.db import Role  # noqa: PLC0415

    with session.opened():
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = queue_figures.select_processes(conn)
        signalled = set()
        for row in rows:
            if row.host != socket.gethostname() or (queues and not set(queues) & set(row.queues)):
                continue
            try:
                above = psutil.Process(row.pid).parent()
                if above is not None and "workers.process.supervisor" in above.cmdline():
                    signalled.add(above.pid)
            except psutil.Error:  # it has ended by now
                continue
        if not signalled:
            raise WorkersMissing("No supervisor of these queues is running on this machine.")
        for pid in signalled:
            os.kill(pid, signal.SIGHUP)
    if as_json:
        print_json({"restarted": sorted(signalled)})
    else:
        click.echo(
            f"{len(signalled)} supervisor(s) signalled to restart their processes one by one."
        )
