"""A small, fast stand-in for POST /v1/embeddings and /v1/moderations, with scripted faults.

In a test: `with StubOpenAI() as stub: ...; stub.faults.append(Fault(status=429))`.
Beside one: `python -m tests.support.stub_openai --port 0 --delay-ms 0` prints its URL on line one.
Vectors follow from the text's hash alone: two slices of one fixed pool of random floats, which is
held in base64 already, so an answer costs the stub a copy and no arithmetic.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import threading
import zlib
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tests.support.patience import patience

WIDTH = 1536
REFUSED_TEXT = "REFUSE-THIS-TEXT"  # an input that holds it is answered with 400
VIOLENT_TEXT = "VIOLENT-TEXT"  # an input that holds it is moderated as violent, any other as clean
_POOL_FLOATS = 3 * 2**18
_HALF_CHARS = WIDTH * 4 * 4 // 3 // 2


def _pool():
    floats = np.random.Generator(np.random.PCG64(20)).standard_normal(_POOL_FLOATS)
    return base64.b64encode((floats / np.sqrt(WIDTH)).astype("<f4").tobytes()).decode()


_POOL = _pool()
_STARTS = (len(_POOL) - _HALF_CHARS) // 16  # 16 characters are 12 bytes are 3 floats


def encoded(text):
    """The base64 of a text's vector: 1536 little-endian float32, of length about 1."""
    drawn = hashlib.blake2b(text.encode(), digest_size=16).digest()
    starts = (int.from_bytes(drawn[:8]) % _STARTS * 16, int.from_bytes(drawn[8:]) % _STARTS * 16)
    return "".join(_POOL[start : start + _HALF_CHARS] for start in starts)


def vector(text):
    """A text's vector as float32, shape (1536,)."""
    return np.frombuffer(base64.b64decode(encoded(text)), dtype="<f4")


