"""/login: what a link from the terminal opens, and where a login by a provider ends."""

import html
import time
from http import HTTPStatus
from typing import Annotated, Final

from anyio import to_thread
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from producers.accounts import logins, openid
from producers.accounts.logins import LoginThrottled, LoginWrong
from producers.accounts.openid import LoginProviderRefused, OpenIdProvider
from producers.accounts.sessions import LoginRefused, NewLogin
from producers.web import visits
from producers.web.accounts.sessions import refused
from producers.web.heads import IS_HEAD
from producers.web.problems import Refused
from producers.web.sessions_seen import Sessions

PATH: Final = "/login"
BEGIN: Final = "/login/openid"
CALLBACK: Final = "/login/callback"  # AILYDIAN_OIDC_REDIRECT_URL ends so
AT_ONCE: Final = 4  # of those that wait for the provider
Token = Annotated[str | None, Query(max_length=200)]
Code = Annotated[str | None, Query(max_length=4_096)]
# A page without scripts, styles or frames; the secret in its address goes nowhere else.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add(app: FastAPI) -> None:
    """Add the page to an application."""
    for path, show in ((PATH, show_login), (BEGIN, begin_login), (CALLBACK, end_login)):
        app.add_api_route(path, show, methods=["GET"], include_in_schema=False)


async def show_login(request: Request, token: Token = None) -> Response:
    """Sign in with a link's secret, or tell who is signed in."""
    if token is None or IS_HEAD in request.scope:
        return await run_in_threadpool(_told, request)
    if "prefetch" in request.headers.get("sec-purpose", request.headers.get("purpose", "")):
        raise Refused(HTTPStatus.FORBIDDEN, "prefetch_refused", "The link works once: open it.")
    visits.check_same_site(request)
    return await run_in_threadpool(_signed_in, request, token)


async def begin_login(request: Request) -> Response:
    """Send the browser to the provider."""
    provider = _provider(request)
    try:
        address, flow = await to_thread.run_sync(
            provider.begin, time.time(), limiter=request.app.state.asking
        )
    except LoginProviderRefused as error:
        raise Refused(HTTPStatus.BAD_GATEWAY, "provider_refused", str(error)) from None
    response = RedirectResponse(address, HTTPStatus.SEE_OTHER, _HEADERS)
    kept = openid.sealed(request.app.state.sessions.policy.pepper, flow)
    visits.set_flow(request, response, kept, seconds=openid.FLOW_S)
    return response


async def end_login(
    request: Request, code: Code = None, state: Token = None, error: Token = None
) -> Response:
    """Sign in whom the provider sends back."""
    provider = _provider(request)
    try:
        if code is None or state is None:
            raise LoginProviderRefused(f"The provider has not logged you in: {error or 'no code'}.")
        kept = visits.cookie(request, visits.FLOW) or ""
        pepper = request.app.state.sessions.policy.pepper
        flow = openid.opened(pepper, kept, state=state, now=time.time())
        email = await to_thread.run_sync(
            provider.email, flow, code, limiter=request.app.state.asking
        )
        response = await run_in_threadpool(_signed_in_by, request, email)
    except (LoginWrong, LoginRefused, LoginProviderRefused) as failed:
        raise refused(failed) from None
    visits.clear_cookies(request, response, visits.FLOW)
    return response


def _provider(request: Request) -> OpenIdProvider:
    found: OpenIdProvider | None = request.app.state.openid
    if found is None:
        raise Refused(
            HTTPStatus.NOT_FOUND, "provider_missing", "AILYDIAN_OIDC_ISSUER names no provider."
        )
    return found


def _signed_in_by(request: Request, email: str) -> Response:
    known: Sessions = request.app.state.sessions
    before = visits.session_token(request)
    made = logins.by_email(known.policy, email, visits.place(request), before=before)
    return _entered(request, made)


def _signed_in(request: Request, token: str) -> Response:
    known: Sessions = request.app.state.sessions
    before = visits.session_token(request)
    try:
        made = logins.by_link(known.policy, token, visits.place(request), before=before)
    except (LoginWrong, LoginThrottled, LoginRefused) as error:
        raise refused(error) from None
    return _entered(request, made)


def _entered(request: Request, made: NewLogin) -> Response:
    request.app.state.sessions.recent.forget()
    response = RedirectResponse(PATH, HTTPStatus.SEE_OTHER, _HEADERS)
    visits.set_cookies(request, response, made)
    return response


def _told(request: Request) -> Response:
    known: Sessions = request.app.state.sessions
    token = visits.session_token(request)
    by = None if token is None else known.look_up(token, visits.place(request))
    if by is None or isinstance(by, str) or by.session is None:
        sentence = "You are not signed in: <code>ailydian console login</code> prints a link."
        if request.app.state.openid is not None:
            sentence = f'You are not signed in: <a href="{BEGIN}">sign in</a>.'
    else:
        sentence = f"You are signed in as {html.escape(by.session.email)} ({by.role})."
    page = f"<!doctype html><title>Ailydian</title><p>{sentence}</p>\n"
    return HTMLResponse(page, headers=_HEADERS)
