"""A worker process: connects, takes jobs of its queues until it is told to stop, and ends clean.

Started by `workers.supervisor`, once a child; `python -m workers.main --queues ingest` by hand.
"""

import argparse
import ctypes
import importlib
import mmap
import os
import queue
import signal
import socket
import threading
import time
import uuid
from collections.abc import Sequence

import dramatiq
import structlog

from shared import broker as wire
from shared import db, embedded, providers, telemetry
from shared.broker import Wire
from shared.contracts import CONTRACTS, QUEUES
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.queries import outbox, roles, workers
from shared.settings import Settings, settings
from workers.broker import Runtime, broker
from workers.endings import Completion
from workers.holding import SLOTS_BYTES, Holding, Slots

log = structlog.get_logger()

TICK_S = 0.5
SEEN_EVERY_S = 5.0
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one worker process; see `--help`."""
    parser = argparse.ArgumentParser(prog="workers.main", description=__doc__)
    parser.add_argument("--queues", default=",".join(QUEUES), help="names, comma-separated")
    parser.add_argument("--threads", type=int, default=settings().threads)
    parser.add_argument("--worker-id", default=f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}")
    parser.add_argument("--slots-fd", type=int, help="shared memory of the supervisor")
    parser.add_argument("--pulse-fd", type=int, help="pipe on which to tell it that we live")
    options = parser.parse_args(arguments)
    if options.pulse_fd is not None:
        # A worker whose supervisor was killed must not live on unsupervised.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    telemetry.configure(settings().log_level)
    with embedded.use(settings()) as servers:
        db.open_pool(
            servers.database_url,
            size=options.threads + 4,
            prepared_statements=settings().prepared_statements,
        )
        try:
            _work(settings(), servers.redis_url, options)
        finally:
            db.close_pool()


def _work(config: Settings, redis_url: str, options: argparse.Namespace) -> None:
    queues = [name for name in options.queues.split(",") if name]
    with db.transaction(None, role=Role.APP) as conn:
        roles.refuse_if_policies_are_bypassed(conn)
    _import_actors(queues)
    holding = Holding(Slots(_slots_memory(options.slots_fd)))
    runtime = Runtime(
        worker_id=options.worker_id,
        redis=wire.connect(redis_url),
        wire=Wire(config.redis_namespace, embedded.signing_key(config)),
        holding=holding,
        completion=Completion(holding),
        threads=options.threads,
        lease_s=config.lease_s,
    )
    broker.runtime = runtime
    providers.configure(wire.connect(redis_url, timeout_s=1.0))
    dramatiq.set_broker(broker)
    worker = dramatiq.Worker(broker, queues=set(queues), worker_threads=options.threads)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    runtime.completion.start()
    worker.start()
    log.info("worker.started", worker=options.worker_id, queues=queues, threads=options.threads)
    _keep(runtime, stop, queues, options.pulse_fd)
    _finish(worker, runtime, config)
    log.info("worker.stopped", worker=options.worker_id)


def _import_actors(queues: Sequence[str]) -> None:
    # Only what these queues need: a process that does not embed loads no model.
    served = {contract.queue_name for contract in CONTRACTS.values()}
    for name in queues:
        if name in served:
            importlib.import_module(f"workers.actors.{name}")
    for name in filter(None, settings().plugins.split(",")):
        importlib.import_module(name)


def _slots_memory(descriptor: int | None) -> mmap.mmap:
    return mmap.mmap(-1 if descriptor is None else descriptor, SLOTS_BYTES)


def _keep(
    runtime: Runtime, stop: threading.Event, queues: Sequence[str], pulse_fd: int | None
) -> None:
    """Keep leases, time limits and the supervisor's trust alive until told to stop."""
    me: dict[str, object] = {
        "id": runtime.worker_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "queues": list(queues),
        "threads": runtime.threads,
    }
    renewed = time.monotonic()
    seen = 0.0
    while not stop.wait(TICK_S):
        now = time.monotonic()
        if pulse_fd is not None:
            os.write(pulse_fd, b".")
        runtime.holding.interrupt_overdue()
        try:
            if now - renewed >= runtime.lease_s / 3:
                renewed = now
                _renew(runtime)
            if now - seen >= SEEN_EVERY_S:
                seen = now
                with db.transaction(None, role=Role.RELAY) as conn:
                    workers.upsert_process(conn, me)
        except ServerUnavailable as error:
            log.warning("postgres.away", error=str(error))


def _renew(runtime: Runtime) -> None:
    held = runtime.holding.all()
    if held:
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            outbox.renew(conn, held, lease_s=runtime.lease_s)


def _finish(worker: dramatiq.Worker, runtime: Runtime, config: Settings) -> None:
    """Hand back what is not begun, at once; let what runs end within its grace."""
    broker.stop_consuming()
    waiting = []
    while True:
        try:
            waiting.append(worker.work_queue.get_nowait().message)
        except queue.Empty:
            break
    for message in waiting:
        worker.consumers[message.queue_name].requeue_messages([message])
    worker.stop(timeout=int(config.grace_s * 1000))
    runtime.completion.stop()
    providers.configure(None)
    with db.transaction(None, role=Role.RELAY) as conn:
        workers.delete_process(conn, runtime.worker_id)


if __name__ == "__main__":
    main()