@dataclass
class Fault:
    """What one answer does instead of being right.

    `body` replaces the answer; `edit` is called with the right answer, a dict, and returns
    the one to send; `how` is one of stall, trickle, reset, cut, endless, gzip_bomb.
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    edit: object = None
    how: str = ""


@dataclass
class Seen:
    """What the stub was asked, for a test or the benchmark to look at."""

    requests: int = 0
    inputs: int = 0
    inputs_max: int = 0
    tokens_max: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    bodies: deque = field(default_factory=lambda: deque(maxlen=64))
    authorization: str = ""


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: enough of the protocol for a client that sends a length."""

    def __init__(self, stub):
        self.stub, self.buffer, self.needed = stub, bytearray(), None

    def connection_made(self, transport):
        self.transport = transport
        self.stub.transports.add(transport)

    def connection_lost(self, exc):
        self.stub.transports.discard(self.transport)

    def data_received(self, chunk):
        self.buffer += chunk
        while True:
            if self.needed is None:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                self.head = bytes(self.buffer[:end]).decode("latin-1")
                lines = self.head.lower().split("\r\n")
                length = next((x[15:] for x in lines if x.startswith("content-length:")), "0")
                self.start, self.needed = end + 4, end + 4 + int(length)
            if len(self.buffer) < self.needed:
                return
            body = bytes(self.buffer[self.start : self.needed])
            del self.buffer[: self.needed]
            self.needed = None
            self.stub.asked(self, self.head, body)

    def answer(self, body, status=200, headers=None):
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines.append(f"Content-Length: {len(body)}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)


class StubOpenAI:
    """The server, in a thread of its own; `url` is what OPENAI_BASE_URL wants."""

    def __init__(self, *, port=0, delay_ms=0, headers=None):
        self.port, self.delay_s, self.headers = port, delay_ms / 1000, headers or {}
        self.faults, self.seen, self.transports = deque(), Seen(), set()
        # A server's own rules: called with each request, returns a status to refuse it with.
        self.rule = lambda request: None
        self._stopped = threading.Event()

    def __enter__(self):
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(patience(10))
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(patience(10))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self, started):
        async def run():
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = await self._loop.create_server(
                lambda: _Connection(self), "127.0.0.1", self.port
            )
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self._stop.wait()
            server.close()
            for transport in list(self.transports):
                transport.abort()
            await asyncio.sleep(0)

        asyncio.run(run())

    def asked(self, connection, head, body):
        """One whole request has come in: count it, then answer now or after the delay."""
        if head.startswith("GET /stats"):
            counts = {k: v for k, v in vars(self.seen).items() if isinstance(v, int)}
            return connection.answer(json.dumps(counts).encode())
        request, seen = json.loads(body), self.seen
        inputs = request["input"]
        inputs = [inputs] if isinstance(inputs, str) else inputs
        tokens = sum(-(-len(text.encode()) // 4) for text in inputs)
        seen.requests += 1
        seen.inputs += len(inputs)
        seen.inputs_max = max(seen.inputs_max, len(inputs))
        seen.tokens_max = max(seen.tokens_max, tokens)
        seen.in_flight += 1
        seen.in_flight_max = max(seen.in_flight_max, seen.in_flight)
        seen.bodies.append(request)
        lines = head.split("\r\n")
        seen.authorization = next((x[15:] for x in lines if x[:14].lower() == "authorization:"), "")
        fault = self.faults.popleft() if self.faults else None
        if self.delay_s:
            self._loop.call_later(self.delay_s, self._finish, connection, request, inputs, fault)
        else:
            self._finish(connection, request, inputs, fault)
        return None

    def _finish(self, connection, request, inputs, fault):
        self.seen.in_flight -= 1
        if fault and fault.how:
            return _misbehave(connection, fault.how)
        if fault and (fault.body is not None or fault.status != 200):
            body = fault.body if fault.body is not None else _error("stub_fault")
            return connection.answer(body, fault.status, fault.headers)
        if status := self.rule(request):
            return connection.answer(_error("stub_rule"), status, self.headers)
        if refusal := _refusal(inputs):
            return connection.answer(_error(refusal), 400, self.headers)
        headers = {**self.headers, **(fault.headers if fault else {})}
        right = _moderated if "moderation" in request["model"] else _right
        return connection.answer(right(request, inputs, fault and fault.edit), 200, headers)


def _right(request, inputs, edit):
    tokens = sum(-(-len(text.encode()) // 4) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if edit is None and request.get("encoding_format") == "base64":
        # By hand: json.dumps would look at every character for something to escape.
        rows = ",".join(
            f'{{"object":"embedding","index":{index},"embedding":"{encoded(text)}"}}'
            for index, text in enumerate(inputs)
        )
        tail = f'"model":{json.dumps(request["model"])},"usage":{json.dumps(usage)}'
        return f'{{"object":"list","data":[{rows}],{tail}}}'.encode()
    base64_asked = request.get("encoding_format") == "base64"
    rows = [
        {
            "object": "embedding",
            "index": index,
            "embedding": encoded(text) if base64_asked else vector(text).tolist(),
        }
        for index, text in enumerate(inputs)
    ]
    answer = {"object": "list", "data": rows, "model": request["model"], "usage": usage}
    return json.dumps(edit(answer) if edit else answer).encode()


def _moderated(request, inputs, edit):
    results = []
    for text in inputs:
        scores = {"harassment": 0.001, "violence": 0.97 if VIOLENT_TEXT in text else 0.002}
        flags = {category: score >= 0.5 for category, score in scores.items()}
        flagged = any(flags.values())
        results.append({"flagged": flagged, "categories": flags, "category_scores": scores})
    answer = {"id": "modr-1", "model": request["model"], "results": results}
    return json.dumps(edit(answer) if edit else answer).encode()


def _refusal(inputs):
    if len(inputs) > 2048:
        return "too_many_inputs"
    if sum(-(-len(text.encode()) // 4) for text in inputs) > 300_000:
        return "too_many_tokens"
    if any(not text or REFUSED_TEXT in text for text in inputs):
        return "invalid_input"
    return None


def _error(code):
    return json.dumps({"error": {"message": "no", "type": "stub", "code": code}}).encode()


def _misbehave(connection, how):
    transport, loop = connection.transport, asyncio.get_running_loop()
    head = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n"

    def drip(piece, every_s):
        if not transport.is_closing():
            transport.write(piece)
            loop.call_later(every_s, drip, piece, every_s)

    if how == "reset":
        transport.abort()
    elif how == "cut":
        transport.write(head + b'Content-Length: 5000\r\n\r\n{"data": [')
        transport.close()
    elif how == "trickle":
        transport.write(head + b"Content-Length: 5000\r\n\r\n")
        drip(b" ", 0.02)
    elif how == "endless":
        transport.write(head + b"Connection: close\r\n\r\n")
        drip(b" " * 2**20, 0)
    elif how == "gzip_bomb":
        packer = zlib.compressobj(9, wbits=31)
        body = packer.compress(bytes(2**22)) + packer.flush()
        length = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        transport.write(head + length.encode() + body)
    # "stall": nothing at all, until the client gives up.


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0)
    arguments = parser.parse_args()
    with StubOpenAI(port=arguments.port, delay_ms=arguments.delay_ms) as stub:
        print(stub.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
