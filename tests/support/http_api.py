"""The HTTP API for tests: a server in this process, and a client that reads answers."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from producers.accounts import api_keys
from producers.accounts.api_keys import Wish
from producers.accounts.key_format import Peppers
from producers.web import app
from producers.web.access import Keys
from producers.web.connections import CONNECTIONS_MAX, Connections
from producers.web.pages import Pages
from producers.web.server import serve
from producers.web.streams import Streams
from shared.ids import TenantId, UserId
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from shared.workflow.live_texts import LiveTexts
from tests.support import factories
from tests.support.patience import patience

PEPPERS = Peppers((b"a pepper for tests, which is long enough",))


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers in lower case, and the bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def document(self) -> Any:
        """The JSON document of the answer."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.document["code"])


@dataclass(frozen=True)
class Api:
    """A server that listens on `port`."""

    port: int

    def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: object = None,
        **headers: str,
    ) -> Reply:
        """Send a request on a connection of its own.

        Args:
            method: Of the request.
            path: With its query.
            key: The API key.
            body: Bytes as they are, anything else as JSON.
            headers: By their names with _ for -.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            named["Authorization"] = f"Bearer {key}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            named.setdefault("Content-Type", "application/json")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=patience(20))
        try:
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(
    redis_url: str,
    *,
    connections_max: int = CONNECTIONS_MAX,
    streams: Streams | None = None,
    clock_speed: float = 1.0,
    origins: Sequence[str] = (),
) -> Iterator[Api]:
    """Serve the API on a free port; needs an open pool.

    Args:
        redis_url: Of the pages.
        connections_max: How many clients.
        streams: Of events.
        clock_speed: How fast the time of slow clients runs.
        origins: Whose pages in browsers may call it.
    """
    streams = streams or Streams()
    with wakeups.connect(redis_url) as client:
        pages = Pages(client, Wire("ailydian", factories.KEY))
        keys = Keys(PEPPERS, None)
        server = serve(
            app.build(
                keys,
                pages,
                LiveTexts(client, "ailydian", factories.KEY),
                streams,
                origins=origins,
            ),
            host="127.0.0.1",
            port=0,
            connections=Connections(connections_max, lambda: clock_speed * time.monotonic()),
        )
        try:
            yield Api(server.port)
        finally:
            streams.stop()
            server.stop()
            keys.flush()
            pages.close()


def make_key(tenant_id: TenantId, user_id: str, *scopes: str, pepper: str | None = None) -> str:
    """Make an API key of a user, with the role that the user has."""
    peppers = PEPPERS if pepper is None else Peppers((pepper.encode(),))
    made = api_keys.create(peppers, tenant_id, UserId(user_id), Wish("tests", scopes))
    return made.key
