"""What a module logs, as dictionaries, whatever a command in this process has configured before."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import structlog
from structlog.typing import EventDict


@contextmanager
def captured(module: ModuleType) -> Iterator[list[EventDict]]:
    """Collect what the module logs from here on.

    A logger keeps the configuration of its first use, so the module gets a new one meanwhile.
    """
    config, log = structlog.get_config(), module.log
    structlog.reset_defaults()
    module.log = structlog.get_logger()
    try:
        with structlog.testing.capture_logs() as lines:
            yield lines
    finally:
        module.log = log
        structlog.configure(**config)
