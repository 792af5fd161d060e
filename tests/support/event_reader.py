"""A client of /v1/events for tests, which reads server-sent events as they come."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from tests.support.http_api import Api
from tests.support.patience import patience


@dataclass(frozen=True)
class Seen:
    """An event as it came."""

    id: str
    event: str
    document: dict[str, Any]

    @property
    def job_id(self) -> str:
        """What it is of."""
        return str(self.document["jobId"])


class Reader:
    """A stream that is read."""

    def __init__(self, sock: socket.socket, answer: Any) -> None:
        self._sock = sock
        self._answer = answer
        self.status = answer.status
        self.comments = 0

    def read(self) -> Iterator[Seen]:
        """Yield events until the server ends the stream."""
        fields: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "":
                self.comments += line.startswith(":")
                if "data" in fields:
                    yield Seen(fields["id"], fields["event"], json.loads(fields["data"]))
                fields = {}
            else:
                fields[name] = value

    def take(self, count: int) -> list[Seen]:
        """Return the next events."""
        found: list[Seen] = []
        stream = self.read()
        while len(found) < count:
            found.append(next(stream))
        return found

    def beats(self) -> None:
        """Wait for a heartbeat."""
        while not self._line().startswith(":"):
            pass

    def ends(self) -> None:
        """Read until the server ends the stream."""
        while self._line():
            pass

    def _line(self) -> str:
        return str(self._answer.readline().decode())


@contextmanager
def following(
    api: Api, key: str, query: str = "", *, last_id: str | None = None, receive_bytes: int = 0
) -> Iterator[Reader]:
    """Follow events while the block runs; the first one is read, whatever it says.

    Args:
        api: The server.
        key: An API key.
        query: Of the address.
        last_id: Resume after it.
        receive_bytes: What the system takes in advance of the reader, if not as much as usual.
    """
    connection = HTTPConnection("127.0.0.1", api.port)
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(patience(20))
    sock.connect(("127.0.0.1", api.port))
    connection.sock = sock
    named = {"Authorization": f"Bearer {key}"} | ({"Last-Event-ID": last_id} if last_id else {})
    try:
        connection.request("GET", f"/v1/events?{query}", headers=named)
        yield Reader(sock, connection.getresponse())
    finally:
        connection.close()
        sock.close()
