"""OpenID Connect: people log in at a provider, whom the settings name.

The code flow with PKCE: what a provider says of a person counts when its token is signed by a key
of its own, for us, now, and for the login that this browser began. Requests go through the rules of
egress.
"""

import base64
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from producers.accounts.key_format import Peppers
from shared.egress.fetching import FetchLimits, FetchRequest, Reply, fetch
from shared.egress.targets import EgressPolicy, policy_of
from shared.errors import AilydianError, ConfigurationBroken, PermanentError, ServerUnavailable
from shared.settings import Settings

if TYPE_CHECKING:
    # Imported where a provider is asked: they take 9 MB, and most servers have no provider.
    from joserfc import jwk

FLOW_S: Final = 600.0
KNOWN_S: Final = 3_600.0
KEYS_AGAIN_S: Final = 10.0
LEEWAY_S: Final = 30
# Signatures by a public key alone: with a shared secret or without one, anybody could sign.
ALGORITHMS: Final = ("RS256", "ES256", "PS256", "EdDSA")
_LIMITS: Final = FetchLimits(timeout_s=10.0)
_OK: Final = 200


class LoginProviderRefused(PermanentError):
    """The provider did not log the person in, or what it said does not hold."""

    code = "login_wrong"


class LoginProviderUnavailable(ServerUnavailable):
    """The provider cannot be reached."""

    code = "provider_unavailable"


