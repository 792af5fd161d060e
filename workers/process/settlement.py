"""Settlement of attempts: completed in groups, retried later, or moved to the dead letters."""

import random
import resource
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial

import psycopg
import structlog

from shared import db
from shared.contracts import CONTRACTS
from shared.db import Role
from shared.errors import (
    LeaseLost,
    PermanentError,
    ServerUnavailable,
    TimeLimitExceeded,
    TransactionInterrupted,
    TransientError,
    UsageError,
)
from shared.ledger.outbox import Lease
from shared.observability import error_texts, outages
from shared.observability.redaction import redact
from shared.queries.ledger import attempts
from shared.workflow.retries import retry_wait_s
from workers.domain.ledger import failure
from workers.process import unsettled
from workers.process.leases import HeldLeases

log = structlog.get_logger()

GROUP_MAX = 50
GROUP_S = 0.005
TRACEBACK_CHARS_MAX = 20_000
SETTLE_TRIES = 3
# The longest wait of a job that a server in trouble has stopped.
SERVER_S_MAX = 60.0
# A job's own statements may be what is always interrupted: after so many tries without an attempt,
# each costs one.
INTERRUPTED_MAX = 20
_AGAIN_S = 1.0
_PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1_024  # in what the system counts its peak
_rng = random.Random()  # noqa: S311 - jitter, not secrecy


class JobCompleter:
    """Completes jobs that wrote nothing themselves, up to `GROUP_MAX` of them in a transaction."""

    def __init__(self, held: HeldLeases) -> None:
        self._held = held
        self._waiting: list[Lease] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="completion", daemon=True)

    def start(self) -> None:
        """Start the thread that commits the groups."""
        self._thread.start()

    def add(self, lease: Lease) -> None:
        """Complete a job whose actor has returned; its commit follows within `GROUP_S`."""
        with self._changed:
            self._waiting.append(lease)
            if len(self._waiting) in (1, GROUP_MAX):
                self._changed.notify()

    def stop(self) -> None:
        """Commit the pending group and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)

    def _next_group(self) -> list[Lease]:
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            if len(self._waiting) < GROUP_MAX and not self._stopping:
                self._changed.wait(GROUP_S)
            group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
            return group

    def _commit(self, group: list[Lease]) -> None:
        held = [(lease.job_id, lease.fence) for lease in group]
        while True:
            try:
                with db.transaction(None, role=Role.RELAY, durable=False) as conn:
                    completed = attempts.complete(conn, held)
            except ServerUnavailable as error:
                outages.note(error)
                if self._stopping:
                    return  # they are given back with what else is held
                time.sleep(_AGAIN_S)
                continue
            except psycopg.Error as error:
                # Nothing was completed: the leases lapse, and the jobs are done again.
                log.error("completion.failed", jobs=len(held), error=db.sentence(error))
                self._held.drop(group)
                return
            if completed < len(held):
                log.warning("lease.lost", jobs=len(held) - completed)
            self._held.drop(group)
            return


def settle(lease: Lease, error: BaseException) -> None:
    """Record a failed attempt and its consequence: a retry, or a dead letter.

    A cause outside the job, such as an exhausted quota, parks it and uses up no attempt.

    While Postgres is in trouble the outcome waits in `unsettled`, its lease held. If Postgres
    refuses it, the lease expires, and the sweep takes the job back as from a dead worker. No
    exception leaves.
    """
    for left in reversed(range(SETTLE_TRIES)):
        try:
            _record(lease, error)
            return
        except ServerUnavailable as trouble:
            if left and isinstance(trouble, TransactionInterrupted):
                continue
            outages.note(trouble)
            if unsettled.attempts is not None:
                unsettled.attempts.add(lease, partial(_record, lease, error))
            return
        except psycopg.Error as refused:
            log.error("job.unsettled", **_names(lease), error=db.sentence(refused))
            return
        except BaseException as broken:  # such as an interruption that came late
            if not left:
                log.error("job.unsettled", **_names(lease), error=db.sentence(broken))
            elif left == 1:  # the error itself is the obstacle, and its class all we can have
                names = error_texts.class_name(error), error_texts.class_name(broken)
                error = RuntimeError("{}, an error that cannot be read: {}".format(*names))


def _record(lease: Lease, error: BaseException) -> None:
    if isinstance(error, LeaseLost):
        log.warning("lease.lost", job_id=lease.job_id, job=lease.job, attempt=lease.attempt)
        return
    permanent = isinstance(error, PermanentError | UsageError)
    failed = _attempt_failure(lease, error, permanent=permanent)
    _write(lease, error, failed, permanent=permanent)


def _write(
    lease: Lease, error: BaseException, failed: attempts.AttemptFailure, *, permanent: bool
) -> None:
    told = {"error_type": failed.error_type, "error": failed.error}
    with db.transaction(None, role=Role.RELAY) as conn:
        if isinstance(error, ServerUnavailable) and _is_uncounted(lease, error):
            wait = failure.backoff_s(lease.fence - lease.attempt + 1, _rng, max_s=SERVER_S_MAX)
            attempts.retry(conn, failed, delay_s=wait, waiting_for="server", uncounted=True)
            log.warning("job.parked", **_names(lease), **told, retry_s=round(wait, 1))
        elif isinstance(error, TransientError) and not error.counted and not _of_server(error):
            wait, why = failure.park_s(_asked_s(error), _rng), error.waiting_for
            attempts.retry(conn, failed, delay_s=wait, waiting_for=why, uncounted=True)
            log.warning("job.parked", **_names(lease), **told, retry_s=round(wait))
        elif permanent or lease.attempt >= lease.attempts_max:
            reason = "permanent" if permanent else "exhausted"
            attempts.bury(conn, failed, reason=reason)
            log.error("job.died", **_names(lease), reason=reason, **told)
        else:
            wait = _wait_s(lease, error)
            attempts.retry(conn, failed, delay_s=wait)
            log.warning("job.failed", **_names(lease), **told, retry_s=round(wait, 1))


def _of_server(error: BaseException) -> bool:
    return isinstance(error, ServerUnavailable)


def _is_uncounted(lease: Lease, error: ServerUnavailable) -> bool:
    """Whether a server's trouble uses up no attempt of this job."""
    tries = lease.fence - lease.attempt
    return not isinstance(error, TransactionInterrupted) or tries < INTERRUPTED_MAX


