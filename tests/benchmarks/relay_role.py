"""A relay as a process of its own, without the Redis door."""

import signal
import threading

from producers.ledger.relay import Relay
from shared import db
from shared.ledger import wakeups
from shared.observability import telemetry
from shared.servers import embedded
from shared.settings import settings


def main() -> None:
    config = settings()
    telemetry.configure(config.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with embedded.use(config) as servers:
        db.open_pool(servers.database_url, size=2)
        wire = wakeups.Wire(config.redis_namespace, embedded.signing_key(config))
        Relay(config, wakeups.connect(servers.redis_url), wire).run(servers.database_url, stop)
        db.close_pool()


if __name__ == "__main__":
    main()
