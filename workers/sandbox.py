"""Parsers in a killable child: a document can crash its child, never the worker.

Plain text kinds are read in the worker. Every other kind goes through a pipe to a process with
no environment, no network, no files and hard limits; a limit hit kills it and names itself. Where
that is required and the machine does not allow it, such a document is not parsed.
"""

import json
import os
import queue
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from shared.errors import DocumentRefused, SandboxUnavailable
from shared.settings import settings
from workers import parsers, sandbox_level
from workers.parsers.model import KindName, Parsed, ParserLimits
from workers.parsers.pipe_frames import (
    PREFIX,
    READY,
    FrameBroken,
    Refusal,
    pack,
    read_answer,
    sizes,
)

_ROOT: Final = str(Path(__file__).resolve().parents[1])
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from workers.parsers.child import main; main(*sys.argv[2:])"
)
_PIECE_BYTES: Final = 256 * 1024
# Start-up is ours, not the document's: on a loaded machine imports may take seconds.
_START_S: Final = 30.0
# A pipe closes a moment before its process is gone.
_EXIT_S: Final = 2.0
_MEMORY_SHARE: Final = 0.5


class Sandbox:
    """Reads documents for all threads of a process through a few children.

    Make it after forking; a child starts with the first document that needs one. Children end
    with their parent, however it ends: their stdin closes.
    """

    def __init__(
        self,
        limits: ParserLimits | None = None,
        *,
        children: int = 1,
        required: bool | None = None,
    ) -> None:
        """Prepare.

        Args:
            limits: Resource limits of one document.
            children: How many documents may be read at once, >= 1; each child is a process of
                50 to 60 MB.
            required: Whether to parse only in a sandbox that leaves nothing open; by default as
                the settings say.
        """
        self._limits = limits or ParserLimits()
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        self._children = children
        # A child cannot load anything later, so it is made for the kinds that have come so far.
        self._kinds: frozenset[KindName] = frozenset()
        self._required = settings().sandbox_required if required is None else required
        for _ in range(children):
            self._idle.put(None)

    def parse(self, data: bytes, *, name: str | None = None, lossy: bool = False) -> Parsed:
        """Read a document. Thread-safe; waits for a child when all are busy.

        Args:
            data: The document.
            name: Its file name, a weak hint.
            lossy: Accept a text whose encoding is uncertain.

        Returns:
            Its text and what is known about it.

        Raises:
            DocumentRefused: As `workers.parsers.parse`, and `time_limit`, `memory_limit` or
                `crashed` when the child had to go; the next document meets a fresh one.
            SandboxUnavailable: No child can start, or the sandbox is required and too weak.
        """
        limits = self._limits
        if len(data) > limits.input_bytes_max:
            raise DocumentRefused("too_large", f"It has more than {limits.input_bytes_max} bytes.")
        hint = None if name is None else name[-200:].encode("utf-8", "replace").decode()
        kind = parsers.sniff(data, hint)
        if not kind.needs_child:
            return parsers.parse(data, name=name, lossy=lossy, limits=limits)
        if self._required:
            sandbox_level.require()
        self._kinds |= {kind.name}
        try:
            answer = self._ask(data, hint, lossy=lossy)
        except _ChildDied as death:
            if not death.may_be_innocent:
                raise DocumentRefused(death.reason, str(death)) from None
            answer = self._ask_fresh(data, hint, lossy=lossy)
        if isinstance(answer, Refusal):
            raise DocumentRefused(answer.reason, answer.sentence)
        return answer

    def close(self) -> None:
        """End all children; waits for documents that are being read."""
        held = [self._idle.get() for _ in range(self._children)]
        for child in held:
            if child is not None:
                child.kill()
            self._idle.put(None)

    def _ask(self, data: bytes, name: str | None, *, lossy: bool) -> Parsed | Refusal:
        with self._lend(fresh=False) as child:
            return child.ask(data, name, lossy=lossy)

    def _ask_fresh(self, data: bytes, name: str | None, *, lossy: bool) -> Parsed | Refusal:
        """Parse a document in a child that no earlier document can have harmed."""
        try:
            with self._lend(fresh=True) as child:
                return child.ask(data, name, lossy=lossy)
        except _ChildDied as death:
            raise DocumentRefused(death.reason, str(death)) from None

    @contextmanager
    def _lend(self, *, fresh: bool) -> Iterator["_Child"]:
        """Take a child for one document; put it back only after a whole answer.

        Whatever interrupts the thread, a time limit above all, must not leave half an answer
        in the pipe for the next document.
        """
        child = self._idle.get()
        whole = False
        try:
            kinds = self._kinds
            if child is not None and (fresh or not child.is_alive() or child.kinds != kinds):
                child.kill()
                child = None
            child = child or self._started(kinds)
            child.await_start()
            yield child
            whole = True
        finally:
            if child is not None and not (whole and child.may_go_on):
                child.kill()
                child = None
            self._idle.put(child)

    def _started(self, kinds: frozenset[KindName]) -> "_Child":
        try:
            return _Child(self._limits, kinds, required=self._required)
        except OSError as error:  # out of processes, memory, files or room for a folder
            why = error.strerror or type(error).__name__
            raise SandboxUnavailable(f"No parser process can start here: {why}.") from error


