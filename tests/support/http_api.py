"""The HTTP API for tests: a server in this process, and a client that reads answers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from producers.accounts import api_keys, request_rules
from producers.accounts.api_keys import Wish
from producers.accounts.client_addresses import Proxies
from producers.accounts.key_format import Peppers
from producers.accounts.openid import OpenIdClient
from producers.accounts.request_rules import RATE_MAX, Rate, Subject
from producers.accounts.sessions import SessionPolicy
from producers.web import app
from producers.web.access import Keys
from producers.web.connections import Connections
from producers.web.pages import Pages
from producers.web.server import serve
from producers.web.sessions_seen import Sessions
from producers.web.streams import Streams
from producers.web.visitors import Visitors
from shared import db
from shared.ids import TenantId, UserId
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from tests.support import factories
from tests.support.patience import patience

PEPPERS = Peppers((b"a pepper for tests that is long enough",))


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers in lower case, and the bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    set_cookies: Mapping[str, str] = field(default_factory=dict)

    @property
    def cookies(self) -> str:
        """The cookies that a browser sends back."""
        return "; ".join(f"{name}={rest.split(';')[0]}" for name, rest in self.set_cookies.items())

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
            cookies = (
                value.partition("=") for name, value in answer.getheaders() if name == "set-cookie"
            )
            return Reply(
                answer.status, found, answer.read(), {name: rest for name, _, rest in cookies}
            )
        finally:
            connection.close()


@contextmanager
def serving(
    redis_url: str,
    *,
    connections: Connections | None = None,
    streams: Streams | None = None,
    origins: Sequence[str] = (),
    **visitors: Any,
) -> Iterator[Api]:
    """Serve the API on a free port; needs an open pool.

    Args:
        redis_url: Of the pages.
        connections: What bounds clients.
        streams: Of events.
        origins: Whose pages in browsers may call it.
        visitors: How people are known: `policy` of sessions, `proxies`, `provider`.
    """
    streams = streams or Streams()
    db.answer_requests(statement_s=60)
    with wakeups.connect(redis_url) as client:
        pages = Pages(client, Wire("ailydian", factories.KEY))
        keys = Keys(PEPPERS, None)
        server = serve(
            app.build(
                keys,
                pages,
                streams,
                origins=origins,
                visitors=_visitors(**visitors),
            ),
            host="127.0.0.1",
            port=0,
            connections=connections,
        )
        try:
            running = Api(server.port)
            # FastAPI makes its routes at the first request, and silences a warning meanwhile: not
            # in two servers of one process at once.
            running.ask("GET", "/none")
            yield running
        finally:
            streams.stop()
            server.stop()
            keys.flush()
            pages.close()


def _visitors(
    policy: SessionPolicy | None = None,
    proxies: Proxies | None = None,
    provider: OpenIdClient | None = None,
) -> Visitors:
    return Visitors(Sessions(policy or SessionPolicy(PEPPERS)), proxies or Proxies(), provider)


def make_key(tenant_id: TenantId, user_id: str, *scopes: str, pepper: str | None = None) -> str:
    """Make an API key of a user, with the role that the user has."""
    peppers = PEPPERS if pepper is None else Peppers((pepper.encode(),))
    made = api_keys.create(peppers, tenant_id, UserId(user_id), Wish("tests", scopes))
    return made.key


def make_busy(tenant_id: TenantId) -> None:
    """Let a tenant ask as often as it likes, as one that measures does."""
    request_rules.limit(Subject(tenant_id), Rate(RATE_MAX, RATE_MAX))
