"""A worker in the test's own process: one queue's consumer; what it claims is run at once."""

import importlib
import mmap

from shared.contracts import contract_named
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from tests.support.factories import KEY, make_relay
from workers.process import attempts
from workers.process.consumer import LedgerConsumer, Unit
from workers.process.leases import SLOTS_BYTES, HeldLeases, Slots
from workers.process.settlement import JobCompleter


def work_off(redis_url: str, queue: str = "maintenance") -> None:
    """Send what is due, take at most a hundred jobs of a queue in one claim, and run them."""
    importlib.import_module(f"workers.actors.{queue}")  # as a process of this queue does
    relay = make_relay(redis_url)
    relay.step()  # finds an empty Redis, which it takes for a wiped one
    relay.step()
    held = HeldLeases(Slots(mmap.mmap(-1, SLOTS_BYTES)))
    completion = JobCompleter(held)
    completion.start()
    consumer = LedgerConsumer(
        queue,
        client=wakeups.connect(redis_url),
        wire=Wire("ailydian", KEY),
        held=held,
        worker_id="in-process",
        limits=(100, 30.0),
    )
    message = next(consumer)
    consumer.stop()  # from here on it hands out what it has claimed, and takes no more
    while message is not None:
        _run(message.args[0], held, completion)
        message = next(consumer)
    consumer.close()
    completion.stop()


def _run(unit: Unit, held: HeldLeases, completion: JobCompleter) -> None:
    contract = contract_named(unit.leases[0].job)
    module = importlib.import_module(f"workers.actors.{contract.queue_name}")
    attempts.run(getattr(module, contract.actor_name), contract, unit, held, completion)
