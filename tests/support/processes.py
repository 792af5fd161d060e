"""Processes that tests start: ended with all that they started, and looked for at the end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.patience import patience

# Helpers that end with their parent: Python's own, and the parser that `ingest` keeps.
_OWN = ("resource_tracker", "parsers.child")


def end(process: psutil.Process | int, *, seconds: float = 15.0) -> None:
    """End a process kindly, then what is left of it and of all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(process) if isinstance(process, int) else process
        family = [top, *top.children(recursive=True)]
        with contextlib.suppress(psutil.NoSuchProcess):
            top.terminate()
        kill(psutil.wait_procs(family, patience(seconds))[1])


def kill(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they are gone."""
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(processes, patience(10))


def children() -> list[psutil.Process]:
    """What this process has started and what that has started, if it still runs."""
    found = psutil.Process().children(recursive=True)
    return [one for one in found if _runs(one) and not any(own in describe(one) for own in _OWN)]


def of_home(home: Path) -> Iterator[psutil.Process]:
    """Processes whose command or environment names this folder, whoever their parent is."""
    own = psutil.Process().pid
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            named = " ".join([*one.cmdline(), *one.environ().values()])
            if one.pid != own and f"{home}" in named and _runs(one):
                yield one


def describe(process: psutil.Process) -> str:
    """Process id and command, for people."""
    with contextlib.suppress(psutil.Error):
        return f"{process.pid}: {' '.join(process.cmdline())}"
    return str(process.pid)


def none_left(found: list[psutil.Process]) -> None:
    """Fail, and kill them, if any process of a test is still there."""
    told = [describe(one) for one in found]
    kill(found)
    assert not told, "tests left processes behind:\n  " + "\n  ".join(told)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
