"""The `autoscale` command: one supervisor per queue, scaled by queue lag."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import click
import psutil
import psycopg
import structlog

from producers.cli.roles import processes
from producers.cli.terminal import session
from producers.cli.terminal.output import announce, json_option
from producers.cli.terminal.values import QUEUE, seconds
from producers.ledger import scaling
from producers.ledger.scaling import Bounds, Load, Need
from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.observability import outages
from shared.queries.ledger import workers
from shared.settings import child_command, settings

log = structlog.get_logger()

EVERY_S = 1.0
CALM_S = 30.0
KILL_AFTER_GRACE_S = 10.0


@dataclass(slots=True)
class Crew:
    """A queue's supervisor and the pipe that sets its number of processes."""

    queue: str
    threads: int
    process: subprocess.Popen[bytes] | None = None
    control_fd: int = -1
    requested: int = 0
    need: Need = field(default_factory=lambda: Need(0))

    def keep(self, count: int) -> None:
        """Scale to `count` processes; start the supervisor if it does not run."""
        if self.process is not None and self.process.poll() is not None:
            log.error("role.ended", role="work", queue=self.queue, code=self.process.returncode)
            self.end()
            self.process = None
        if self.process is None:
            if count:
                self._start(count)
        elif count != self.requested:
            try:
                os.write(self.control_fd, f"{count}\n".encode())
            except BrokenPipeError:
                return  # it has ended: the next round starts it again
        if count != self.requested:
            log.info("autoscale.resized", queue=self.queue, processes=count, before=self.requested)
        self.requested = count

    def end(self) -> None:
        """Close the pipe: the supervisor drains its processes and ends."""
        if self.control_fd >= 0:
            os.close(self.control_fd)
        self.control_fd = -1

    def _start(self, count: int) -> None:
        theirs, self.control_fd = os.pipe()
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            child_command(
                *("workers.process.supervisor", "--queue", self.queue),
                *("--processes", str(count), "--threads", str(self.threads)),
                *("--control-fd", str(theirs)),
            ),
            pass_fds=(theirs,),
            stdin=subprocess.DEVNULL,
            stdout=2,
        )
        os.close(theirs)


@click.command()
@click.option(
    "--queue", "queues", type=QUEUE, multiple=True, help="Queue to serve. Default: all queues."
)
@click.option(
    "--max",
    "most",
    type=click.IntRange(1, 256),
    help="Maximum processes in total. Default: twice the CPU cores.",
)
@click.option(
    "--min",
    "least",
    type=click.IntRange(0, 64),
    default=0,
    help="Minimum processes per idle queue.",
)
@click.option("--target-lag", default="5s", help="Target lag: how long a due job may wait.")
@click.option(
    "--calm", default=f"{CALM_S:.0f}s", help="Time without load before a process is stopped."
)
@click.option(
    "--threads", type=click.IntRange(1, 256), help="Threads per process. Default: AILYDIAN_THREADS."
)
@json_option
@processes.parent_option
def autoscale(
    queues: tuple[str, ...], most: int | None, least: int, as_json: bool, **more: str | int | None
) -> None:
    """Run workers and scale the processes of each queue with its lag.

    A lagging queue scales up at once, doubling while it lags; a calm queue loses one process per
    `--calm`. SIGTERM drains, as for `work`.
    """
    names = list(dict.fromkeys(queues)) or list(QUEUES)
    cores = os.cpu_count() or 1
    bounds = Bounds(
        total_max=most or max(2 * cores, least * len(names)),
        queue_min=least,
        target_lag_s=_duration("--target-lag", more["target_lag"]),
        calm_s=_duration("--calm", more["calm"]),
        cores=cores,
    )
    if least * len(names) > bounds.total_max:
        raise click.UsageError(f"--min {least} for {len(names)} queues exceeds --max {most}.")
    threads = int(more["threads"] or settings().threads)
    stop = processes.stop_on_signals()
    with session.opened(role_of_its_own=True, migrated=more["parent"] is None):
        if as_json:
            announce({"role": "autoscale", "pid": os.getpid()})
        crews = [Crew(name, threads, need=Need(least)) for name in names]
        try:
            _keep(crews, bounds, stop)
        finally:
            _end(crews)


def _duration(option: str, text: str | int | None) -> float:
    try:
        found = seconds(str(text))
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}.") from None
    if found <= 0:
        raise click.UsageError(f"{option} must be above 0.")
    return found


def _keep(crews: Sequence[Crew], bounds: Bounds, stop: threading.Event) -> None:
    psutil.cpu_percent()  # the first value is meaningless; later ones cover the time between calls
    while True:
        try:
            loads = _loads(crews)
        except (ServerUnavailable, psycopg.Error) as error:
            outages.note(error)
        else:
            cpu, now = psutil.cpu_percent() / 100, time.monotonic()
            for crew, load in zip(crews, loads, strict=True):
                crew.need = scaling.next_need(crew.need, load, bounds, now, cpu_share=cpu)
        given = scaling.shares({crew.queue: crew.need for crew in crews}, bounds)
        for crew in crews:
            crew.keep(given[crew.queue])
        if stop.wait(EVERY_S):
            return


def _loads(crews: Sequence[Crew]) -> list[Load]:
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = workers.select_loads(conn, [crew.queue for crew in crews])
    return [
        Load(row.ready, row.running, row.oldest_s, row.processes, crew.threads)
        for crew, row in zip(crews, rows, strict=True)
    ]


def _end(crews: Sequence[Crew]) -> None:
    for crew in crews:
        crew.end()
    deadline = time.monotonic() + settings().grace_s + KILL_AFTER_GRACE_S
    for crew in crews:
        if crew.process is None:
            continue
        try:
            crew.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("role.killed", role="work", queue=crew.queue)
            crew.process.kill()
            crew.process.wait()
