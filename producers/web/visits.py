"""What a request tells of its sender: address, agent, cookies, and whether our page sent it."""

import hmac
from http import HTTPStatus
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from producers.accounts.client_addresses import Proxies, client_address
from producers.accounts.request_rules import Address
from producers.accounts.sessions import ClientPlace, NewLogin
from producers.web.problems import Refused

CSRF_HEADER: Final = "x-csrf-token"
SESSION, CSRF, FLOW = "ailydian_session", "ailydian_csrf", "ailydian_flow"
_HOST: Final = "__Host-"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDED: Final = ("x-forwarded-for", "forwarded", "x-forwarded-proto", "x-forwarded-host")


def address(request: Request) -> Address | None:
    """Return where a request comes from, as far as it is known."""
    known: Proxies = request.app.state.proxies
    peer = request.client.host if request.client else ""
    return client_address(peer, request.headers.getlist(known.header), known)


def place(request: Request) -> ClientPlace:
    """Return where a request comes from, and by what."""
    return ClientPlace.of(address(request), request.headers.get("user-agent"))


def is_on_loopback(request: Request) -> bool:
    """Whether browser and server are on one machine, where there is no TLS to wait for."""
    host = request.headers.get("host", "").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    here = address(request)
    direct = not any(one in request.headers for one in _FORWARDED)
    return name in _LOOPBACK and direct and here is not None and here.is_loopback


def session_token(request: Request) -> str | None:
    """Return the token of the session cookie."""
    return cookie(request, SESSION)


def cookie(request: Request, name: str) -> str | None:
    """Return a cookie of ours; without `Secure` it counts on loopback alone."""
    found = request.cookies.get(_HOST + name)
    if found is None and is_on_loopback(request):
        found = request.cookies.get(name)
    return found or None


def set_flow(request: Request, response: Response, kept: str, *, seconds: float) -> None:
    """Let a browser keep a login that it has begun, until it comes back from the provider."""
    secure = not is_on_loopback(request)
    response.set_cookie(
        f"{_HOST}{FLOW}" if secure else FLOW,
        kept,
        max_age=int(seconds),
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def set_cookies(request: Request, response: Response, login: NewLogin) -> None:
    """Give a browser its session, which no script reads, and the token that scripts send."""
    for name, value, hidden in ((SESSION, login.token, True), (CSRF, login.csrf, False)):
        secure = not is_on_loopback(request)
        response.set_cookie(
            f"{_HOST}{name}" if secure else name,
            value,
            max_age=int(login.lasts_s),
            path="/",
            secure=secure,
            httponly=hidden,
            samesite="lax" if hidden else "strict",
        )


def clear_cookies(request: Request, response: Response, *names: str) -> None:
    """Take cookies out of a browser; without names, the session."""
    for name in names or (SESSION, CSRF):
        secure = not is_on_loopback(request)
        response.delete_cookie(
            f"{_HOST}{name}" if secure else name, path="/", secure=secure, samesite="lax"
        )


def check_same_site(request: Request) -> None:
    """Refuse what a browser says that a page of another site has sent.

    Raises:
        Refused: It does.
    """
    origin = request.headers.get("origin")
    sent_by = request.headers.get("sec-fetch-site", "none")
    host = request.headers.get("host")
    foreign = origin is not None and origin not in {f"http://{host}", f"https://{host}"}
    if foreign or sent_by not in {"same-origin", "none"}:
        raise Refused(
            HTTPStatus.FORBIDDEN, "csrf_refused", "A page of another site has sent this request."
        )


def check_own_page(request: Request, csrf: tuple[str, ...]) -> None:
    """Refuse a change that comes with the cookie, but not from a page that could read ours.

    Raises:
        Refused: The token is missing or another session's, or another site has sent it.
    """
    if request.method in _SAFE:
        return
    check_same_site(request)
    given = request.headers.get(CSRF_HEADER, "").encode("utf-8", "surrogateescape")
    if not any(hmac.compare_digest(given, one.encode()) for one in csrf):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "csrf_refused",
            f"Send the cookie {CSRF} as the header X-CSRF-Token too, or use an API key.",
        )
