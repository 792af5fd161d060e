"""The relay: sends due jobs to Redis, resends lost wake-ups, recovers expired leases.

It wakes up by LISTEN, and once a second in any case. It commits before it sends: wake-ups lost in
between are in "JobFlight" and are sent again. `producers.ledger.dispatch` decides which jobs go
next. Several relays take turns.
"""

import os
import secrets
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby

import psycopg
import redis
import structlog

from producers.ledger import dispatch, event_counters, notifications, unsendable
from producers.ledger.dispatch import LimitUsage, Rules
from producers.ledger.lane_looks import LaneLooks
from producers.queries.ledger import flights, job_limits, pauses
from shared import db
from shared.contracts import QUEUES
from shared.db import Connection, Role
from shared.errors import ServerUnavailable, TransactionInterrupted
from shared.ledger import lapsed_leases
from shared.ledger.wakeups import AWAY, WAKEUP_BYTES_MAX, Wire, is_wrong_type, mend
from shared.observability import outages
from shared.queries.ledger import dispatches, workers
from shared.queries.ledger.dispatches import BEFORE_ALL, Lane, Taken, Wakeup
from shared.queries.ledger.workers import Process
from shared.queries.workflow import workflow_steps
from shared.server_errors import REDIS
from shared.settings import Settings

log = structlog.get_logger()

CHANNEL = "ailydian_outbox"
WINDOW_MIN = 64
LAPSED_MAX = 500
RESEND_MAX = 1_000
FORGOTTEN_S = 60.0
DEPTH_EVERY_S = 5.0
SWEEP_S_MAX = 5.0
SILENT_S = 60.0
IDLE_S = 1.0
BUSY_S_MIN, BUSY_S_MAX = 0.005, 0.25
# How often ended jobs are counted and notified, and how long after the last activity so often.
FOLD_EVERY_S = 0.2
LIVELY_S = 10.0
SEEN_EVERY_S = 5.0
# Workflow waits ended by one transaction, and the minimum time between two.
WAITS_MAX = 500
FIRE_EVERY_S = 0.02
# Lanes of a queue read in one round; with more, rounds rotate.
LANES_MAX = 1_000
RULES_EVERY_S = 0.1
_AWAY_S = 1.0


