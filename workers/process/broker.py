"""Dramatiq's side of the ledger: the broker, and `@actor(Contract)`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import dramatiq
import redis

from shared.contracts import Contract
from shared.ledger.outbox import Lease
from shared.ledger.wakeups import Wire
from shared.servers import embedded
from shared.settings import settings
from workers.process import attempts
from workers.process.consumer import LedgerConsumer, Unit, served
from workers.process.leases import HeldLeases
from workers.process.settlement import JobCompleter

Work = TypeVar("Work", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Runtime:
    """The shared objects of a connected worker process."""

    worker_id: str
    redis: redis.Redis
    wire: Wire
    held: HeldLeases
    completion: JobCompleter
    threads: int
    lease_s: float


class LedgerBroker(dramatiq.Broker):
    """A broker that only consumes: publishing goes through the outbox, in Postgres."""

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self.runtime: Runtime | None = None
        self._consumers: list[LedgerConsumer] = []

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> LedgerConsumer:  # noqa: ARG002 - Dramatiq's signature
        """Start to consume the wake-ups of a queue."""
        runtime = self.running()
        consumer = LedgerConsumer(
            queue_name,
            client=runtime.redis,
            wire=runtime.wire,
            held=runtime.held,
            worker_id=runtime.worker_id,
            limits=(runtime.threads, runtime.lease_s),
        )
        self._consumers.append(consumer)
        return consumer

    def running(self) -> Runtime:
        """The runtime of this process."""
        assert self.runtime is not None, (
            "workers.process.main connects the broker before it is used"
        )
        return self.runtime

    def stop_consuming(self) -> None:
        """Wake up every consumer and make it stop taking messages."""
        for consumer in self._consumers:
            consumer.stop()

    def declare_queue(self, queue_name: str) -> None:
        """Note that an actor of this process serves a queue."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> Any:  # noqa: ANN401, ARG002 - Dramatiq's signature
        """Refuse: a message without a ledger row would be a job that Redis can lose."""
        raise RuntimeError(
            f"{message.actor_name}: publish through shared.ledger.outbox, not by send()"
        )


broker = LedgerBroker()


def lease_s() -> float:
    """The duration of a lease in this process, in seconds."""
    return settings().lease_s if broker.runtime is None else broker.runtime.lease_s


def worker_id() -> str:
    """The name of this process in the ledger; '' for an actor that is called directly."""
    return "" if broker.runtime is None else broker.runtime.worker_id


@cache
def signing_key() -> bytes:
    """The signing key of this installation; keys derived from it prove authenticity."""
    return embedded.signing_key(settings())


def goes_on(lease: Lease, now: Lease, *, limit_s: float) -> None:
    """Let this process hold `now` for a claimed lease, with `limit_s` seconds for what it does."""
    if broker.runtime is not None:  # else the actor is called directly
        broker.runtime.held.goes_on(lease, now, limit_s=limit_s)


def actor(contract: type[Contract]) -> Callable[[Work], Work]:
    """Register a function as the one that does a contract's jobs.

    The function is called as `function(job, lease)`; for a contract with `batch_max` above 1 as
    `function([(job, lease), ...])` with jobs of one tenant. It is returned as it is, so there is
    no `send()` to misuse and tests call it directly.
    """

    def register(function: Work) -> Work:
        def do(unit: Unit) -> None:
            runtime = broker.running()
            attempts.run(function, contract, unit, runtime.held, runtime.completion)

        dramatiq.actor(
            broker=broker, actor_name=contract.actor_name, queue_name=contract.queue_name
        )(do)
        served.add(contract.actor_name)
        return function

    return register