def _attempt_failure(
    lease: Lease, error: BaseException, *, permanent: bool
) -> attempts.AttemptFailure:
    late = isinstance(error, TimeLimitExceeded)
    return attempts.AttemptFailure(
        job_id=lease.job_id,
        fence=lease.fence,
        verdict="refused" if permanent else "timed_out" if late else "failed",
        error_type=error_texts.class_name(error),
        error=redact(error_texts.message_with_notes(error)),
        traceback=error_texts.report(error)[-TRACEBACK_CHARS_MAX:],
        fingerprint=_fingerprint(error),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT_BYTES,
    )


def _wait_s(lease: Lease, error: BaseException) -> float:
    contract = CONTRACTS[lease.job]
    # A row that is older than the ledger's checks may have a backoff that is no wait, such as NaN.
    if lease.backoff_s is not None and lease.backoff_s >= 0:
        wait = failure.jittered_s(retry_wait_s(lease.attempt, lease.backoff_s), _rng)
    else:
        wait = failure.backoff_s(lease.attempt, _rng, max_s=contract.backoff_s_max)
    return max(wait, failure.retry_after_delay_s(_asked_s(error), _rng))


def _asked_s(error: BaseException) -> float | None:
    """The wait that an error asks for; None where a class of one's own set no number."""
    asked = error.retry_after_s if isinstance(error, TransientError) else None
    return float(asked) if isinstance(asked, int | float) else None


def postpone(lease: Lease, *, waiting_for: str, delay_s: float, why: str) -> None:
    """Park a job without using up an attempt."""
    failed = attempts.AttemptFailure(lease.job_id, lease.fence, "lapsed", None, why, None)
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.retry(conn, failed, delay_s=delay_s, waiting_for=waiting_for, uncounted=True)
    log.warning("job.postponed", **_names(lease), waiting_for=waiting_for, why=why)


def give_back(leases: Sequence[Lease]) -> None:
    """Return jobs that were claimed and never started, as if nothing had happened."""
    held = [(lease.job_id, lease.fence) for lease in leases]
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.give_back(conn, held)


def _names(lease: Lease) -> dict[str, object]:
    return {
        "job_id": lease.job_id,
        "job": lease.job,
        "tenant_id": lease.tenant_id,
        "attempt": lease.attempt,
    }


def _fingerprint(error: BaseException) -> str:
    name, text = error_texts.class_name(error), redact(db.sentence(error))
    return failure.fingerprint(name, error_texts.places(error), text)
