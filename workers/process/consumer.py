"""The guarded consumer: it checks each wake-up and claims its job before any thread sees it.

It waits in one blocking Redis call, so idle workers cost nothing and start in milliseconds. The
claim in Postgres is the acknowledgement: a wake-up lost on the way is sent again by the relay, a
second copy finds its job taken, and Redis keeps no state of ours that could go wrong.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import dramatiq
import psycopg
import redis
import structlog
from dramatiq.broker import Consumer, MessageProxy

from shared import db
from shared.contracts import CONTRACTS
from shared.db import Role
from shared.errors import PermanentError, ServerUnavailable, UnknownJob
from shared.ids import JobId
from shared.ledger.outbox import Lease
from shared.ledger.wakeups import AWAY, BLOCK_S, BadWakeup, Wire, is_wrong_type, mend
from shared.observability import outages
from shared.queries.ledger import job_kinds, outbox, quarantines
from shared.server_errors import REDIS
from workers.process import settlement
from workers.process.leases import HeldLeases

log = structlog.get_logger()

CLAIM_MAX = 100
NAME_CHARS_MAX = 200
AHEAD_S = 0.25
WORKER_VERSION_WAIT_S = 60.0
_AWAY_S = 1.0
_ROOM_S = 1.0
_BYTES_KEPT = 64 * 1024
_SMOOTHING = 0.2

# The kinds of jobs that this process has an actor for.
served: set[str] = set()


@dataclass(slots=True)
class Unit:
    """The work of one thread: the leases of one job, or of a batch of one tenant's jobs."""

    leases: list[Lease]
    took_s: float = 0.0


