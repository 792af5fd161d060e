"""What code in a parser's process could do here: each act is tried, in a throwaway process.

`python -m workers.sandbox_probe` prints what it found as JSON.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from shared.errors import SandboxUnavailable
from workers.parsers.confinement import confine
from workers.parsers.model import MIB, ParserLimits

_ROOT: Final = str(Path(__file__).resolve().parents[1])
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from workers.sandbox_probe import try_all; try_all(sys.argv[2])"
)
_WAIT_S: Final = 60.0
_CLONE_NEWUSER: Final = 0x10000000
_PR_SET_DUMPABLE: Final = 4
_PTRACE_SEIZE: Final = 0x4206  # unlike an attach it does not stop the worker
_REFUSED: Final = {errno.EPERM, errno.EACCES, errno.ENOSYS}
_IO_URING_SETUP: Final = 425  # on every architecture


@dataclass(frozen=True, slots=True)
class SandboxLevel:
    """What confines the parsers of this machine.

    Attributes:
        possible: The acts that succeeded; none, where the sandbox holds.
        layers: What is in force, in words.
    """

    possible: tuple[str, ...]
    layers: str


@dataclass(frozen=True, slots=True)
class _Bait:
    """What the acts are tried on: made for them, and open to every user."""

    folder: str
    port: int
    parent: int
    memory_bytes: int

    def path(self, name: str) -> Path:
        return Path(self.folder, name)


def measure() -> SandboxLevel:
    """Try every act once.

    Raises:
        SandboxUnavailable: The process for it could not start or did not answer.
    """
    command = [sys.executable, "-I", "-B", "-X", "utf8", "-c", _START, _ROOT]
    try:
        with _laid_out() as bait:
            answer = subprocess.run(  # noqa: S603 - our own interpreter and code
                [*command, json.dumps(asdict(bait))],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={},
                timeout=_WAIT_S,
                check=True,
            )
        return _read(json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = type(error).__name__
        raise SandboxUnavailable(f"The parsers' sandbox could not be measured: {why}.") from error


def forbid_dumps() -> None:
    """Close this process's memory and environment to others of its user: no dump, no debugger.

    Root may still look. A new program that this process starts is open again.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _read(found: dict[str, object]) -> SandboxLevel:
    acts, layers = found["possible"], found["layers"]
    assert isinstance(acts, list)
    return SandboxLevel(tuple(map(str, acts)), str(layers))


@contextmanager
def _laid_out() -> Iterator[_Bait]:
    with (
        tempfile.TemporaryDirectory(prefix="ailydian-") as folder,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as local,
    ):
        place = Path(folder)
        place.chmod(0o777)
        for name in ("data", "cut", "gone", "old", "mode"):
            (place / name).write_text("bait")
            (place / name).chmod(0o666)
        local.bind(f"{folder}/socket")
        (place / "socket").chmod(0o777)
        local.listen()
        yield _Bait(folder, tcp.getsockname()[1], os.getpid(), ParserLimits().memory_bytes_max)


# ---- in the throwaway process


def try_all(bait_json: str) -> None:
    """Confine this process, try every act and print what was possible."""
    bait = _Bait(**json.loads(bait_json))
    layers = confine(ParserLimits())
    possible = [name for name, act in _ACTS.items() if _succeeds(act, bait)]
    words = [
        "seccomp" if layers.seccomp else "no seccomp",
        f"Landlock {layers.landlock}" if layers.landlock else "no Landlock",
        f"{'own' if layers.network_namespace else 'no own'} network namespace",
    ]
    sys.stdout.write(json.dumps({"possible": possible, "layers": ", ".join(words)}))


def _succeeds(act: Callable[[_Bait], object], bait: _Bait) -> bool:
    try:
        act(bait)
    except (OSError, MemoryError, RuntimeError):  # RuntimeError: no new thread
        return False
    return True


