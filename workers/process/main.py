"""A worker process: connects, runs jobs of its queues until told to stop, and exits cleanly.

Started by `workers.process.supervisor`, once a child; by hand:
`python -m workers.process.main --queues ingest`.
"""

import argparse
import ctypes
import importlib
import mmap
import os
import queue
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dramatiq
import psycopg
import structlog

from shared import connections, db, forks, plugins
from shared.contracts import CONTRACTS, QUEUES, IngestDocument
from shared.db import Role
from shared.errors import ConfigurationBroken, ServerUnavailable
from shared.ledger import plugin_kinds
from shared.ledger import wakeups as wire
from shared.ledger.wakeups import Wire
from shared.models import providers, spending
from shared.observability import log_files, outages, telemetry
from shared.queries.ledger import attempts, workers
from shared.queries.ledger.workers import Process
from shared.servers import embedded
from shared.settings import Settings, settings
from shared.workflow.live_texts import LiveTexts
from workers import sandbox_level
from workers.cache import semantic_cache
from workers.process import signals, start_checks, thread_stacks, unsettled
from workers.process.broker import Runtime, broker
from workers.process.heartbeat import Heartbeat
from workers.process.leases import SLOTS_BYTES, HeldLeases, Slots
from workers.process.settlement import JobCompleter
from workers.process.signals import Bell
from workers.sandbox_probe import forbid_dumps
from workers.steps import live_text

log = structlog.get_logger()

