"""A web site of one's own: answers bytes as a test scripts them, and shows what it was asked."""

import socket
import ssl
import threading
from collections import deque

from tests.support.patience import patience

TLS_NAME = "api.public.test"
# Made for these tests alone, for a hundred years: a site's own certificate, and its key.
TLS_PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgWonPggAnFxtb5clR
xwQTRu/yX6WFRLfUElBmJ20n97qhRANCAAQ2PXN5CSqYJYwXVNAB3yKPRXuJjvGg
nw4CSk1uB3aDBmtrPpBIqaWpwZvyCZ/5uTdpO6aIZpBSL4U0wmKw8Q97
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBpzCCAU2gAwIBAgIUcH1/mD6p8Y5Ax/hKbtVb/fUCTVYwCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPYXBpLnB1YmxpYy50ZXN0MCAXDTI2MTEyMzAwMzExNloYDzIx
MjYxMDMwMDAzMTE2WjAaMRgwFgYDVQQDDA9hcGkucHVibGljLnRlc3QwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAAQ2PXN5CSqYJYwXVNAB3yKPRXuJjvGgnw4CSk1u
B3aDBmtrPpBIqaWpwZvyCZ/5uTdpO6aIZpBSL4U0wmKw8Q97o28wbTAdBgNVHQ4E
FgQUOIl6f0gyipyhmhcvoGOOkDCACj0wHwYDVR0jBBgwFoAUOIl6f0gyipyhmhcv
oGOOkDCACj0wDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgg9hcGkucHVibGlj
LnRlc3QwCgYIKoZIzj0EAwIDSAAwRQIgQqHz8ek8jMwt3ntOph0hvVpBQXzq4ndu
vZ/wGpF/im0CIQCYECJkSHsTgagyg0KWtoxoZWjKeGw7Uf5XWJGZgJNp+g==
-----END CERTIFICATE-----
"""


def answer(body=b"", *, status=200, kind="application/json", **headers):
    """The bytes of one right answer; names of headers are written with underscores."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class StubSite:
    """Listens on an address of this machine; each connection gets the next of `answers`.

    An answer is bytes, sent before the connection is closed, or a function that is given the
    socket. Without one the connection is closed after the request was read.
    """

    def __init__(self, *answers, address="127.0.0.1", port=0, pem=None):
        self.answers, self.requests = deque(answers), []
        self._tls = _server_side(pem) if pem else None
        self.connections = 0
        self._listening = socket.create_server((address, port))
        self.address, self.port = self._listening.getsockname()[:2]

    @property
    def url(self):
        return f"http://{self.address}:{self.port}"

    @property
    def pair(self):
        """What allows to reach it."""
        return self.address, self.port

    def __enter__(self):
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(patience(10))
        self._listening.close()

    def _serve(self):
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with sock:
                sock.settimeout(10)
                try:
                    if self._tls:
                        sock = self._tls.wrap_socket(sock, server_side=True)
                    with sock:
                        self._talk(sock)
                except OSError:
                    continue  # the client has hung up

    def _talk(self, sock):
        self.requests.append(_request(sock))
        given = self.answers.popleft() if self.answers else b""
        if callable(given):
            given(sock)
        elif given:
            sock.sendall(given)


def _server_side(pem):
    """What speaks TLS with the certificate and the key in this file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _request(sock):
    """One request as text: its head, and as much of a body as the head announces."""
    read = bytearray()
    while b"\r\n\r\n" not in read:
        piece = sock.recv(65536)
        if not piece:
            return read.decode("latin-1")
        read += piece
    head, _, body = bytes(read).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next((int(x[15:]) for x in lines if x.startswith("content-length:")), 0)
    while len(body) < length:
        body += sock.recv(65536)
    return f"{head.decode('latin-1')}\r\n\r\n{body.decode('latin-1')}"
