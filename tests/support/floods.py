"""Requests as fast as they are answered, from a process of their own: `python -m`, see `start`."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any

PATH = "/v1/jobs/none"


def flood(ports: Sequence[int], key: str, *, seconds: float, threads: int = 2) -> Counter[int]:
    """Ask each server, on so many connections. Returns how often each status came."""
    end = time.monotonic() + seconds

    def ask(port: int) -> Counter[int]:
        found: Counter[int] = Counter()
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < end:
            found[_status(connection, PATH, key)] += 1
        connection.close()
        return found

    with ThreadPoolExecutor(threads * len(ports)) as pool:
        return sum(pool.map(ask, [*ports] * threads), Counter())


def p99_s(port: int, key: str) -> float:
    """What of a hundred requests, one after another, the second slowest takes; the best of five."""
    found = []
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(5):
        took = []
        for _ in range(100):
            began = time.monotonic()
            status = _status(connection, "/v1/jobs", key)
            took.append(time.monotonic() - began)
            assert status == HTTPStatus.OK, status
        found.append(sorted(took)[98])
    connection.close()
    return min(found)


def start(what: str, port: int, key: str, **numbers: float) -> subprocess.Popen[str]:
    """Run `flood` or `p99_s` in a process of its own: it costs the server's process no time."""
    named = [f"{value:g}" for value in numbers.values()]
    command = [sys.executable, "-m", "tests.support.floods", what, str(port), key, *named]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(started: subprocess.Popen[str]) -> Any:
    """What it has found, when it has ended."""
    told, _ = started.communicate()
    return json.loads(told)


def _status(connection: HTTPConnection, path: str, key: str) -> int:
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _main(what: str, port: str, key: str, *numbers: str) -> None:
    if what == "p99_s":
        found: Any = p99_s(int(port), key)
    else:
        seconds, threads = map(float, numbers)
        found = flood([int(port)], key, seconds=seconds, threads=int(threads))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