class Window:
    """The maximum wake-ups of a queue in Redis: what its workers need, and not much more.

    A short window keeps order, fairness and pauses under Postgres's control. A window that was full
    and is found empty is doubled; one that hardly moves is shortened.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = min(WINDOW_MIN, most)
        self._size = self._least
        self._was_full = False

    def room(self, length: int) -> int:
        """Return how many more to send while `length` wait in Redis."""
        if length == 0 and self._was_full:
            self._size = min(self._size * 2, self._most)
        elif length > self._size * 3 // 4:
            self._size = max(self._size * 15 // 16, self._least)
        return self._size - length if length <= self._size // 2 else 0

    def filled(self, *, full: bool) -> None:
        """Record whether the window was filled."""
        self._was_full = full


class Relay:
    """A relay; `run` is its main loop, `step` one dispatch round."""

    def __init__(self, config: Settings, client: redis.Redis, wire: Wire) -> None:
        self._config = config
        self._client = client
        self._wire = wire
        self._windows = {queue: Window(config.queue_window) for queue in QUEUES}
        self._after = dict.fromkeys(QUEUES, BEFORE_ALL)
        self._looks = LaneLooks()
        self._rules = Rules()
        self._rules_at = 0.0
        self._sweep_at = self._depth_at = self._fold_at = self._seen_at = self._fire_at = 0.0
        self._lapse_at = 0.0
        self._redis_ok = True
        pid, host = os.getpid(), socket.gethostname()
        self._me = Process(f"{host}-{pid}-{secrets.token_hex(4)}", host, pid, "relay")
        self._lively_until = 0.0
        self._look_s = BUSY_S_MIN

    def run(self, listen_url: str, stop: threading.Event) -> None:
        """Relay until stopped, through outages of Redis and Postgres."""
        log.info("relay.started")
        wait_s = 0.0
        while not stop.is_set():
            try:
                with notifications.listening(listen_url, CHANNEL) as listener:
                    while not stop.is_set():
                        listener.wait(wait_s)
                        wait_s = self._turn()
            except (ServerUnavailable, psycopg.Error) as error:
                outages.note(error)
                if not isinstance(error, TransactionInterrupted):
                    # Workers whose leases have lapsed meanwhile may live: first they can renew.
                    self._lapse_at = time.monotonic() + self._config.lease_s
                stop.wait(_AWAY_S)
        with (
            suppress(ServerUnavailable, psycopg.Error),
            db.transaction(None, role=Role.RELAY) as conn,
        ):
            workers.delete_process(conn, self._me.id)
        log.info("relay.stopped")

    def _turn(self) -> float:
        """Run one turn of the loop. Returns seconds to wait for the next."""
        now = time.monotonic()
        if now >= self._seen_at:
            self._seen_at = now + SEEN_EVERY_S
            self._show_sign_of_life()
        self._fold_in_time()
        if now >= self._fire_at:
            self._fire_at = now + self.fire()
        try:
            if now >= self._sweep_at:
                self.sweep()
                # It passes dead rows, too: with many it may take one part in fifty of the time.
                took_s = time.monotonic() - now
                self._sweep_at = now + max(self._config.sweep_s, min(50 * took_s, SWEEP_S_MAX))
                self._fold_in_time()
            waits = self.step()
        except AWAY as error:
            outages.note(error)
            self._redis_ok = False
            self.take_back_lapsed()
            return _AWAY_S
        self._redis_ok = True
        outages.worked(REDIS)
        if waits:
            return self._look_s
        self._look_s = BUSY_S_MIN
        lively = time.monotonic() < self._lively_until
        idle_s = FOLD_EVERY_S if lively else min(IDLE_S, self._config.sweep_s)
        return min(idle_s, max(self._fire_at - time.monotonic(), 0.0))

    def _fold_in_time(self) -> None:
        """Fold, if it is time: between what may take long, so that nobody is told late."""
        if time.monotonic() >= self._fold_at:
            more = self.fold()
            self._fold_at = time.monotonic() + (0.0 if more else FOLD_EVERY_S)

    def _show_sign_of_life(self) -> None:
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            workers.upsert_process(conn, self._me, {"redisOk": self._redis_ok})

    def fire(self) -> float:
        """End due workflow waits. Returns seconds until the next call."""
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            if workflow_steps.fire_waits(conn, limit=WAITS_MAX) == WAITS_MAX:
                return 0.0
            due_s = workflow_steps.next_due_s(conn)
        return IDLE_S if due_s is None else min(max(due_s, FIRE_EVERY_S), IDLE_S)

    def fold(self) -> bool:
        """Count ended jobs, finish batches, notify followers. Returns whether more wait."""
        with db.transaction(None, role=Role.RELAY) as conn:
            folded = event_counters.fold(conn)
        if folded.events:
            self._lively_until = time.monotonic() + LIVELY_S
        return folded.more

    def step(self) -> bool:
        """Send due jobs within the window.

        Returns:
            Whether to continue soon: more jobs may wait than were sent.
        """
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            self._read_rules(conn)
            lanes = self._looks.look(conn, self._after, limit=LANES_MAX)
        going_round = self._go_round(lanes)
        lengths = self._lengths(sorted({lane.queue for lane in lanes if lane.due_s >= 0}))
        room = {queue: self._windows[queue].room(length) for queue, length in lengths.items()}
        taken = self._take(lanes, {queue: free for queue, free in room.items() if free})
        self.send(row.wakeup for row in taken)
        if taken:
            self._lively_until = time.monotonic() + LIVELY_S
        sent = Counter(row.wakeup.queue for row in taken)
        for queue, free in room.items():
            if free:
                self._windows[queue].filled(full=sent[queue] >= free)
        # A list that no worker empties is checked less and less often.
        slowest = dispatch.LOOK_S / 2 if self._rules.limits else BUSY_S_MAX
        self._look_s = BUSY_S_MIN if taken or going_round else min(self._look_s * 2, slowest)
        # Not only after a full window: a small tenant leaves a part of its share unused.
        return bool(lengths) or going_round

    def _read_rules(self, conn: Connection) -> None:
        now = time.monotonic()
        if now - self._rules_at >= RULES_EVERY_S:
            self._rules = Rules(pauses.select_pauses(conn), job_limits.select_limits(conn))
            self._rules_at = now

    def _go_round(self, lanes: Sequence[Lane]) -> bool:
        """Record where the next round starts. Returns whether more lanes are left."""
        seen: dict[str, list[Lane]] = defaultdict(list)
        for lane in lanes:
            seen[lane.queue].append(lane)
        self._after = {
            queue: seen[queue][-1].place if len(seen[queue]) >= LANES_MAX else BEFORE_ALL
            for queue in QUEUES
        }
        return any(place != BEFORE_ALL for place in self._after.values())

    def _take(self, lanes: Sequence[Lane], room: Mapping[str, int]) -> list[Taken]:
        """Take the jobs to dispatch. Limits are counted while no other relay takes jobs."""
        if not room:
            return []
        first = dispatches.TAKE_TURNS
        with db.transaction(None, role=Role.RELAY, first=first, durable=False) as conn:
            use = self._use(conn)
            shares = dispatch.shares(lanes, room, self._rules, use)
            if not shares:
                return []
            taken = dispatches.take(conn, shares, ageing_s=dispatch.AGEING_S)
            if self._rules.limits:
                spent = dispatch.spent(taken, lanes, self._rules)
                if spent:
                    job_limits.spend(conn, spent)
        return taken

    def _use(self, conn: Connection) -> LimitUsage:
        if not self._rules.limits:
            return LimitUsage()
        ids = [limit.id for limit in self._rules.limits if limit.rate_per_s]
        return LimitUsage(job_limits.count_in_flight(conn), job_limits.select_spent(conn, ids))

    def send(self, wakeups: Iterable[Wakeup]) -> None:
        """Push wake-ups to their queues, in one round trip."""
        ordered = sorted(wakeups, key=lambda wakeup: wakeup.queue)  # stable: keeps order within
        if not ordered:
            return
        too_long: list[Wakeup] = []
        with self._client.pipeline(transaction=False) as pipe:
            for queue, group in groupby(ordered, key=lambda wakeup: wakeup.queue):
                messages = []
                for one in group:
                    message = self._wire.wakeup(queue, one.job_id, one.attempt)
                    if len(message) <= WAKEUP_BYTES_MAX:
                        messages.append(message)
                    else:
                        too_long.append(one)
                if messages:
                    pipe.rpush(self._wire.queue_key(queue), *messages)
            pipe.execute()
        unsendable.bury(too_long)

    def sweep(self) -> None:
        """Recover expired leases, resend lost wake-ups, count waiting jobs."""
        whole = flights.READ_WHOLE
        with db.transaction(None, role=Role.RELAY, first=whole, durable=False) as conn:
            found = flights.select_flights(
                conn, older_s=min(self._config.redelivery_s, FORGOTTEN_S)
            )
        if any(one.lapsed for one in found):
            self.take_back_lapsed()
        if self._rules.pauses or any(one.stale for one in found):
            with db.transaction(None, role=Role.RELAY, durable=False) as conn:
                flights.delete_stale(conn)
                if self._rules.pauses:
                    pauses.withdraw(conn)
        self._resend_lost({one.queue: one.waiting for one in found if one.late})
        if time.monotonic() >= self._depth_at:
            self._fold_in_time()
            began = time.monotonic()
            with db.transaction(None, role=Role.RELAY) as conn:
                most = self._config.queue_depth_max
                dispatches.measure_depth(conn, list(QUEUES), depth_max=most)
                share = max(1, most * self._config.tenant_depth_percent // 100)
                dispatches.measure_tenants(conn, depth_max=share)
                workers.delete_silent(conn, silent_s=SILENT_S)
                job_limits.delete_unspent(conn)
            # Counting a million rows takes a while: spend at most one part in a hundred on it.
            self._depth_at = began + max(DEPTH_EVERY_S, 100 * (time.monotonic() - began))

    def _resend_lost(self, waiting: Mapping[str, int]) -> None:
        """Resend unclaimed wake-ups of these queues; it is known how many there are."""
        if not waiting:
            self._lengths([])  # finds a wiped Redis
            return
        lengths = self._lengths(list(waiting))
        empty = [queue for queue, length in lengths.items() if length == 0]
        # An old wake-up is not lost yet: without workers it is still in the list.
        short = [queue for queue, length in lengths.items() if 0 < length < waiting[queue]]
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            lost = dispatches.resend(
                conn, empty, older_s=self._config.redelivery_s, limit=RESEND_MAX
            )
            lost += dispatches.resend(conn, short, older_s=FORGOTTEN_S, limit=RESEND_MAX)
        if lost:
            log.warning("wakeups.resent", count=len(lost))
            self.send(lost)

    def take_back_lapsed(self) -> None:
        """Give jobs with an expired lease their next attempt, or make them dead letters."""
        if time.monotonic() < self._lapse_at:
            return
        with db.transaction(None, role=Role.RELAY) as conn:
            lapsed = dispatches.select_lapsed(conn, limit=LAPSED_MAX)
            again, buried = lapsed_leases.take_back(
                conn,
                lapsed,
                crashed=[job.job_id for job in lapsed],
                error_type="LeaseLapsed",
                error="The worker died or hung: its lease expired.",
            )
        if lapsed:
            log.warning("leases.lapsed", again=again, buried=buried)

    def _lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Count the wake-ups in these queues; detects a wiped Redis and refills it."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.set(self._wire.epoch_key, secrets.token_hex(8), nx=True)
            for queue in queues:
                pipe.llen(self._wire.queue_key(queue))
            wiped, *lengths = pipe.execute(raise_on_error=False)
        found = dict(zip(queues, lengths, strict=True))
        for queue, length in found.items():
            if is_wrong_type(length):  # one damaged key must not stop the other queues
                mend(self._client, self._wire.queue_key(queue))
                found[queue] = 0
        broken = next((one for one in (wiped, *found.values()) if isinstance(one, Exception)), None)
        if broken is not None:
            raise broken
        if wiped:
            self._refill()
            return dict.fromkeys(queues, self._config.queue_window)
        return found

    def _refill(self) -> None:
        missing: list[Wakeup] = []
        with db.transaction(None, role=Role.RELAY) as conn:
            # One transaction, in which now() stands still: what a round marks, the next leaves.
            while lost := dispatches.resend(conn, list(QUEUES), older_s=0.0, limit=RESEND_MAX):
                missing += lost
        self.send(missing)
        if missing:
            log.warning("redis.refilled", count=len(missing))
