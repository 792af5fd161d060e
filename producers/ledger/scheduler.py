"""The scheduler: what is due by the clock. Several at once are safe; they share the work.

Tenants' schedules become jobs in one thread, which looks once a second and exactly when a slot is
due. Sweeps of the system are schedules too, each in a thread of its own, so that a long one keeps
nobody waiting. The lease sweep and the refill of Redis are the relay's.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
import psycopg
import structlog

from producers.ledger import retention, schedule_slots, schedules
from producers.ledger.schedule_slots import CronRefused, TimeZoneUnknown, Timing
from producers.operations import incident_sweep, incident_webhook, platform_changes
from producers.queries.ledger import schedules as queries
from producers.workflow import run_sweep
from shared import db
from shared.db import Role
from shared.errors import AilydianError, QueueFull, ServerUnavailable
from shared.queries.ledger import workers
from shared.queries.ledger.workers import Process
from shared.settings import settings

log = structlog.get_logger()

LOOK_S = 1.0
AWAY_S = 1.0
BEAT_S = 2.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the system does by the clock, and how often unless an operator says otherwise.

    `at_start` is whether a scheduler that starts has it done at once.
    """

    cron: str
    run: Callable[[threading.Event], object]
    at_start: bool = False


def _platform(_: threading.Event) -> None:
    taken = platform_changes.sweep()
    if taken:
        log.info("platform.swept", changes=taken)


def _retention(stop: threading.Event) -> None:
    retention.run(settings(), stop=stop)


def _runs(_: threading.Event) -> None:
    run_sweep.sweep()


def _incidents(_: threading.Event) -> None:
    incident_sweep.sweep()


def _notices(stop: threading.Event) -> None:
    incident_webhook.sweep(settings(), stop)


# By the name in "Schedule"."sweep"; nothing that the platform writes waits longer than a minute.
SWEEPS: Mapping[str, Sweep] = {
    "platform": Sweep("*/15 * * * * *", _platform, at_start=True),
    "retention": Sweep("17 * * * *", _retention),
    "runs": Sweep("*/30 * * * * *", _runs),
    "incidents": Sweep("*/15 * * * * *", _incidents),
    "notices": Sweep("*/5 * * * * *", _notices),
}


def run(stop: threading.Event) -> None:
    """Do what is due until told to stop, through every absence of Postgres."""
    log.info("scheduler.started")
    broken: list[BaseException] = []
    threads = [
        threading.Thread(target=_guarded, args=(_keep, (name, stop), stop, broken), name=name)
        for name in SWEEPS
    ]
    for thread in threads:
        thread.start()
    clock = _Clock(threads)
    try:
        _loop(stop, clock.turn)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        clock.gone()
    if broken:  # a fault of ours ends the process: whoever started us starts us again
        raise broken[0]
    log.info("scheduler.stopped")


def put_sweep(name: str) -> None:
    """Make sure that a sweep of the system has its row, and is due if it is one for the start."""
    sweep = SWEEPS[name]
    with db.transaction(None, role=Role.RELAY) as conn:
        queries.put_sweep(conn, name, sweep.cron, at_once=sweep.at_start)


def sweep_if_due(name: str, stop: threading.Event) -> bool:
    """Claim the slot of a sweep and do it; one of several schedulers does.

    The slot is given up for the next before the sweep begins: who dies in it leaves the rest to
    the next slot, as every sweep goes on where the last one ended.

    Returns:
        Whether it was our turn.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        slot = queries.claim_sweep(conn, name)
        if slot is None:
            return False
        timing = Timing(slot.cron, slot.time_zone, slot.jitter_s)
        try:
            plan = schedule_slots.plan(slot.id, timing, slot.slot_at, slot.now)
        except (CronRefused, TimeZoneUnknown) as error:  # by hand: no command writes these rows
            log.warning("sweep.set_aside", sweep=name, error=str(error))
            queries.disable(conn, slot.id, error=str(error))
            return False
        step = queries.ScheduleAdvance(
            slot.id, plan.slot_at, plan.next_at, slot.slot_at, None, None
        )
        queries.advance(conn, [step])
    _do(name, slot.id, stop)
    return True


def _do(name: str, schedule_id: str, stop: threading.Event) -> None:
    failed: Exception | None = None
    try:
        SWEEPS[name].run(stop)
    except QueueFull as error:  # what waits for it stays on its list
        failed = error
        log.warning("sweep.postponed", sweep=name, error=str(error))
    except ServerUnavailable:
        raise
    except (AilydianError, OSError, psycopg.Error) as error:
        failed = error
        log.error("sweep.failed", sweep=name, error=db.sentence(error))
    if failed is not None:
        with db.transaction(None, role=Role.RELAY) as conn:
            queries.note(conn, schedule_id, db.sentence(failed))


def _keep(name: str, stop: threading.Event) -> None:
    put = False

    def turn() -> float:
        nonlocal put
        if not put:
            put_sweep(name)
            put = True
        sweep_if_due(name, stop)
        return LOOK_S

    _loop(stop, turn)


class _Clock:
    """The thread that turns tenants' schedules into jobs, and says how this process is."""

    def __init__(self, threads: Sequence[threading.Thread]) -> None:
        host = socket.gethostname()
        self._me = Process(
            id=f"scheduler-{host}-{os.getpid()}-{secrets.token_hex(3)}",
            host=host,
            pid=os.getpid(),
            role="scheduler",
            threads=len(threads) + 1,
        )
        self._threads = threads
        self._beat_at = 0.0
        self._done = 0

    def turn(self) -> float:
        """Publish what is due. Returns how long to wait for the next turn, in seconds."""
        began = time.monotonic()
        count = schedules.run_due()
        if count:
            self._done += count
            log.info("schedules.run", slots=count, seconds=round(time.monotonic() - began, 3))
        if began >= self._beat_at:
            self._beat()
            self._beat_at = began + BEAT_S
        wait_s = schedules.wait_s()
        return LOOK_S if wait_s is None else min(max(wait_s, 0.0), LOOK_S)

    def gone(self) -> None:
        """Leave the table of those who live; who cannot is silent soon enough."""
        with suppress(ServerUnavailable), db.transaction(None, role=Role.RELAY) as conn:
            workers.delete_process(conn, self._me.id)

    def _beat(self) -> None:
        figures = {
            "rssBytes": psutil.Process().memory_info().rss,
            "cpuS": round(time.process_time(), 3),
            "threadsAlive": 1 + sum(thread.is_alive() for thread in self._threads),
            "done": self._done,
        }
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            workers.upsert_process(conn, self._me, figures)


def _loop(stop: threading.Event, turn: Callable[[], float]) -> None:
    """Take turns until told to stop; each says how long to wait for the next, in seconds."""
    while True:
        try:
            wait_s = turn()
        except ServerUnavailable as error:
            log.warning("postgres.away", error=str(error))
            wait_s = AWAY_S
        if stop.wait(wait_s):
            return


def _guarded(
    work: Callable[[str, threading.Event], None],
    arguments: tuple[str, threading.Event],
    stop: threading.Event,
    broken: list[BaseException],
) -> None:
    try:
        work(*arguments)
    except BaseException as error:
        broken.append(error)
        stop.set()