def _connect(bait: _Bait) -> None:
    with socket.socket() as made:
        made.settimeout(2)
        made.connect(("127.0.0.1", bait.port))


def _connect_locally(bait: _Bait) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(str(bait.path("socket")))


def _open(path: str | Path, flags: int) -> None:
    os.close(os.open(path, flags))


def _see_processes(bait: _Bait) -> None:
    _open(f"/proc/{bait.parent}/cmdline", os.O_RDONLY)


def _trace(bait: _Bait) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(_PTRACE_SEIZE, bait.parent, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def _signal(bait: _Bait) -> None:
    """Signal the worker itself, have the kernel do it, or get a handle of it: one is enough."""
    ways: list[Callable[[], object]] = [
        lambda: os.kill(bait.parent, 0),
        lambda: fcntl.fcntl(0, fcntl.F_SETOWN, bait.parent),
        lambda: signal.pidfd_send_signal(os.pidfd_open(bait.parent), 0),
    ]
    for way in ways:
        with suppress(OSError):
            way()
            return
    raise PermissionError


def _start_process(_: _Bait) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _start_thread(_: _Bait) -> None:
    started = threading.Thread(target=int)
    started.start()
    started.join()


def _share_memory(_: _Bait) -> None:
    os.close(os.memfd_create("bait"))


def _fill_memory(bait: _Bait) -> None:
    bytearray(bait.memory_bytes + MIB)


def _raw(name: str | int, *arguments: int) -> Callable[[_Bait], None]:
    """A call whose arguments are nonsense: any error but a refusal shows that it was looked at."""

    def act(_: _Bait) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        words = [ctypes.c_long(one) for one in arguments]
        done = libc.syscall(name, *words) if isinstance(name, int) else libc[name](*words)
        if done < 0 and ctypes.get_errno() in _REFUSED:
            raise OSError(ctypes.get_errno(), str(name))

    return act


_ACTS: Final[dict[str, Callable[[_Bait], object]]] = {
    "open a network connection": _connect,
    "connect to a local socket": _connect_locally,
    "read a file": lambda bait: _open(bait.path("data"), os.O_RDONLY),
    "see whether a file exists": lambda bait: bait.path("data").stat(),
    "list a directory": lambda bait: list(Path(bait.folder).iterdir()),
    "create a file": lambda bait: _open(bait.path("new"), os.O_CREAT | os.O_WRONLY),
    "write to a file": lambda bait: _open(bait.path("data"), os.O_WRONLY),
    "empty a file": lambda bait: os.truncate(bait.path("cut"), 0),
    "delete a file": lambda bait: bait.path("gone").unlink(),
    "rename a file": lambda bait: bait.path("old").rename(bait.path("moved")),
    "link a file": lambda bait: bait.path("link").hardlink_to(bait.path("data")),
    "make a symbolic link": lambda bait: bait.path("symbolic").symlink_to("bait"),
    "change the mode of a file": lambda bait: bait.path("mode").chmod(0o600),
    "make a directory": lambda bait: bait.path("directory").mkdir(),
    "see other processes": _see_processes,
    "read the worker's environment": lambda bait: _open(
        f"/proc/{bait.parent}/environ", os.O_RDONLY
    ),
    "read the worker's memory": lambda bait: _open(f"/proc/{bait.parent}/mem", os.O_RDONLY),
    "trace the worker": _trace,
    "signal the worker": _signal,
    "start a process": _start_process,
    "start a thread": _start_thread,
    "run a program": _raw("execve", 1, 1, 1),
    "share memory": _share_memory,
    "exceed its memory limit": _fill_memory,
    "use io_uring": _raw(_IO_URING_SETUP, 1, 1),
    "make a namespace": _raw("unshare", _CLONE_NEWUSER),
    "mount": _raw("mount", 1, 1, 1, 0, 0),
}


if __name__ == "__main__":
    forbid_dumps()  # as a worker does
    sys.stdout.write(json.dumps(asdict(measure())))
