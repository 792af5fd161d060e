"""/v1/keys: API keys. Nobody gives away more than they have."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import Response
from pydantic import Field, Strict

from producers.accounts import api_keys, request_rules, scopes, users
from producers.accounts.api_keys import MadeKey, Wish
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.queries.accounts import request_rules as rule_queries
from producers.queries.accounts.api_keys import KeyRow
from producers.web import answers, conditions, lists, routes
from producers.web.access import Acting, demand_given, needs
from producers.web.accounts import rules
from producers.web.accounts.rules import Rule, RuleRequest
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection, Role

router = routes.router("keys")

YEAR_S = 366 * 86_400
Name = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Id or prefix of a key.")]


class KeyRequest(Body):
    """An API key to make."""

    name: str = Field(min_length=1, max_length=100, examples=["crm"])
    owner: str = Field(
        max_length=320, description="E-mail or id of a user, whose role bounds the key."
    )
    scopes: list[Annotated[Scope, Strict(False)]] = Field(
        min_length=1, max_length=len(Scope), examples=[["jobs:write"]]
    )
    expires_s: float | None = Field(None, gt=0, le=YEAR_S, alias="expiresSeconds")


class RotateRequest(Body):
    """How long the old key goes on."""

    overlap_s: float = Field(86_400, ge=0, le=YEAR_S, alias="overlapSeconds")


Key = answers.model_of(KeyRow, name="Key")
NewKey = answers.model_of(MadeKey, name="NewKey")
KeyList = answers.page_of(Key, name="KeyList")


@router.get("", response_model=KeyList)
def list_keys(
    acting: Annotated[Acting, needs(Scope.KEYS_READ)], after: Cursor = None, limit: Limit = 1_000
) -> Response:
    """List keys, newest first; none is shown itself."""
    found = api_keys.list_keys(acting.tenant_id, before=lists.read(after), limit=limit)
    return answers.page(found, limit=limit, place=lambda row: (row.created_at, row.id))


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=NewKey,
    dependencies=[answers.SHOWN_ONCE],
)
def create_key(
    request: Request, body: KeyRequest, acting: Annotated[Acting, needs(Scope.KEYS_WRITE)]
) -> Response:
    """Make a key. It is shown this once and stored as a hash.

    A key that expires, or is held to a rule of its own, makes none.
    """
    with db.transaction(None, role=Role.OWNER) as conn:
        _demand_unbounded(conn, acting)
    demand_given(acting.by, body.scopes)
    wish = Wish(body.name, [*body.scopes], body.expires_s)
    with acting.named():
        owner = users.anywhere(acting.tenant_id, body.owner)
        made = api_keys.create(request.app.state.keys.pepper, acting.tenant_id, owner, wish)
    return answers.answer(Answer(as_document(made), HTTPStatus.CREATED))


@router.post(
    "/{name}/rotate",
    status_code=HTTPStatus.CREATED,
    response_model=NewKey,
    dependencies=[answers.SHOWN_ONCE],
)
def rotate_key(
    request: Request,
    name: Name,
    body: RotateRequest,
    acting: Annotated[Acting, needs(Scope.KEYS_WRITE)],
) -> Response:
    """Make a key's successor: same owner, name, scopes and lifetime."""
    demand_given(acting.by, scopes.known(api_keys.show(acting.tenant_id, name).scopes))
    with acting.named():
        made = api_keys.rotate(
            request.app.state.keys.pepper, acting.tenant_id, name, overlap_s=body.overlap_s
        )
    return answers.answer(Answer(as_document(made), HTTPStatus.CREATED))


@router.post("/{name}/revoke", response_model=Key)
def revoke_key(
    request: Request, name: Name, acting: Annotated[Acting, needs(Scope.KEYS_WRITE)]
) -> Response:
    """Revoke a key. Every process refuses it within a second."""

    def do(conn: Connection) -> Answer:
        return Answer(as_document(api_keys.revoke(conn, acting.tenant_id, name)))

    return answers.once(request, acting, do, role=Role.OWNER)


@router.get("/{name}/rule", response_model=Rule)
def show_key_rule(name: Name, acting: Annotated[Acting, needs(Scope.KEYS_READ)]) -> Response:
    """Show how many requests a key may make, and from where."""
    subject = request_rules.of_key(acting.tenant_id, name)
    return answers.ok(as_document(request_rules.show(subject)))


@router.put("/{name}/rule", response_model=Rule, openapi_extra=conditions.DESCRIBED)
def put_key_rule(
    request: Request,
    name: Name,
    body: RuleRequest,
    acting: Annotated[Acting, needs(Scope.KEYS_WRITE)],
) -> Response:
    """Set how many requests a key may make, and from where. It applies within a second."""
    subject = request_rules.of_key(acting.tenant_id, name)

    def allowed(conn: Connection) -> None:
        _demand_unbounded(conn, acting)
        key = api_keys.found(conn, acting.tenant_id, name)
        demand_given(acting.by, scopes.known(key.scopes))

    return rules.put(request, acting, subject, body, allowed=allowed)


def _demand_unbounded(conn: Connection, acting: Acting) -> None:
    """Check that who makes or changes keys is not a key with bounds, which would be none then.

    Raises:
        Refused: It is one (403).
    """
    if acting.by.session is not None:
        return
    key = api_keys.found(conn, None, acting.by.id)
    rule = rule_queries.select_rule(conn, None, key.id)
    if key.expires_at is not None or rule.rate_per_s is not None or rule.addresses:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "key_bounded",
            f"The {acting.by.title} expires or has a rule of its own: it changes no keys.",
        )
