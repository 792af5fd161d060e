"""Signals as the processes that tests start should find them."""

import signal
import threading

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def let_children_hear() -> None:
    """Let our children hear what this process ignores, as it does under `nohup`.

    What a process ignores, those that it starts ignore too; what it handles, they have by default.
    So we handle it, by doing nothing: this process itself goes on ignoring it.
    """
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, _ignore)


def _ignore(*_: object) -> None:
    pass