@dataclass(frozen=True, slots=True)
class OpenIdClient:
    """Who we are at which provider."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_url: str
    egress: EgressPolicy


@dataclass(frozen=True, slots=True)
class LoginFlow:
    """A login that a browser has begun; it keeps this in a signed cookie until it comes back."""

    state: str
    nonce: str
    verifier: str = field(repr=False)
    until: float


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    keys: str


def client(settings: Settings) -> OpenIdClient | None:
    """Return what the settings say of a provider; None where there is none.

    Raises:
        ConfigurationBroken: Only a part is set.
    """
    named = (settings.oidc_issuer, settings.oidc_client_id, settings.oidc_redirect_url)
    issuer, client_id, redirect_url = named
    if not any(named):
        return None
    if issuer is None or client_id is None or redirect_url is None:
        raise ConfigurationBroken(
            "AILYDIAN_OIDC_ISSUER, _CLIENT_ID and _REDIRECT_URL are set together."
        )
    secret = settings.oidc_client_secret
    return OpenIdClient(
        issuer,
        client_id,
        None if secret is None else secret.get_secret_value(),
        redirect_url,
        policy_of(settings),
    )


class OpenIdProvider:
    """A provider: where it is asked, its keys, and what it says of people. Thread-safe."""

    def __init__(self, at: OpenIdClient) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._endpoints: _Endpoints | None = None
        self._keys: jwk.KeySet | None = None
        self._until = 0.0
        self._keys_at = 0.0

    def begin(self, now: float) -> tuple[str, LoginFlow]:
        """Begin a login. Blocks.

        Returns:
            Where the browser goes, and what it keeps.

        Raises:
            LoginProviderUnavailable: The provider cannot be reached.
            LoginProviderRefused: What it publishes of itself is invalid.
        """
        from authlib.oauth2.rfc6749 import parameters  # type: ignore[import-untyped]  # noqa: PLC0415
        from authlib.oauth2.rfc7636 import (  # type: ignore[import-untyped]  # noqa: PLC0415
            create_s256_code_challenge,
        )

        endpoints, _ = self._known()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = LoginFlow(state, nonce, verifier, now + FLOW_S)
        address = parameters.prepare_grant_uri(
            endpoints.authorization,
            self._at.client_id,
            "code",
            redirect_uri=self._at.redirect_url,
            scope="openid email",
            state=flow.state,
            nonce=flow.nonce,
            code_challenge=create_s256_code_challenge(flow.verifier),
            code_challenge_method="S256",
        )
        return str(address), flow

    def email(self, flow: LoginFlow, code: str) -> str:
        """Return the verified e-mail address of the person who has logged in. Blocks.

        Raises:
            LoginProviderUnavailable: The provider cannot be reached.
            LoginProviderRefused: It does not know the code, or its token does not hold.
        """
        from joserfc import jwt  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415

        endpoints, keys = self._known()
        token = self._id_token(endpoints, flow, code)
        try:
            try:
                found = jwt.decode(token, keys, algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                # Perhaps by a key that is newer than what is known here.
                found = jwt.decode(token, self._newer_keys(endpoints), algorithms=ALGORITHMS)
            self._check(found.claims, flow)
        except (JoseError, ValueError, TypeError) as error:
            raise LoginProviderRefused(
                f"The token of the provider is invalid: {type(error).__name__}."
            ) from None
        return str(found.claims["email"])

    def _check(self, claims: Mapping[str, Any], flow: LoginFlow) -> None:
        from joserfc.jwt import JWTClaimsRegistry  # noqa: PLC0415

        registry = JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._at.issuer},
            aud={"essential": True, "value": self._at.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": flow.nonce},
            email={"essential": True},
        )
        registry.validate(dict(claims))
        audience = claims["aud"]
        several = isinstance(audience, list) and len(audience) > 1
        if (several or "azp" in claims) and claims.get("azp") != self._at.client_id:
            raise ValueError("azp")
        if claims.get("email_verified") not in {True, "true"}:
            raise LoginProviderRefused("The provider has not verified the e-mail address.")

    def _id_token(self, endpoints: _Endpoints, flow: LoginFlow, code: str) -> str:
        at = self._at
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": at.redirect_url,
            "code_verifier": flow.verifier,
            "client_id": at.client_id,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if at.client_secret is not None:
            named = f"{quote(at.client_id, safe='')}:{quote(at.client_secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(named.encode()).decode()}"
        body = urlencode(form).encode()
        answer = self._fetched(FetchRequest("POST", endpoints.token, headers, body))
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise LoginProviderRefused("The provider has sent no token of the person.")
        return token

    def _known(self) -> "tuple[_Endpoints, jwk.KeySet]":
        with self._lock:
            if self._endpoints is None or self._keys is None or self._until < time.monotonic():
                self._endpoints = self._discovered()
                self._keys = self._fetched_keys(self._endpoints)
                self._keys_at = time.monotonic()
                self._until = self._keys_at + KNOWN_S
            return self._endpoints, self._keys

    def _newer_keys(self, endpoints: _Endpoints) -> "jwk.KeySet":
        """Fetch the keys again, at most every few seconds: a forged token costs no flood."""
        with self._lock:
            if self._keys is None or self._keys_at + KEYS_AGAIN_S < time.monotonic():
                self._keys = self._fetched_keys(endpoints)
                self._keys_at = time.monotonic()
            return self._keys

    def _discovered(self) -> _Endpoints:
        url = f"{self._at.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = self._fetched(FetchRequest("GET", url))
        if document.get("issuer") != self._at.issuer:
            raise LoginProviderRefused(
                f"The provider calls itself {document.get('issuer')!r:.200}."
            )
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        found = [document.get(name) for name in names]
        if not all(isinstance(one, str) for one in found):
            raise LoginProviderRefused(f"The provider publishes no {', '.join(names)}.")
        return _Endpoints(*map(str, found))

    def _fetched_keys(self, endpoints: _Endpoints) -> "jwk.KeySet":
        from joserfc import jwk  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415

        document = self._fetched(FetchRequest("GET", endpoints.keys))
        try:
            # Of a kind that signs by a public key; others are left aside.
            keys: Sequence[Any] = document["keys"]
            usable = [one for one in keys if one.get("kty") in {"RSA", "EC", "OKP"}]
            return jwk.KeySet.import_key_set({"keys": usable})
        except (JoseError, KeyError, TypeError, AttributeError, ValueError):
            raise LoginProviderRefused("The keys of the provider are invalid.") from None

    def _fetched(self, request: FetchRequest) -> dict[str, Any]:
        named = replace(request, headers={"accept": "application/json", **request.headers})
        try:
            reply: Reply = fetch(named, _LIMITS, policy=self._at.egress)
        except AilydianError as error:
            raise LoginProviderUnavailable(f"The login provider: {error}") from None
        try:
            document = json.loads(reply.body)
        except ValueError:
            document = None
        if reply.status != _OK or not isinstance(document, dict):
            raise LoginProviderRefused(f"The provider has answered {reply.status}.")
        return document


def sealed(pepper: Peppers, flow: LoginFlow) -> str:
    """Return what a browser keeps of a login that it has begun."""
    body = base64.urlsafe_b64encode(json.dumps(asdict(flow)).encode()).decode()
    return f"{body}.{_signature(pepper, body)}"


def opened(pepper: Peppers, kept: str, *, state: str, now: float) -> LoginFlow:
    """Return the login that a browser comes back from.

    Raises:
        LoginProviderRefused: It was not begun here, in this browser, in the last ten minutes.
    """
    body, _, signature = kept.rpartition(".")
    known = hmac.compare_digest(signature.encode(), _signature(pepper, body).encode())
    if known:
        flow = LoginFlow(**json.loads(base64.urlsafe_b64decode(body)))
        if hmac.compare_digest(flow.state.encode(), state.encode()) and now < flow.until:
            return flow
    raise LoginProviderRefused("This login was not begun in this browser in the last ten minutes.")


def _signature(pepper: Peppers, body: str) -> str:
    return hmac.new(pepper.secrets[0], b"login flow " + body.encode(), sha256).hexdigest()
