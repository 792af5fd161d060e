"""/v1/users and /v1/preferences: people of a tenant, and what they prefer of models."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Path, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import scopes, tenants, users
from producers.accounts.scopes import Scope
from producers.accounts.users import Home
from producers.errors import UserTaken
from producers.json_rows import as_document
from producers.web import answers, conditions, lists, routes
from producers.web.access import Acting, demand_given, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from shared.db import Connection, Role
from shared.queries.accounts import preferences
from shared.queries.accounts.accounts import UserRow
from shared.queries.accounts.preferences import Preference

router = routes.router("users")
preferences_router = routes.router("preferences")

Name = Annotated[str, Path(max_length=320, pattern=NO_NUL, description="E-mail or id of a user.")]


class UserRequest(Body):
    """A user to create; they sign in once the platform has set a password."""

    email: str = Field(pattern=users.EMAIL, max_length=320, examples=["ada@example.org"])
    name: str | None = Field(None, max_length=200)
    role: Literal["USER", "ADMIN", "SUPER_ADMIN"] = "USER"


class PreferenceRequest(Body):
    """What a user prefers; null or unset leaves the choice to routing."""

    model: str | None = Field(None, min_length=1, max_length=200)
    temperature: float | None = Field(None, ge=0, le=2)
    tokens_max: int | None = Field(None, ge=1, le=100_000, alias="tokensMax")


User = answers.model_of(UserRow, name="User")
UserList = answers.page_of(User, name="UserList")
Preferences = answers.model_of(Preference, name="Preferences")


@router.get("", response_model=UserList)
def list_users(
    acting: Annotated[Acting, needs(Scope.USERS_READ)], after: Cursor = None, limit: Limit = 1_000
) -> Response:
    """List users, newest first."""
    found = users.list_users(acting.tenant_id, before=lists.read(after), limit=limit)
    return answers.page(found, limit=limit, place=lambda row: (row.created_at, row.id))


@router.post(
    "", status_code=HTTPStatus.CREATED, response_model=User, responses={200: {"model": User}}
)
def create_user(
    request: Request, body: UserRequest, acting: Annotated[Acting, needs(Scope.USERS_WRITE)]
) -> Response:
    """Create a user (201). One that exists stays (200); another role than theirs is refused (409).

    An ADMIN or SUPER_ADMIN is created by those who have all that the role allows.
    """
    if body.role == "SUPER_ADMIN" != acting.by.role:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "role_refused",
            f"The role {acting.by.role} cannot create a {body.role}.",
        )
    if body.role != "USER":
        demand_given(acting.by, scopes.of_role(body.role))
    home = Home(acting.tenant, tenants.slug_of(acting.tenant))

    def do(conn: Connection) -> Answer:
        try:
            row, created = users.create(conn, home, body.email, name=body.name, role=body.role)
        except UserTaken:
            sentence = f"{body.email} is taken."  # whose it is, is nothing for another tenant
            raise Refused(HTTPStatus.CONFLICT, UserTaken.code, sentence) from None
        if row.role != body.role and "role" in body.model_fields_set:
            sentence = f"{body.email} exists, as {row.role}: nothing was changed."
            raise Refused(HTTPStatus.CONFLICT, "user_exists", sentence)
        return Answer(as_document(row), HTTPStatus.CREATED if created else HTTPStatus.OK)

    return answers.once(request, acting, do, role=Role.OWNER)


@preferences_router.get("/{name}", response_model=Preferences)
def show_preferences(
    name: Name, acting: Annotated[Acting, needs(Scope.PREFERENCES_READ)]
) -> Response:
    """Show what a user prefers."""
    found = users.show(acting.tenant, users.named(acting.tenant, name)).preferences
    return answers.ok(as_document(found or Preference()))


@preferences_router.put("/{name}", response_model=Preferences, openapi_extra=conditions.DESCRIBED)
def put_preferences(
    request: Request,
    name: Name,
    body: PreferenceRequest,
    acting: Annotated[Acting, needs(Scope.PREFERENCES_WRITE)],
) -> Response:
    """Set what a user prefers; what is left out is no longer set."""
    user_id = users.named(acting.tenant, name)

    def do(conn: Connection) -> Answer:
        before = preferences.select_preference(conn, user_id) or Preference()
        conditions.check(request, as_document(before))
        after = users.prefer(conn, user_id, body.model_dump(), clear=True)
        return answers.tagged(as_document(after))

    return answers.once(request, acting, do)