class LedgerConsumer(Consumer):
    """Wake-ups of one queue in, claimed jobs out.

    It takes ahead of the threads only what they will begin within about `AHEAD_S` at the pace of
    late: long jobs are left for other processes, short ones are claimed a hundred at a time.
    """

    def __init__(
        self,
        queue: str,
        *,
        client: redis.Redis,
        wire: Wire,
        held: HeldLeases,
        worker_id: str,
        limits: tuple[int, float],
    ) -> None:
        self._queue = queue
        self._wire = wire
        self._held = held
        self._worker_id = worker_id
        self._threads, self._lease_s = limits
        self._client = client
        self._blocking: redis.Redis = client.client()  # type: ignore[no-untyped-call]  # one connection, so that it can be unblocked by its id
        self._blocking_id: int | None = None
        self._ready: deque[MessageProxy] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._outstanding = 0
        self._pace_s: float | None = None

    def __next__(self) -> MessageProxy | None:
        """The next message for a thread, or None when there was none for a while."""
        if not self._ready and not self._stopping.is_set():
            try:
                self._fill()
            except AWAY as error:
                self._wait_for_redis(error)
            except (ServerUnavailable, psycopg.Error) as error:
                # The wake-ups in hand are dropped: their flights are still open, and sent again.
                outages.note(error, queue=self._queue)
                self._stopping.wait(_AWAY_S)
        return self._ready.popleft() if self._ready else None

    def _wait_for_redis(self, error: Exception) -> None:
        if is_wrong_type(error):
            mend(self._client, self._wire.queue_key(self._queue))
            return
        outages.note(error, queue=self._queue)
        self._blocking_id = None
        self._stopping.wait(_AWAY_S)

    def ack(self, message: MessageProxy) -> None:
        """Note that a thread is done with a message, whatever the outcome."""
        unit = message.args[0]
        pace = unit.took_s / len(unit.leases)
        with self._changed:
            self._outstanding -= len(unit.leases)
            before = pace if self._pace_s is None else self._pace_s
            self._pace_s = before + _SMOOTHING * (pace - before)
            if self._outstanding <= self._refill_at():
                self._changed.notify()

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give back jobs that no thread has begun."""
        leases = [lease for message in messages for lease in message.args[0].leases]
        if leases:
            settlement.give_back(leases)
            self._held.drop(leases)

    def stop(self) -> None:
        """Stop taking messages, and end a blocking read now without losing its messages."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        if self._blocking_id is not None:
            try:
                self._client.client_unblock(self._blocking_id)
            except AWAY as error:
                outages.note(error, queue=self._queue)

    def close(self) -> None:
        """Return unstarted jobs and free the connection."""
        self.requeue(self._ready)
        self._ready.clear()
        self._blocking.close()

    def _fill(self) -> None:
        room = self._wait_for_room()
        if not room or self._stopping.is_set():
            return
        messages = self._pop(room)
        if not messages:
            return
        leases = self._claim(self._checked(messages))
        self._held.take(leases)
        with self._changed:
            self._outstanding += len(leases)
        self._ready.extend(self._message(unit) for unit in self._units(leases))

    def _limit(self) -> int:
        if self._pace_s is None:
            return self._threads
        ahead = AHEAD_S * self._threads / max(self._pace_s, 1e-6)
        return int(min(max(ahead, self._threads), 2 * CLAIM_MAX))

    def _refill_at(self) -> int:
        # Short jobs are refilled at half: claims come in large groups and no thread runs dry.
        # Long ones one by one: a thread that is free is worth a claim of its own.
        limit = self._limit()
        return limit // 2 if limit > 2 * self._threads else limit - 1

    def _wait_for_room(self) -> int:
        with self._changed:
            if self._outstanding > self._refill_at():
                self._changed.wait(_ROOM_S)
            if self._outstanding > self._refill_at():
                return 0
            return min(self._limit() - self._outstanding, CLAIM_MAX)

    def _pop(self, room: int) -> list[bytes]:
        if self._blocking_id is None:
            self._blocking_id = int(self._blocking.client_id())
        answer = self._blocking.blmpop(
            BLOCK_S, 1, self._wire.queue_key(self._queue), direction="LEFT", count=room
        )
        outages.worked(REDIS)
        return [bytes(message) for message in answer[1]] if answer else []  # type: ignore[arg-type]

    def _checked(self, messages: Sequence[bytes]) -> dict[tuple[JobId, int], bytes]:
        wakeups: dict[tuple[JobId, int], bytes] = {}
        bad: list[quarantines.BadMessage] = []
        for message in messages:
            try:
                wakeups[self._wire.read(self._queue, message)] = message
            except BadWakeup as error:
                bad.append(_bad(error.reason, message))
        self._quarantine(bad)
        return wakeups

    def _claim(self, wakeups: dict[tuple[JobId, int], bytes]) -> list[Lease]:
        if not wakeups:
            return []
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            rows = outbox.claim(conn, list(wakeups), worker=self._worker_id, lease_s=self._lease_s)
            leases = [Lease(*row) for row in rows]
            unknown: list[JobId] = []
            strangers = [lease.job for lease in leases if lease.job not in CONTRACTS]
            unregistered = job_kinds.select_unregistered(conn, strangers) if strangers else set()
            if len(leases) < len(wakeups):
                claimed = {lease.job_id for lease in leases}
                stale = [job_id for job_id, _ in wakeups if job_id not in claimed]
                unknown = outbox.select_unknown(conn, stale)
        self._quarantine(
            [_bad("no_such_job", raw) for (job_id, _), raw in wakeups.items() if job_id in unknown]
        )
        order = {job_id: position for position, (job_id, _) in enumerate(wakeups)}
        leases.sort(key=lambda lease: order[lease.job_id])
        return [lease for lease in leases if self._understood(lease, unregistered)]

    def _understood(self, lease: Lease, unregistered: set[str]) -> bool:
        """Whether this process can do a job; otherwise it is buried, or waits for one that can."""
        contract = CONTRACTS.get(lease.job)
        if contract is None and lease.job in unregistered:
            settlement.settle(lease, _unknown(lease.job))
        elif contract is None or lease.schema_version > contract.schema_version:
            settlement.postpone(
                lease,
                waiting_for="worker_version",
                delay_s=WORKER_VERSION_WAIT_S,
                why=f"this worker does not support version {lease.schema_version} of {lease.job}",
            )
        elif lease.job not in served:
            settlement.settle(lease, _without_actor(lease.job, self._queue, contract.queue_name))
        else:
            return True
        return False

    def _quarantine(self, bad: Sequence[quarantines.BadMessage]) -> None:
        if not bad:
            return
        log.error(
            "message.quarantined", queue=self._queue, reasons=[one.reason for one in bad][:10]
        )
        with db.transaction(None, role=Role.RELAY) as conn:
            quarantines.insert_quarantined(conn, self._queue, bad)

    def _units(self, leases: list[Lease]) -> Iterable[Unit]:
        leases = sorted(
            leases, key=lambda lease: (lease.job, lease.tenant_id)
        )  # stable: keeps order
        for (job, _), group in groupby(leases, key=lambda lease: (lease.job, lease.tenant_id)):
            several, size = list(group), CONTRACTS[job].batch_max
            for start in range(0, len(several), size):
                yield Unit(several[start : start + size])

    def _message(self, unit: Unit) -> MessageProxy:
        first = unit.leases[0]
        return MessageProxy(
            dramatiq.Message(
                queue_name=self._queue,
                actor_name=first.job,
                args=(unit,),
                kwargs={},
                options={},
                message_id=first.job_id,
                message_timestamp=0,
            )
        )


def _unknown(job: str) -> UnknownJob:
    return UnknownJob(
        f"No process has registered a job named {job[:NAME_CHARS_MAX]!r}: correct the name, or add "
        f"the module of its contract to AILYDIAN_PLUGINS, run `ailydian migrate` and replay it."
    )


def _without_actor(job: str, queue: str, its_queue: str) -> PermanentError:
    if queue != its_queue:
        return PermanentError(
            f"{job} is a job of the queue {its_queue}; a worker of {queue} has no actor for it: "
            f'publish it without "queue".'
        )
    return PermanentError(
        f"No actor of this process does {job}: its module must be in AILYDIAN_PLUGINS, with "
        f"@actor on a function."
    )


def _bad(reason: str, message: bytes) -> quarantines.BadMessage:
    digest = hashlib.sha256(message).hexdigest()
    return quarantines.BadMessage(reason, message[:_BYTES_KEPT], len(message), digest)
