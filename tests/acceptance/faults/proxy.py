"""A wire that breaks on purpose: a TCP proxy in front of a server, with every fault of a network.

Listens on a port of this machine and speaks to the server's own socket. What it does to the bytes
is said by its attributes, which may change at any moment; `heal` makes it a plain wire again.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

from tests.support.patience import patience

BYTES_READ = 64 * 1024
TICK_S = 0.02
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_LINGER_NOT = struct.pack("ii", 1, 0)  # close() then sends RST, not FIN


class Proxy:
    """One wire between some processes and one server.

    Attributes:
        latency_s: Delay of each read, each way.
        jitter_s: At most so much more, by chance.
        bytes_per_s: Bandwidth each way; 0 is unlimited.
        slice_bytes: At most so many bytes a write; 0 is unlimited.
        holds_up, holds_down: A black hole: what comes from the clients (up) or from the server
            (down) goes nowhere, and nobody is told.
        down: Nobody gets a connection: each is reset at once.
        commits_lost: The share of COMMITs after which the connection is reset: in one half of
            them before the server got it, in the other half after it has answered.
        lost: How many those were so far.
    """

    def __init__(self, server: str, *, seed: int = 0) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self._writers: dict[asyncio.StreamWriter, None] = {}
        self._deaf: set[asyncio.StreamWriter] = set()
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self.port = 0
        self.lost = 0
        self._be_plain()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        assert self._listening.wait(patience(10)), "the proxy does not listen"

    def heal(self, *, reset: bool = False) -> None:
        """Be a plain wire again. A black hole has eaten bytes: what it held is reset."""
        reset = reset or self.holds_up or self.holds_down
        self._be_plain()
        if reset:
            self.reset()

    def reset(self) -> int:
        """End every connection now, with RST. Returns how many there were."""

        async def reset() -> int:
            found = list(self._writers)
            for writer in found:
                _reset(writer)
            return len(found)

        return self._ask(reset())

    def connections(self) -> int:
        """How many clients are connected."""

        async def count() -> int:
            return len(self._writers) // 2

        return self._ask(count())

    def close(self) -> None:
        """End everything."""
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patience(10))
        self._loop.close()

    def _be_plain(self) -> None:
        self.latency_s = self.jitter_s = 0.0
        self.bytes_per_s = self.slice_bytes = 0
        self.holds_up = self.holds_down = self.down = False
        self.commits_lost = 0.0

    def _ask(self, coroutine: Coroutine[Any, Any, int]) -> int:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(patience(10))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            _reset(writer)
            return
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._server)
        except OSError:
            _reset(writer)
            return
        writers = (writer, to_server)
        self._writers |= dict.fromkeys(writers)
        try:
            done, rest = await asyncio.wait(
                [
                    asyncio.ensure_future(self._pipe(reader, to_server, writers, up=True)),
                    asyncio.ensure_future(self._pipe(from_server, writer, writers, up=False)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in rest:
                task.cancel()
            await asyncio.gather(*done, *rest, return_exceptions=True)
        finally:
            for one in writers:
                self._writers.pop(one, None)
                self._deaf.discard(one)
                one.close()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        up: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(BYTES_READ):
                await self._wait(len(chunk))
                if writer in self._deaf or (self.holds_up if up else self.holds_down):
                    continue
                if up and chunk.endswith(COMMIT) and self._rng.random() < self.commits_lost:
                    self._deaf.add(both[0])
                    await self._lose(chunk, writer)
                    for one in both:
                        _reset(one)
                    return
                await self._write(writer, chunk)

    async def _wait(self, size: int) -> None:
        delay_s = self.latency_s + self._rng.random() * self.jitter_s
        if self.bytes_per_s:
            delay_s += size / self.bytes_per_s
        if delay_s:
            await asyncio.sleep(delay_s)

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        step = self.slice_bytes or len(chunk)
        for start in range(0, len(chunk), step):
            writer.write(chunk[start : start + step])
            await writer.drain()
            if self.slice_bytes:
                await asyncio.sleep(0)

    async def _lose(self, chunk: bytes, to_server: asyncio.StreamWriter) -> None:
        """Let the server commit and nobody know it, or not even that."""
        self.lost += 1
        if self._rng.random() < 0.5:
            return
        to_server.write(chunk)
        await to_server.drain()
        await asyncio.sleep(TICK_S)  # the server works it off; its answer is not passed on


def _reset(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    linked = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        if linked is not None and linked.family == socket.AF_INET:
            linked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
