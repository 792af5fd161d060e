"""A small OpenID Connect provider on this machine, which can be told to misbehave."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwk, jwt

CLIENT, SECRET = "ailydian", "the client's secret"


@dataclass
class Provider:
    """What it publishes and says.

    Attributes:
        issuer: Its address.
        person: Who logs in: claims of the token.
        change: Claims that it says otherwise; None leaves one out.
        key: Signs; `published` are those that everybody sees.
        algorithm: Of the signature.
        calls itself: In its discovery document, where it lies.
        asked: The requests to it.
    """

    issuer: str
    person: dict[str, Any]
    change: dict[str, Any] = field(default_factory=dict)
    key: Any = None
    published: list[Any] = field(default_factory=list)
    algorithm: str = "ES256"
    called: str = ""
    asked: list[str] = field(default_factory=list)
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def rotate(self) -> None:
        """Sign with another key, and publish it."""
        self.key = jwk.ECKey.generate_key("P-256", {"kid": secrets.token_hex(4), "use": "sig"})
        self.published = [self.key]

    def authorize(self, query: Mapping[str, str]) -> str:
        """Log the person in at once. Returns where the browser is sent back to."""
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.codes[code] = query
        answer = urlencode({"code": code, "state": query["state"]})
        return f"{query['redirect_uri']}?{answer}"

    def token(self, form: Mapping[str, str], authorization: str | None) -> dict[str, str] | None:
        """The tokens for a code, once; None for whom nothing was promised."""
        begun = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        basic = base64.b64encode(f"{CLIENT}:the%20client%27s%20secret".encode()).decode()
        if (
            begun is None
            or begun["code_challenge"] != challenge
            or form["redirect_uri"] != begun["redirect_uri"]
            or authorization != f"Basic {basic}"
        ):
            return None
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "1",
            "iat": now,
            "exp": now + 300,
            "nonce": begun["nonce"],
            **self.person,
            **self.change,
        }
        said = {name: value for name, value in claims.items() if value is not None}
        return {"token_type": "Bearer", "access_token": "x", "id_token": self._signed(said)}

    def _signed(self, claims: dict[str, Any]) -> str:
        if self.algorithm == "none":
            parts = ({"alg": "none"}, claims)
            return ".".join([*map(_base64, parts), ""])
        header = {"alg": self.algorithm}
        if self.key.kid is not None:
            header["kid"] = self.key.kid
        return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])


def _base64(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@contextmanager
def running(email: str, *, verified: bool = True) -> Iterator[Provider]:
    """Run a provider at which one person is logged in all the time."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing: a test reads `asked`."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            provider.asked.append(parts.path)
            if parts.path == "/.well-known/openid-configuration":
                at = provider.issuer
                self._json(
                    {
                        "issuer": provider.called or at,
                        "authorization_endpoint": f"{at}/authorize",
                        "token_endpoint": f"{at}/token",
                        "jwks_uri": f"{at}/keys",
                    }
                )
            elif parts.path == "/keys":
                self._json({"keys": [one.as_dict(private=False) for one in provider.published]})
            else:
                query = {name: one[0] for name, one in parse_qs(parts.query).items()}
                self.send_response(302)
                self.send_header("Location", provider.authorize(query))
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: one[0] for name, one in parse_qs(body).items()}
            tokens = provider.token(form, self.headers["Authorization"])
            self._json(tokens or {"error": "invalid_grant"}, 200 if tokens else 400)

        def _json(self, document: object, status: int = 200) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    person = {"email": email, "email_verified": verified}
    provider = Provider(f"http://127.0.0.1:{server.server_port}", person)
    provider.rotate()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
