"""The HTTP server: uvicorn in a thread, on a socket of ours."""

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from producers.web.bounds import Receive, Scope, Send
from producers.web.connections import Connections
from producers.web.listeners import bound

KEEP_ALIVE_S = 5
DRAIN_S = 5
# Taken at once, before those that are too many are closed: files for them must be there.
BACKLOG = 128


# What a connection needs to know of a request whose answer goes on.
_KEPT = frozenset({"type", "method", "http_version", "extensions"})


class GoingOn:
    """Answers that go on do so without all that routed them: a stream costs half the memory."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, then what it has put into the extension `ailydian.later`."""
        later: list[Callable[[Receive, Send], Awaitable[None]]] = []
        scope["extensions"]["ailydian.later"] = later
        await self._app(scope, receive, send)
        while later and scope["method"] != "HEAD":
            for name in scope.keys() - _KEPT:
                del scope[name]
            await later.pop()(receive, send)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs, and where it listens."""

    port: int
    _server: uvicorn.Server
    _thread: threading.Thread

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    def stop(self) -> None:
        """End it: requests that run are answered, for some seconds."""
        self._server.should_exit = True
        self._thread.join()


def serve(
    app: FastAPI,
    *,
    host: str,
    port: int,
    connections: Connections | None = None,
    shared_port: bool = False,
) -> Serving:
    """Answer requests in a thread until the server is stopped.

    Args:
        app: The application.
        host: The address to listen on.
        port: 0 takes a free one.
        connections: What bounds them.
        shared_port: Whether other processes of ours listen there too: the system deals connections
            out by a hash of both addresses.

    Raises:
        OSError: The address is taken.
    """
    listener = bound(host, port, shared_port=shared_port)
    try:
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    config = uvicorn.Config(
        GoingOn(app),
        http=(connections or Connections()).protocol,  # type: ignore[arg-type]  # called as a class
        ws="none",
        backlog=BACKLOG,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="web")
    thread.start()
    return Serving(listener.getsockname()[1], server, thread)