class _ChildDied(Exception):
    """A child is gone without an answer, or had to be killed.

    Attributes:
        reason: The code that names the limit, or `crashed`.
        may_be_innocent: Whether an earlier document of the same child may be to blame.
    """

    def __init__(self, reason: str, sentence: str, *, used: bool = False) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.may_be_innocent = used and reason == "crashed"


class _Child:
    """One process and its two pipes."""

    def __init__(self, limits: ParserLimits, kinds: frozenset[KindName], *, required: bool) -> None:
        self._limits = limits
        self.kinds = kinds
        self._served = 0
        self._started = False
        self.may_go_on = True
        # The folder is gone once the child stands in it: nothing can be written there, and
        # nothing is left behind when one dies.
        folder = tempfile.mkdtemp(prefix="ailydian-")
        wanted = "require" if required else "prefer"
        options = [_ROOT, _fields(limits), wanted, *sorted(kinds)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-I", "-B", "-X", "utf8", "-c", _START, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd=folder,
                start_new_session=True,
                bufsize=0,
            )
        finally:
            Path(folder).rmdir()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A process inherits the peak of the one that forked it: below that it means nothing.
        self._inherited_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    @property
    def pid(self) -> int:
        """The process id, which is its process group too."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Return whether the process still runs; leaves a dead one to be reaped."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, flags) is None
        except ChildProcessError:
            # Someone else in this process has waited for it.
            return False

    def await_start(self) -> None:
        """Wait until a new process is fenced in and ready.

        Raises:
            SandboxUnavailable: It ended or took too long; no document is to blame.
        """
        if self._started:
            return
        with suppress(OSError):
            self._started = self._receive(len(READY), time.monotonic() + _START_S) == READY
        if not self._started:
            raise SandboxUnavailable("The parser process could not start.")

    def ask(self, data: bytes, name: str | None, *, lossy: bool) -> Parsed | Refusal:
        """Send a document and wait for its answer.

        Raises:
            _ChildDied: No answer, a late one or a malformed one.
        """
        used = self._served > 0
        self._served += 1
        deadline = time.monotonic() + self._limits.wall_s_max
        try:
            self._send(pack({"name": name, "lossy": lossy, "size": len(data)}), deadline)
            self._send(data, deadline)
            answer = self._answer(deadline)
        except TimeoutError:
            raise _ChildDied("time_limit", "Parsing timed out.") from None
        except FrameBroken:
            raise _ChildDied(
                "crashed", "The parser process sent an invalid answer.", used=used
            ) from None
        except OSError:
            raise self._death(used=used) from None
        limited = isinstance(answer, Refusal) and answer.reason.endswith("_limit")
        self.may_go_on = not limited and self._served < self._limits.child_documents_max
        return answer

    def kill(self) -> None:
        """End the process with everything it may have started, and free its pipes."""
        if self._process.returncode is None:
            # Not reaped yet, so the number is still its own.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _answer(self, deadline: float) -> Parsed | Refusal:
        prefix = self._receive(PREFIX.size, deadline)
        head_size, body_size = sizes(prefix, self._limits.text_bytes_max)
        head = self._receive(head_size, deadline)
        return read_answer(head, self._receive(body_size, deadline))

    def _death(self, *, used: bool) -> _ChildDied:
        """The reason why the process ended by itself, from its signal and its peak memory."""
        with suppress(OSError):
            exited = os.pidfd_open(self.pid)
            try:
                _wait(exited, selectors.EVENT_READ, time.monotonic() + _EXIT_S)
            finally:
                os.close(exited)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            return _ChildDied("crashed", "The parser process died.", used=used)
        code = os.waitstatus_to_exitcode(status)
        # Reaped here, for its peak of memory: Popen must not wait for it again.
        self._process.returncode = code
        if -code == signal.SIGXCPU:
            return _ChildDied("time_limit", "Parsing exceeded its CPU limit.")
        enough = usage.ru_maxrss * 1024 >= _MEMORY_SHARE * self._limits.memory_bytes_max
        if enough and usage.ru_maxrss > self._inherited_peak:
            return _ChildDied("memory_limit", "It needs more memory than allowed.")
        return _ChildDied("crashed", f"The parser process exited with code {code}.", used=used)

    def _send(self, packed: bytes, deadline: float) -> None:
        rest = memoryview(packed)
        while rest:
            _wait(self._in, selectors.EVENT_WRITE, deadline)
            rest = rest[os.write(self._in, rest[:_PIECE_BYTES]) :]

    def _receive(self, size: int, deadline: float) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            _wait(self._out, selectors.EVENT_READ, deadline)
            piece = os.read(self._out, min(size - len(pieces), _PIECE_BYTES))
            if not piece:
                raise BrokenPipeError
            pieces += piece
        return bytes(pieces)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Wait until a pipe is ready.

    Raises:
        TimeoutError: Not before the deadline, in seconds of the monotonic clock.
    """
    with selectors.PollSelector() as selector:
        selector.register(descriptor, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError


def _fields(limits: ParserLimits) -> str:
    return json.dumps(asdict(limits))
