"""HEAD of a stream: its headers, and the stream ends instead of running on."""

import asyncio

from starlette.responses import StreamingResponse

from producers.web.heads import Heads
from tests.support.patience import patience


async def endless():
    while True:
        yield b"data: 1\n\n"


def test_a_stream_that_never_ends_is_answered_with_its_headers_and_ended():
    sent, methods = [], []

    async def app(scope, receive, send):
        methods.append(scope["method"])
        await StreamingResponse(endless(), media_type="text/event-stream")(scope, receive, send)

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    async def ask():
        scope = {"type": "http", "method": "HEAD", "path": "/", "headers": []}
        async with asyncio.timeout(patience(10)):
            await Heads(app)(scope, receive, send)

    asyncio.run(ask())
    assert methods == ["GET"]
    assert [one["type"] for one in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == b""
    assert (b"content-type", b"text/event-stream; charset=utf-8") in sent[0]["headers"]
