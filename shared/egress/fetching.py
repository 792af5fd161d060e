"""Fetching what a tenant names, without becoming its hand inside our network (SSRF).

An address is read once and its name resolved once; every address that comes back must be public;
the connection goes to one of those, with the name in `Host` and in TLS. A redirect begins again
at the first rule. Proxies of the environment are not used, and nothing is unpacked. Errors name
the host alone: paths, headers and bodies may hold secrets.
"""

import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from io import BufferedReader, RawIOBase
from typing import Final

from shared.egress.targets import (
    AddressUnreachable,
    EgressPolicy,
    Resolver,
    Target,
    redirected,
    system_resolver,
    target,
)
from shared.errors import AddressRefused, PermanentError

REDIRECTS_MAX: Final = 3
STRICT: Final = EgressPolicy()
_CONNECT_S: Final = 10.0
_PIECE_BYTES: Final = 65_536
_HEAD_CHARS_MAX: Final = 32_768
_SEE_OTHER: Final = 303
_TO_GET: Final = frozenset({301, 302})
_KEPT: Final = frozenset({307, 308})
# What another site may be told after a redirect; everything else could be a credential.
_HARMLESS: Final = frozenset({"accept", "accept-language", "user-agent"})
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "te"})


class ReplyRefused(PermanentError):
    """The other side answered with something that is not taken: too large, packed, or no HTTP."""

    code = "reply_refused"


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What is asked. `headers` may hold credentials: they stay with the site they were given for.

    Raises:
        AddressRefused: A header that is ours to send, or that no header can look like.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
            if not plain or name.lower() in _OURS:
                raise AddressRefused(f"The header {name[:64]!r} cannot be set.")
            if any(not (" " <= each <= "~" or each == "\t") for each in value):
                raise AddressRefused(f"The header {name} holds what no header can.")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much of an answer is taken, and how long it may need with all its redirects."""

    bytes_max: int = 256 << 10
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, from `host`; the names of headers are in lower case."""

    host: str
    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def fetch(
    request: FetchRequest,
    limits: FetchLimits = FetchLimits(),
    *,
    policy: EgressPolicy = STRICT,
    resolve: Resolver = system_resolver,
) -> Reply:
    """Send a request and follow at most three redirects.

    Args:
        request: What is asked.
        limits: Bytes of a body and seconds altogether; resolving a name is bounded by the system.
        policy: What is allowed beyond https to public addresses.
        resolve: From a name and a port, its addresses.

    Returns:
        The last answer, whatever its status.

    Raises:
        AddressRefused: It must not be gone there; nothing was connected.
        AddressUnreachable: Nobody answers, or not in time, or hangs up half-way.
        ReplyRefused: The answer is too large, packed, no HTTP, or one redirect too many; or the
            certificate is not right.
    """
    deadline = time.monotonic() + limits.timeout_s
    before: Target | None = None
    for _ in range(REDIRECTS_MAX + 1):
        at = target(request.url, policy, resolve)
        if before is not None and before.origin != at.origin:
            request = _for_another_site(request, before)
        reply = _exchange(at, request, limits.bytes_max, deadline)
        location = reply.headers.get("location")
        if location is None or reply.status not in _TO_GET | _KEPT | {_SEE_OTHER}:
            return reply
        request, before = _followed(request, reply.status, redirected(at, location)), at
    raise ReplyRefused(f"{at.host} redirects more than {REDIRECTS_MAX} times.")


def _followed(request: FetchRequest, status: int, url: str) -> FetchRequest:
    is_get = status == _SEE_OTHER or (status in _TO_GET and request.method == "POST")
    if is_get and request.method != "HEAD":
        headers = {n: v for n, v in request.headers.items() if n.lower() != "content-type"}
        return replace(request, url=url, method="GET", headers=headers, body=b"")
    return replace(request, url=url)


