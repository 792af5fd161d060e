"""The floor of `drain`: plain Dramatiq as its guide shows it, with an actor that does nothing."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["PLAIN_REDIS_URL"]))


@dramatiq.actor
def noop(n: int) -> None:
    """Do nothing."""
