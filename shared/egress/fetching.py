"""Fetching URLs given by tenants, protected against SSRF.

A URL is parsed once and its host resolved once; every resolved address must be public; the
connection goes to one of those, with the host in `Host` and in TLS. A redirect is checked from the
start. Proxies of the environment are not used, and nothing is decompressed. Errors contain the
host only: paths, headers and bodies may hold secrets.
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
# Headers sent to another site after a redirect; all others could be credentials.
_HARMLESS: Final = frozenset({"accept", "accept-language", "user-agent"})
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "te"})


class ReplyRefused(PermanentError):
    """The response was rejected: too large, compressed, or invalid HTTP."""

    code = "reply_refused"


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A request. `headers` may hold credentials, which are sent only to the original site.

    Raises:
        AddressRefused: A reserved or invalid header.
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
                raise AddressRefused(f"Invalid value of the header {name}.")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of a response: its size, and its time including redirects."""

    bytes_max: int = 256 << 10
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A response from `host`; header names are in lower case."""

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
        request: The request.
        limits: Bytes of a body and seconds altogether; resolving a name is bounded by the system.
        policy: What is allowed beyond https to public addresses.
        resolve: Returns the addresses of a host name and port.

    Returns:
        The last response, whatever its status.

    Raises:
        AddressRefused: The address is not allowed; nothing was connected.
        AddressUnreachable: No response, timed out, or the connection was closed early.
        ReplyRefused: The response is too large, compressed, invalid HTTP, or has too many
            redirects; or the certificate is invalid.
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
    raise ReplyRefused(f"{at.host}: too many redirects (at most {REDIRECTS_MAX}).")


def _followed(request: FetchRequest, status: int, url: str) -> FetchRequest:
    is_get = status == _SEE_OTHER or (status in _TO_GET and request.method == "POST")
    if is_get and request.method != "HEAD":
        headers = {n: v for n, v in request.headers.items() if n.lower() != "content-type"}
        return replace(request, url=url, method="GET", headers=headers, body=b"")
    return replace(request, url=url)


def _for_another_site(request: FetchRequest, before: Target) -> FetchRequest:
    if request.body:
        raise AddressRefused(
            f"{before.host} redirects to another site; a request with a body is not forwarded."
        )
    kept = {n: v for n, v in request.headers.items() if n.lower() in _HARMLESS}
    return replace(request, headers=kept)


def _exchange(at: Target, request: FetchRequest, bytes_max: int, deadline: float) -> Reply:
    """Send one request over its own connection, to a checked address."""
    try:
        with closing(_connected(at, deadline)) as sock:
            conn = HTTPConnection(at.host, at.port)
            conn.sock = _Wire(sock, deadline)
            _send(conn, at, request)
            response = conn.getresponse()
            headers = _headers(at, response)
            return Reply(at.host, response.status, headers, _body(at, response, bytes_max))
    except ssl.SSLCertVerificationError:
        raise ReplyRefused(f"{at.host}: invalid TLS certificate.") from None
    except TimeoutError:
        raise AddressUnreachable(f"{at.host}: timed out.") from None
    except (OSError, IncompleteRead):  # RemoteDisconnected and the errors of TLS too
        raise AddressUnreachable(f"{at.host}: connection failed or closed early.") from None
    except (HTTPException, ValueError):
        raise ReplyRefused(f"{at.host}: invalid HTTP response.") from None


def _connected(at: Target, deadline: float) -> socket.socket:
    """Connect to the first reachable address; TLS verifies the host name."""
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
        raise ReplyRefused(f"{at.host}: response headers must be at most {_HEAD_CHARS_MAX} bytes.")
    if found.get("content-encoding", "identity").lower() != "identity":
        raise ReplyRefused(
            f"{at.host} sent a compressed response despite `Accept-Encoding: identity`."
        )
    return found


def _body(at: Target, response: HTTPResponse, bytes_max: int) -> bytes:
    declared = response.length  # None where it is not known before
    too_large = ReplyRefused(f"{at.host}: the response must be at most {bytes_max:,} bytes.")
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
    """The part of a socket that `http.client` uses; every wait ends at the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, piece: bytes) -> None:
        self._sock.settimeout(_left(self._deadline))
        self._sock.sendall(piece)

    def makefile(self, mode: str) -> BufferedReader:  # noqa: ARG002 - the socket's signature
        return BufferedReader(_Reading(self._sock, self._deadline))

    def close(self) -> None:
        """Keep it open: the response is still to be read. `_exchange` closes the socket."""


class _Reading(RawIOBase):
    """The bytes of a socket, with a deadline for every read."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)