def _for_another_site(request: FetchRequest, before: Target) -> FetchRequest:
    if request.body:
        raise AddressRefused(f"{before.host} redirects to another site, which is sent no body.")
    kept = {n: v for n, v in request.headers.items() if n.lower() in _HARMLESS}
    return replace(request, headers=kept)


def _exchange(at: Target, request: FetchRequest, bytes_max: int, deadline: float) -> Reply:
    """One request over a connection of its own, to an address that was checked."""
    try:
        with closing(_connected(at, deadline)) as sock:
            conn = HTTPConnection(at.host, at.port)
            conn.sock = _Wire(sock, deadline)
            _send(conn, at, request)
            response = conn.getresponse()
            headers = _headers(at, response)
            return Reply(at.host, response.status, headers, _body(at, response, bytes_max))
    except ssl.SSLCertVerificationError:
        raise ReplyRefused(
            f"{at.host} shows a certificate that is not its own or not valid."
        ) from None
    except TimeoutError:
        raise AddressUnreachable(f"{at.host} did not answer in time.") from None
    except (OSError, IncompleteRead):  # RemoteDisconnected and the errors of TLS too
        raise AddressUnreachable(f"{at.host} cannot be reached, or hung up half-way.") from None
    except (HTTPException, ValueError):
        raise ReplyRefused(f"{at.host} answered with something that is no HTTP.") from None


def _connected(at: Target, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; TLS is told the name."""
    failed: OSError = TimeoutError()
    for address in at.addresses:
        try:
            sock = socket.create_connection((address, at.port), min(_CONNECT_S, _left(deadline)))
        except OSError as error:
            failed = error
            continue
        if at.scheme == "http":
            return sock
        try:
            sock.settimeout(_left(deadline))
            return _tls().wrap_socket(sock, server_hostname=at.host)
        except BaseException:
            sock.close()
            raise
    raise failed


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _send(conn: HTTPConnection, at: Target, request: FetchRequest) -> None:
    conn.putrequest(request.method, at.path, skip_host=True, skip_accept_encoding=True)
    conn.putheader("Host", at.authority)
    conn.putheader("Accept-Encoding", "identity")
    conn.putheader("Connection", "close")
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        conn.putheader("Content-Length", str(len(request.body)))
    given = {name.lower(): value for name, value in request.headers.items()}
    for name, value in ({"user-agent": "ailydian"} | given).items():
        if name != "accept-encoding":
            conn.putheader(name, value)
    conn.endheaders(request.body or None)


def _headers(at: Target, response: HTTPResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    if sum(len(name) + len(value) for name, value in found.items()) > _HEAD_CHARS_MAX:
        raise ReplyRefused(f"{at.host} answered with headers of more than {_HEAD_CHARS_MAX} bytes.")
    if found.get("content-encoding", "identity").lower() != "identity":
        raise ReplyRefused(f"{at.host} packed its answer, though asked not to.")
    return found


def _body(at: Target, response: HTTPResponse, bytes_max: int) -> bytes:
    declared = response.length  # None where it is not known before
    too_large = ReplyRefused(f"{at.host} answered with more than {bytes_max:,} bytes.")
    if declared is not None and declared > bytes_max:
        raise too_large
    body = bytearray()
    while piece := response.read(min(_PIECE_BYTES, bytes_max + 1 - len(body))):
        body += piece
        if len(body) > bytes_max:
            raise too_large
    if declared is not None and len(body) < declared:
        raise ConnectionResetError  # `read` does not say that the body was cut short
    return bytes(body)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Wire:
    """As much of a socket as `http.client` uses; each wait ends at the deadline, so all do."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, piece: bytes) -> None:
        self._sock.settimeout(_left(self._deadline))
        self._sock.sendall(piece)

    def makefile(self, mode: str) -> BufferedReader:  # noqa: ARG002 - the socket's signature
        return BufferedReader(_Reading(self._sock, self._deadline))

    def close(self) -> None:
        """Leave it open: the answer is still to be read. `_exchange` closes the socket."""


class _Reading(RawIOBase):
    """The bytes of a socket, each wait for them bounded."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)
