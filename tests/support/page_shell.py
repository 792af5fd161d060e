"""One shell for all commands of a page, as a reader has it open."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

import psutil

from tests.support.patience import patience

TIMEOUT_S = 120.0
# For so long a look is repeated; never longer than the second, so that a page with other words in
# twenty places is written within minutes on a busy machine as well.
LOOK_AGAIN_S, LOOK_AGAIN_S_MAX = 20.0, 60.0
# Between two looks: longer each time, for each costs a second of the CPU that others wait for.
PAUSE_S, PAUSE_S_MAX, PAUSE_GROWTH = 0.3, 5.0, 1.5
_END = "\x1e"
_LOOKS = re.compile(
    r"ailydian (?:status|queues|explain)\b|"
    r"ailydian (?!bench).*\b(?:list|show|stats|tail|why|grouped)\b|curl "
)
# Where redis-cli is not installed: the same words, given to the same server.
_REDIS_CLI = """#!{python}
import json, sys, redis
client = redis.Redis.from_url({url!r}, decode_responses=True)
answer = client.execute_command(*sys.argv[1:])
print("\\n".join(answer) if isinstance(answer, (list, tuple)) else answer)
"""


class Shell:
    """A bash in a folder, with the commands of this checkout before all others.

    Attributes:
        folder: Where it works; it has nothing but the servers' folder at first.
    """

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        commands = folder / ".bin"
        commands.mkdir()
        (commands / "redis-cli").write_text(_REDIS_CLI.format(python=sys.executable, url=redis_url))
        (commands / "redis-cli").chmod(0o755)
        here = Path(sys.executable).parent
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env={
                "PATH": f"{commands}:{here}:{os.environ['PATH']}",
                "HOME": str(folder),
                "LANG": "C.UTF-8",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs, servers' users first, as Ctrl-C in every terminal would."""
        self._say("kill -TERM $(jobs -p) 2>/dev/null; wait; exit")
        try:
            self._bash.communicate(timeout=patience(TIMEOUT_S))
        except subprocess.TimeoutExpired:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.communicate()

    def run(self, command: str, *, until: Callable[[str], bool] | None) -> tuple[int, str]:
        """Run a command; one that only looks is run again until it sees what is asked for.

        Args:
            command: A line for the shell. What ends with `&` is left running as soon as it has
                printed a line.
            until: Whether an output is what is asked for; None takes the first.

        Returns:
            Its exit code, and what it printed on both streams.
        """
        if command.endswith("&"):
            return self._left_running(command.removesuffix("&").strip())
        deadline = time.monotonic() + min(patience(LOOK_AGAIN_S), LOOK_AGAIN_S_MAX)
        pause = PAUSE_S
        while True:
            code, printed = self._once(command)
            if (
                until is None
                or until(printed)
                or not _LOOKS.match(command)
                or time.monotonic() > deadline
            ):
                return code, printed
            threading.Event().wait(pause)
            pause = min(PAUSE_S_MAX, pause * PAUSE_GROWTH)

    def python(self, program: str) -> tuple[int, str]:
        """Run a program in the folder."""
        (self.folder / ".program.py").write_text(program)
        return self._once("python .program.py")

    def _left_running(self, command: str) -> tuple[int, str]:
        log = self.folder / f".left-{time.monotonic_ns()}"
        self._once(f"{command} >{log} 2>>{log.name}.err &")
        deadline = time.monotonic() + patience(TIMEOUT_S)
        while "\n" not in (printed := log.read_text() if log.exists() else ""):
            if time.monotonic() > deadline:
                return 1, (log.parent / f"{log.name}.err").read_text()
            threading.Event().wait(0.1)
        return 0, printed

    def _once(self, command: str) -> tuple[int, str]:
        self._say(f"{command}\nprintf '{_END}%s\\n' $?")
        printed = []
        alarm = threading.Timer(patience(TIMEOUT_S), self._interrupt)
        alarm.start()
        try:
            for line in self._output():
                text, end, code = line.partition(_END)
                printed.append(text)
                if end:
                    return int(code), "".join(printed)
        finally:
            alarm.cancel()
        raise AssertionError(f"the shell ended in: {command}\n{''.join(printed)}")

    def _interrupt(self) -> None:
        """End the command that takes too long, and not the shell."""
        for child in psutil.Process(self._bash.pid).children():
            child.send_signal(signal.SIGINT)

    def _say(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{line}\n")
        self._bash.stdin.flush()

    def _output(self) -> IO[str]:
        assert self._bash.stdout is not None
        return self._bash.stdout
