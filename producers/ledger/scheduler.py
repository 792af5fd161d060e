"""The scheduler: cron schedules and system sweeps. Several schedulers share the work.

Tenants' schedules become jobs in one thread, which polls once a second and exactly when a slot is
due. System sweeps are schedules too, each in its own thread, so that a long one delays nothing
else. The relay does the lease sweep and the refill of Redis.
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

from producers.accounts import account_sweep
from producers.ledger import bulk_actions, retention, schedule_slots, schedules, webhooks
from producers.ledger.schedule_slots import CronRefused, TimeZoneUnknown, Timing
from producers.operations import (
    audit_keys,
    audit_log,
    audit_sealing,
    audit_sinks,
    incident_sweep,
    incident_webhook,
    platform_changes,
)
from producers.queries.ledger import bulk_actions as bulk_queries
from producers.queries.ledger import http_answers
from producers.queries.ledger import schedules as queries
from producers.workflow import run_sweep
from shared import db
from shared.db import Role
from shared.errors import AilydianError, QueueFull, ServerUnavailable
from shared.observability import outages
from shared.queries.ledger import workers
from shared.queries.ledger.workers import Process
from shared.settings import settings

log = structlog.get_logger()

LOOK_S = 1.0
AWAY_S = 1.0
BEAT_S = 2.0
ANSWERS_KEPT_S, ANSWERS_MAX = 86_400.0, 10_000
ACTIONS_KEPT_S = 30 * 86_400.0
FAULTS_MAX = 20  # that one line of the log tells of


@dataclass(frozen=True, slots=True)
class Sweep:
    """A system sweep and its default schedule.

    `at_start`: whether it also runs when a scheduler starts.
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


def _answers(stop: threading.Event) -> None:
    while not stop.is_set():
        with db.transaction(None, role=Role.RELAY) as conn:
            deleted = http_answers.delete_old(conn, kept_s=ANSWERS_KEPT_S, limit=ANSWERS_MAX)
            bulk_queries.delete_old(conn, kept_s=ACTIONS_KEPT_S, limit=ANSWERS_MAX)
        if deleted < ANSWERS_MAX:
            return


def _actions(stop: threading.Event) -> None:
    bulk_actions.run_due(stop)


def _accounts(_: threading.Event) -> None:
    account_sweep.sweep()


def _seals(stop: threading.Event) -> None:
    audit_sealing.sweep(audit_keys.audit_keys(settings()), stop)


def _checkpoints(stop: threading.Event) -> None:
    audit_sinks.sweep(settings(), stop)


def _audit(_: threading.Event) -> None:
    found = audit_log.verify_audit(settings())
    if not found.ok:
        log.error("audit.broken", faults=[fault.sentence for fault in found.faults[:FAULTS_MAX]])


# By the name in "Schedule"."sweep"; no change of the platform waits longer than a minute.
SWEEPS: Mapping[str, Sweep] = {
    "platform": Sweep("*/15 * * * * *", _platform, at_start=True),
    "retention": Sweep("17 * * * *", _retention),
    "answers": Sweep("*/5 * * * *", _answers),
    "accounts": Sweep("*/5 * * * *", _accounts),
    "runs": Sweep("*/30 * * * * *", _runs),
    "incidents": Sweep("*/15 * * * * *", _incidents),
    "actions": Sweep("*/2 * * * * *", _actions, at_start=True),
    "notices": Sweep("*/5 * * * * *", _notices),
    "webhooks": Sweep("*/2 * * * * *", webhooks.sweep),
    "seals": Sweep("* * * * * *", _seals, at_start=True),
    "checkpoints": Sweep("* * * * * *", _checkpoints, at_start=True),
    "audit": Sweep("41 3 * * *", _audit),
}


def run(stop: threading.Event) -> None:
    """Run what is due until stopped, through outages of Postgres."""
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
    if broken:  # a bug ends the process: the process manager restarts it
        raise broken[0]
    log.info("scheduler.stopped")


def put_sweep(name: str) -> None:
    """Insert the row of a system sweep; make it due if it runs at start."""
    sweep = SWEEPS[name]
    with db.transaction(None, role=Role.RELAY) as conn:
        queries.put_sweep(conn, name, sweep.cron, at_once=sweep.at_start)


def sweep_if_due(name: str, stop: threading.Event) -> bool:
    """Claim the slot of a sweep and run it; only one of several schedulers does.

    The schedule moves to its next slot before the sweep starts: after a crash the next slot
    continues where the sweep ended.

    Returns:
        Whether this process claimed it.
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
    except QueueFull as error:  # its work stays on its list
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
    """The thread that turns tenants' schedules into jobs and sends heartbeats."""

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
        """Publish what is due. Returns seconds to wait for the next turn."""
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
        """Delete this process's heartbeat row; on failure it expires by itself."""
        with (
            suppress(ServerUnavailable, psycopg.Error),
            db.transaction(None, role=Role.RELAY) as conn,
        ):
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
    """Run turns until stopped; each returns seconds to wait for the next."""
    while True:
        try:
            wait_s = turn()
        except (ServerUnavailable, psycopg.Error) as error:
            outages.note(error)
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
