"""The scheduler: periodic sweeps. Several at once are safe; they share the work."""

import threading

import structlog

from producers import platform
from shared.errors import QueueFull, ServerUnavailable

log = structlog.get_logger()

SWEEP_S = 15.0


def run(stop: threading.Event) -> None:
    """Sweep for the platform's writes until told to stop; nothing waits longer than a minute."""
    log.info("scheduler.started")
    while not stop.is_set():
        try:
            taken = platform.sweep()
            if taken:
                log.info("platform.swept", changes=taken)
        except ServerUnavailable as error:
            log.warning("postgres.away", error=str(error))
        except QueueFull as error:  # the changes stay on their list
            log.warning("platform.postponed", error=str(error))
        stop.wait(SWEEP_S)
    log.info("scheduler.stopped")
