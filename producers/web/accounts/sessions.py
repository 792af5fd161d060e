"""/v1/sessions: people log in, see where they are logged in, and end it."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final

from anyio import to_thread
from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import logins, passwords, sessions, users
from producers.accounts.logins import LoginThrottled, LoginWrong
from producers.accounts.openid import LoginProviderRefused
from producers.accounts.scopes import Scope
from producers.accounts.sessions import LoginRefused
from producers.json_rows import as_document
from producers.queries.accounts.sessions import SessionFilters, SessionRow
from producers.web import answers, lists, routes, visits
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit
from producers.web.principals import PersonSession
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from producers.web.sessions_seen import Sessions
from shared.db import Connection, Role
from shared.ids import UserId

router = routes.router("sessions")

# Each takes a processor for a tenth of a second: more at once would only take turns.
COMPARED_AT_ONCE: Final = 2
Id = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Id of a session.")]
User = Annotated[
    str | None,
    Query(max_length=320, pattern=NO_NUL, description="E-mail or id of a user; unset: all."),
]


class LoginRequest(Body):
    """Who logs in."""

    email: str = Field(max_length=320, pattern=users.EMAIL, examples=["ada@example.org"])
    password: str = Field(
        min_length=1, max_length=passwords.CHARS_MAX, examples=["correct horse battery staple"]
    )


@dataclass(frozen=True, slots=True)
class CurrentSession:
    """A person's own session; `csrf_token` goes into the header X-CSRF-Token of changes."""

    id: str
    user: str
    role: str
    csrf_token: str


@dataclass(frozen=True, slots=True)
class RevokedSessions:
    """How many sessions were ended."""

    revoked: int


Session = answers.model_of(SessionRow, name="Session")
SessionList = answers.page_of(Session, name="SessionList")
Current = answers.model_of(CurrentSession, name="CurrentSession")
Revoked = answers.model_of(RevokedSessions, name="RevokedSessions")


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=Current,
    dependencies=[answers.SHOWN_ONCE],
)
async def log_in(request: Request, body: LoginRequest) -> Response:
    """Log in with an e-mail address and a password.

    The session is a cookie that no script reads; one that the browser had is ended. Without one,
    401 tells that the e-mail or the password is wrong, and 429 that too many failed.
    """
    visits.check_same_site(request)
    limiter = request.app.state.comparing
    before = visits.session_token(request)
    return await to_thread.run_sync(_logged_in, request, body, before, limiter=limiter)


def _logged_in(request: Request, body: LoginRequest, before: str | None) -> Response:
    policy = request.app.state.sessions.policy
    place = visits.place(request)
    try:
        made = logins.by_password(policy, body.email, body.password, place, before=before)
    except (LoginWrong, LoginThrottled, LoginRefused) as error:
        raise refused(error) from None
    request.app.state.sessions.recent.forget()
    current = CurrentSession(made.id, made.user, made.role, made.csrf)
    response = answers.answer(Answer(as_document(current), HTTPStatus.CREATED))
    visits.set_cookies(request, response, made)
    return response


def refused(error: LoginWrong | LoginThrottled | LoginRefused | LoginProviderRefused) -> Refused:
    """Return how a failed login is answered."""
    if isinstance(error, LoginThrottled):
        headers = {"Retry-After": str(error.retry_after_s)}
        return Refused(HTTPStatus.TOO_MANY_REQUESTS, error.code, str(error), headers)
    wrong = isinstance(error, LoginWrong | LoginProviderRefused)
    status = HTTPStatus.UNAUTHORIZED if wrong else HTTPStatus.FORBIDDEN
    return Refused(status, error.code, str(error))


@router.get("", response_model=SessionList)
def list_sessions(
    request: Request,
    acting: Annotated[Acting, needs(Scope.SESSIONS_READ)],
    user: User = None,
    after: Cursor = None,
    limit: Limit = 1_000,
) -> Response:
    """List sessions, newest first: one's own, or all of the tenant for its administrators."""
    policy = request.app.state.sessions.policy
    wanted = _filters(acting, user)
    found = sessions.list_sessions(policy, wanted, before=lists.read(after), limit=limit)
    return answers.page(found, limit=limit, place=lambda row: (row.created_at, row.id))


@router.get("/current", response_model=Current)
def show_current_session(acting: Annotated[Acting, needs(Scope.SESSIONS_READ)]) -> Response:
    """Show the session of this request, with the token for its changes."""
    own = _own(acting)
    return answers.ok(as_document(CurrentSession(own.id, own.email, acting.by.role, own.csrf[0])))


@router.delete("/current", response_model=Session)
def log_out(request: Request, acting: Annotated[Acting, needs(Scope.SESSIONS_WRITE)]) -> Response:
    """End the session of this request."""
    return _revoke(request, acting, _own(acting).id)


@router.delete("/{session_id}", response_model=Session)
def revoke_session(
    request: Request, session_id: Id, acting: Annotated[Acting, needs(Scope.SESSIONS_WRITE)]
) -> Response:
    """End a session. Every process refuses it within a second."""
    return _revoke(request, acting, session_id)


def _revoke(request: Request, acting: Acting, session_id: str) -> Response:
    known: Sessions = request.app.state.sessions
    own = acting.by.session
    if own is not None and own.id == session_id:
        named = SessionFilters(None, own.user_id, own.id)  # whatever tenant the page has named
    else:
        wanted = _filters(acting, None)
        named = SessionFilters(wanted.tenant_id, wanted.user_id, session_id)

    def do(conn: Connection) -> Answer:
        return Answer(as_document(sessions.revoke(conn, known.policy, named)))

    response = answers.once(request, acting, do, role=Role.OWNER)
    known.recent.forget()
    if own is not None and own.id == session_id:
        visits.clear_cookies(request, response)
    return response


@router.delete("", response_model=Revoked)
def revoke_sessions(
    request: Request, acting: Annotated[Acting, needs(Scope.SESSIONS_WRITE)], user: User = None
) -> Response:
    """End all sessions of a user; unset, one's own, and with an API key all of one tenant."""
    if user is not None:
        wanted = _filters(acting, user)
    elif acting.by.session is not None:
        wanted = SessionFilters(None, acting.by.session.user_id)
    else:
        wanted = SessionFilters(acting.tenant)

    def do(conn: Connection) -> Answer:
        return Answer(as_document(RevokedSessions(sessions.revoke_all(conn, wanted))))

    response = answers.once(request, acting, do, role=Role.OWNER)
    request.app.state.sessions.recent.forget()
    return response


def _filters(acting: Acting, user: str | None) -> SessionFilters:
    """Return whose sessions somebody may see: USERs their own, others those of the tenant."""
    own = acting.by.session
    if own is not None and acting.by.role == "USER":
        if user not in {None, own.user_id, own.email}:
            raise Refused(
                HTTPStatus.FORBIDDEN, "role_refused", "The role USER sees its own sessions alone."
            )
        return SessionFilters(None, own.user_id)
    named: UserId | None = None
    if user is not None:
        named = users.anywhere(acting.tenant_id, user)
    return SessionFilters(acting.tenant_id, named)


def _own(acting: Acting) -> PersonSession:
    if acting.by.session is None:
        raise Refused(
            HTTPStatus.NOT_FOUND, "session_not_found", "An API key has no session of its own."
        )
    return acting.by.session
