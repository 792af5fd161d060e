"""HEAD: every GET without its body."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from producers.web.bounds import Receive, Scope, Send

# In the scope of a request: what a GET does once, such as a link that signs in, it does not do.
IS_HEAD: Final = "ailydian.is_head"


class Heads:
    """Answers HEAD as the same GET, without the body; a stream ends after its headers."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        begun = asyncio.Event()

        async def received() -> MutableMapping[str, Any]:
            if begun.is_set():
                return {"type": "http.disconnect"}
            asked = asyncio.ensure_future(receive())
            ended = asyncio.ensure_future(begun.wait())
            try:
                await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
                return asked.result() if asked.done() else {"type": "http.disconnect"}
            finally:
                asked.cancel()
                ended.cancel()

        async def sent(message: MutableMapping[str, Any]) -> None:
            if begun.is_set():
                await asyncio.sleep(0)  # a stream that never waits lets its end be noticed
                return
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body", "body": b""})
                begun.set()

        await self._app({**scope, "method": "GET", IS_HEAD: True}, received, sent)
