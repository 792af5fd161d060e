"""A stand-in for a pooler in transaction mode: few connections, lent for one transaction each.

In a test: `with Pooler(database_url) as pooler: ... pooler.url`. A client gets a random free
server connection at its first message and loses it when its transaction ends. What the session
kept is forgotten then, and noted in `session_uses` where it can be seen on the wire. While `away`
is true it answers as PgBouncer does whose Postgres is down: clients connect, and are refused.
"""

import asyncio
import random
import re
import threading
from contextlib import suppress
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from tests.support.patience import patience

STARTUP, SSL, GSSENC = 196608, 80877103, 80877104
# What outlives a transaction, as the beginning of a statement.
_SESSION = re.compile(
    rb"(?i)\s*(LISTEN\b|PREPARE\s(?!TRANSACTION)|SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)"
    rb"|CREATE\s+TEMP|DECLARE\s.*WITH\s+HOLD|(SELECT\s+)?pg_advisory_lock|LOAD\b)"
)


@dataclass(eq=False)
class Server:
    """A connection to Postgres; `expected` answers are on their way."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    expected: int = 0


class Pooler:
    """The pooler, in a thread of its own, on a free port of the loopback."""

    def __init__(self, url, *, servers=3, seed=1):
        self._target = conninfo_to_dict(url)
        self._count, self._random = servers, random.Random(seed)
        self._parameters = b""
        self.session_uses: list[str] = []
        self.away = False
        self.refused = 0
        self.transactions = self.clients = self.clients_max = 0

    def __enter__(self):
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        assert started.wait(patience(30))
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(patience(30))

    @property
    def url(self):
        user, name = self._target["user"], self._target["dbname"]
        return f"postgresql://{user}@127.0.0.1:{self.port}/{name}"

    async def _serve(self, started):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._freed, self._tasks = asyncio.Condition(), set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._free = [await self._connect() for _ in range(self._count)]
        listener = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await listener.wait_closed()
        for writer in list(self._writers):
            await self._close(writer)

    # ---- towards Postgres

    async def _connect(self):
        path = f"{self._target['host']}/.s.PGSQL.{self._target.get('port', 5432)}"
        server = Server(*await asyncio.open_unix_connection(path))
        self._writers.add(server.writer)
        words = ["user", self._target["user"], "database", self._target["dbname"], "", ""]
        body = STARTUP.to_bytes(4) + "\0".join(words).encode()
        server.writer.write((len(body) + 4).to_bytes(4) + body)
        self._parameters = b""
        while (message := await _message(server.reader))[:1] != b"Z":
            assert message[:1] in b"RSK", message
            if message[:1] == b"S":
                self._parameters += message
        return server

    async def _take(self):
        async with self._freed:
            await self._freed.wait_for(lambda: self._free)
            return self._free.pop(self._random.randrange(len(self._free)))

    async def _give_back(self, server, *, clean):
        """Free a connection for whoever comes next; one that was left amid a transaction ends."""
        if clean:
            server.writer.write(_query(b"DISCARD ALL"))
            while (await _message(server.reader))[:1] != b"Z":
                pass
        else:
            await self._close(server.writer)
            server = await self._connect()
        async with self._freed:
            self._free.append(server)
            self._freed.notify()

    # ---- towards the clients

    async def _client(self, reader, writer):
        task = asyncio.current_task()
        self._writers.add(writer)
        self._tasks.add(task)
        self.clients += 1
        self.clients_max = max(self.clients_max, self.clients)
        # Cancelled is how we stop it; a handler must not end in that.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            if await self._greet(reader, writer):
                await _Session(self, reader, writer).run()
        self.clients -= 1
        await self._close(writer)
        self._tasks.discard(task)

    async def _close(self, writer):
        """Close a connection and wait until its socket is: the loop may end right after."""
        self._writers.discard(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _greet(self, reader, writer):
        """Answer the first packets: no encryption, no password. Whether a session begins."""
        while True:
            length = int.from_bytes(await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            code = int.from_bytes(body[:4])
            if code not in (SSL, GSSENC):
                break
            writer.write(b"N")
        trusted, key = b"R\0\0\0\x08\0\0\0\0", b"K\0\0\0\x0c" + bytes(8)
        writer.write(trusted + self._parameters + key + b"Z\0\0\0\x05I")
        return code >> 16 == 3  # else it asks to cancel something: nobody here needs that

    def note(self, message):
        """Note what a client asks for that would outlive its transaction."""
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, _, statement = body.partition(b"\0")
            if name:
                self.session_uses.append(f"prepared {statement[:60]!r}")
        if kind in b"QP":
            statements = body.split(b";") if kind == b"Q" else [body.partition(b"\0")[2]]
            found = [one.strip(b"\0 \n") for one in statements if _SESSION.match(one)]
            self.session_uses += [one[:60].decode() for one in found]


class _Session:
    """One client: its messages go to the server that it holds, or to the next free one."""

    def __init__(self, pooler, reader, writer):
        self._pooler, self._reader, self._writer = pooler, reader, writer
        self._server = self._answers = None

    async def run(self):
        try:
            while (message := await _message(self._reader))[:1] != b"X":
                self._pooler.note(message)
                if self._server is None:
                    if self._pooler.away:
                        self._pooler.refused += 1
                        self._writer.write(_REFUSAL)
                        await self._writer.drain()
                        return
                    if self._answers is not None:
                        await self._answers
                    self._server = await self._pooler._take()
                    self._answers = asyncio.ensure_future(self._carry_answers(self._server))
                self._server.expected += message[:1] in b"QSF"
                self._server.writer.write(message)
        finally:
            if self._server is not None:
                self._answers.cancel()
                await asyncio.wait([self._answers])
                await self._pooler._give_back(self._server, clean=False)
            elif self._answers is not None:
                await self._answers

    async def _carry_answers(self, server):
        """Carry answers to the client until its transaction is over."""
        while True:
            message = await _message(server.reader)
            self._writer.write(message)
            if message[:1] == b"Z":
                server.expected -= 1
                if server.expected == 0 and message[5:] == b"I":
                    self._server = None
                    self._pooler.transactions += 1
                    await self._pooler._give_back(server, clean=True)
                    return


_WORDS = (
    b"SFATAL\0VFATAL\0C08P01\0"
    b"Mserver login has been failing, try again later (server_login_retry)\0\0"
)
_REFUSAL = b"E" + (len(_WORDS) + 4).to_bytes(4) + _WORDS


async def _message(reader):
    """One message, whole: its kind, its length, its body."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


def _query(statement):
    return b"Q" + (len(statement) + 5).to_bytes(4) + statement + b"\0"