TICK_S = 0.5
FINISH_TICK_S = 0.05
ASK_REDIS_S = 0.5
CACHE_REDIS_S = 0.3  # an answer does not wait for Redis
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one worker process; see `--help`."""
    parser = argparse.ArgumentParser(prog="workers.process.main", description=__doc__)
    parser.add_argument("--queues", default=",".join(QUEUES), help="names, comma-separated")
    parser.add_argument("--threads", type=int, default=settings().threads)
    parser.add_argument("--worker-id", default=f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}")
    parser.add_argument("--slots-fd", type=int, help="shared memory of the supervisor")
    parser.add_argument("--stacks-fd", type=int, help="memory of the supervisor, for stacks")
    parser.add_argument("--pulse-fd", type=int, help="pipe on which to tell it that we live")
    options = parser.parse_args(arguments)
    log_files.guard_output()
    if options.pulse_fd is not None:
        # A worker whose supervisor was killed must not live on unsupervised.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if options.stacks_fd is not None:
        thread_stacks.write_to(options.stacks_fd)
    bell = Bell(*signals.STOPS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is said to the supervisor
    forbid_dumps()
    telemetry.configure(settings().log_level)
    with embedded.use(settings()) as servers:
        db.open_pool(
            servers.database_url,
            size=connections.of_worker(options.threads),
            prepared_statements=settings().prepared_statements,
        )
        try:
            code = _work(settings(), servers.redis_url, options, bell)
        except ConfigurationBroken as error:
            # One sentence, no traceback: whoever set it up wrong reads it.
            log.critical("worker.misconfigured", error=str(error))
            code = signals.MISCONFIGURED
        finally:
            db.close_pool()
    sys.exit(code)


def _work(config: Settings, redis_url: str, options: argparse.Namespace, bell: Bell) -> int:
    """Run until told to stop. Returns the exit code."""
    queues = [name for name in options.queues.split(",") if name]
    if not _await_postgres(options.pulse_fd, bell):
        return 0
    with _signs_of_life(options.pulse_fd):
        forks.calling(_import_actors, queues)
    plugin_kinds.tell()
    if IngestDocument.queue_name in queues:
        sandbox_level.begin()
    held = HeldLeases(Slots(_slots_memory(options.slots_fd)))
    runtime = Runtime(
        worker_id=options.worker_id,
        redis=wire.connect(redis_url),
        wire=Wire(config.redis_namespace, embedded.signing_key(config)),
        held=held,
        completion=JobCompleter(held),
        threads=options.threads,
        lease_s=config.lease_s,
    )
    broker.runtime = runtime
    unsettled.configure(held)
    outages.report_to(wire.connect(redis_url, timeout_s=ASK_REDIS_S), config.redis_namespace)
    providers.configure(wire.connect(redis_url, timeout_s=1.0))
    semantic_cache.configure(wire.connect(redis_url, timeout_s=CACHE_REDIS_S))
    texts = wire.connect(redis_url, timeout_s=CACHE_REDIS_S)
    live_text.configure(LiveTexts(texts, runtime.wire))
    dramatiq.set_broker(broker)
    worker = dramatiq.Worker(broker, queues=set(queues), worker_threads=options.threads)
    host = socket.gethostname()
    me = Process(options.worker_id, host, os.getpid(), "worker", queues, options.threads)
    client = wire.connect(redis_url, timeout_s=ASK_REDIS_S)
    heartbeat = Heartbeat(worker, runtime, me, client, options.pulse_fd)
    runtime.completion.start()
    worker.start()
    heartbeat.start()
    told = _await_row(heartbeat, config, bell)
    if told:
        heartbeat.send(signals.READY)
    log.info("worker.started", worker=options.worker_id, queues=queues, threads=options.threads)
    sound = not told or _keep(heartbeat, config, bell)
    if not sound:
        heartbeat.send(signals.BROKEN)
    settled = _finish(worker, runtime, heartbeat, config, bell)
    log.info("worker.stopped", worker=options.worker_id)
    return signals.THREAD_DEAD if not sound else 0 if settled else signals.UNSETTLED


def _await_postgres(pulse_fd: int | None, bell: Bell) -> bool:
    """Wait until Postgres answers, and check it. Returns False when told to stop before."""
    checked: list[Exception | None] = []

    def check() -> None:
        try:
            start_checks.check()
        except ServerUnavailable as error:
            outages.note(error)
            return
        except Exception as error:  # raised in the main thread: the process ends with it
            checked.append(error)
        else:
            checked.append(None)

    while True:
        # In a thread: a server that does not answer must not make this process silent.
        thread = threading.Thread(target=check, name="postgres", daemon=True)
        thread.start()
        while thread.is_alive():
            if not signals.send(pulse_fd, signals.ALIVE) or bell.wait(FINISH_TICK_S):
                return False
        if checked:
            if checked[0] is not None:
                raise checked[0]
            return True


def _await_row(heartbeat: Heartbeat, config: Settings, bell: Bell) -> bool:
    """Wait for our row: without it our jobs would be taken back. Returns False when stopped."""
    while not heartbeat.told:
        heartbeat.tick(config)
        if heartbeat.orphaned or bell.wait(FINISH_TICK_S):
            return False
        if heartbeat.dead_threads():
            break  # `_keep` says which
    return True


def _keep(heartbeat: Heartbeat, config: Settings, bell: Bell) -> bool:
    """Send heartbeats until told to stop. Returns False if a thread has died."""
    while True:
        heartbeat.tick(config)
        if heartbeat.orphaned or bell.wait(TICK_S):
            return True
        if dead := heartbeat.dead_threads():
            log.error("worker.thread_dead", threads=dead)
            return False


@contextmanager
def _signs_of_life(pulse_fd: int | None) -> Iterator[None]:
    """Tell the supervisor that we live while the main thread imports: a plugin may take long."""
    ended = threading.Event()

    def tell() -> None:
        while signals.send(pulse_fd, signals.ALIVE) and not ended.wait(TICK_S):
            pass

    thread = threading.Thread(target=tell, name="import", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _import_actors(queues: Sequence[str]) -> None:
    # Only the models that these queues need.
    served = {contract.queue_name for contract in CONTRACTS.values()}
    for name in queues:
        if name in served:
            importlib.import_module(f"workers.actors.{name}")
    plugins.load()


def _slots_memory(descriptor: int | None) -> mmap.mmap:
    return mmap.mmap(-1 if descriptor is None else descriptor, SLOTS_BYTES)


def _hand_back(worker: dramatiq.Worker) -> None:
    """Return claimed jobs that are not started. Those that cannot be returned stay leased."""
    broker.stop_consuming()  # again and again: a read may have begun after it was ended once
    waiting = []
    while True:
        try:
            waiting.append(worker.work_queue.get_nowait().message)
        except queue.Empty:
            break
        worker.work_queue.task_done()
    try:
        for message in waiting:
            worker.consumers[message.queue_name].requeue_messages([message])
        for consumer in worker.consumers.values():
            if not consumer.is_alive():
                consumer.close()  # what it had ready
    except (ServerUnavailable, psycopg.Error) as error:
        outages.note(error)


def _is_active(worker: dramatiq.Worker, runtime: Runtime, lost: int) -> bool:
    """Return whether a queue is still read, or a thread runs a job or is about to."""
    if runtime.held.busy or any(one.is_alive() for one in worker.consumers.values()):
        return True
    return bool(worker.work_queue.unfinished_tasks > lost)


def _finish(
    worker: dramatiq.Worker, runtime: Runtime, heartbeat: Heartbeat, config: Settings, bell: Bell
) -> bool:
    """Return unstarted jobs at once; let running ones end within the grace period, leases renewed.

    Jobs that still run after that are returned too, as if not started: their fences are raised, so
    later writes of theirs do not count.

    Returns:
        Whether nothing is left for the supervisor to return.
    """
    heartbeat.stopping = True
    # The last message of a thread that died is never acknowledged.
    lost = sum(not thread.is_alive() for thread in worker.workers)
    for thread in worker.workers:
        thread.stop()
    for consumer in worker.consumers.values():
        consumer.stop()
    end = time.monotonic() + config.grace_s
    while True:
        _hand_back(worker)
        if not _is_active(worker, runtime, lost) or time.monotonic() >= end:
            break
        heartbeat.tick(config)
        bell.wait(FINISH_TICK_S)
    runtime.completion.stop()
    heartbeat.end()
    providers.configure(None)
    semantic_cache.configure(None)
    live_text.configure(None)
    left = runtime.held.all()
    try:
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.give_back(conn, left)
            workers.delete_process(conn, runtime.worker_id)
        spending.flush()
    except (ServerUnavailable, psycopg.Error) as error:
        outages.note(error)
        return False
    if left:
        log.warning("worker.grace_over", worker=runtime.worker_id, given_back=len(left))
    return True


if __name__ == "__main__":
    main()
