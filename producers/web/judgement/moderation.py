"""/v1/verdicts, /v1/policies and /v1/appeals: what moderation decides, by which rules."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.judgement import moderation
from producers.judgement.moderation import REASON_CHARS_MAX, CurrentPolicy
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection
from shared.judgement import moderation_policy
from shared.queries.judgement import moderations, verdicts
from shared.queries.judgement.verdicts import AppealRow, VerdictRow

verdicts_router = routes.router("verdicts")
policies_router = routes.router("policies")
appeals_router = routes.router("appeals")

Id = Annotated[str, Path(max_length=64, pattern=NO_NUL)]
Reading = Annotated[Acting, needs(Scope.MODERATION_READ)]
Writing = Annotated[Acting, needs(Scope.MODERATION_WRITE)]


class PolicyRequest(Body):
    """A policy of moderation, as `ailydian moderation policy put` takes it."""

    policy: dict[str, Any] = Field(
        examples=[{"default": {"flag_at": 0.5, "block_at": 0.9}, "trust_adjusted": True}]
    )


class PutPolicy(Body):
    """The version that is active from now on."""

    version: int


class AppealRequest(Body):
    """An appeal against a verdict that flagged or blocked."""

    verdict: str = Field(min_length=1, max_length=64, description="Id of the verdict.")
    reason: str = Field(min_length=1, max_length=REASON_CHARS_MAX)


class AppealState(Body):
    """An appeal and its state."""

    id: str
    state: Literal["open", "granted", "rejected"]


Verdict = answers.model_of(VerdictRow, name="Verdict")
VerdictList = answers.page_of(Verdict, name="VerdictList")
Policy = answers.model_of(CurrentPolicy, name="Policy")
PolicyVersion = answers.model_of(moderations.PolicyRow, name="PolicyVersion")
PolicyList = answers.list_of(PolicyVersion, name="PolicyList")
Appeal = answers.model_of(AppealRow, name="Appeal")
AppealList = answers.page_of(Appeal, name="AppealList")


@verdicts_router.get("", response_model=VerdictList)
def list_verdicts(
    acting: Reading,
    action: Annotated[Literal["allow", "flag", "block"] | None, Query()] = None,
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List current verdicts, newest first."""
    before = lists.read(after)
    with db.transaction(acting.tenant) as conn:
        rows = verdicts.select_latest(conn, action=action, before=before, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.created_at, row.id))


@verdicts_router.get("/{verdict_id}", response_model=Verdict)
def show_verdict(verdict_id: Id, acting: Reading) -> Response:
    """Show a verdict: scores, thresholds, spans and engine."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        row = moderation.verdict(conn, verdict_id, slug)
    return answers.ok(as_document(row))


@policies_router.get("", response_model=PolicyList)
def list_policies(acting: Reading, limit: Limit = 20) -> Response:
    """List the versions of the policy, newest first; without one the built-in policy is active."""
    with db.transaction(acting.tenant) as conn:
        rows = moderations.select_policies(conn, limit=limit)
    return answers.ok_list(rows)


@policies_router.get("/current", response_model=Policy)
def show_policy(acting: Reading) -> Response:
    """Show the policy in force; version 0 is the built-in one."""
    with db.transaction(acting.tenant) as conn:
        found = moderation.current_policy(conn)
    return answers.ok(as_document(found))


@policies_router.post("", status_code=HTTPStatus.CREATED, response_model=PutPolicy)
def put_policy(request: Request, body: PolicyRequest, acting: Writing) -> Response:
    """Set the policy; content judged under older versions is judged again."""
    new = moderation_policy.read(body.policy)

    def do(conn: Connection) -> Answer:
        return Answer({"version": moderation.put_policy(conn, new)}, HTTPStatus.CREATED)

    return answers.once(request, acting, do)


@appeals_router.get("", response_model=AppealList)
def list_appeals(
    acting: Reading,
    state: Annotated[Literal["open", "granted", "rejected"] | None, Query()] = None,
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List appeals, newest first."""
    before = lists.read(after)
    with db.transaction(acting.tenant) as conn:
        rows = verdicts.select_appeals(conn, state=state, before=before, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.opened_at, row.id))


@appeals_router.post("", status_code=HTTPStatus.CREATED, response_model=AppealState)
def open_appeal(request: Request, body: AppealRequest, acting: Writing) -> Response:
    """Appeal a verdict that flagged or blocked content."""

    def do(conn: Connection) -> Answer:
        appeal_id = moderation.open_appeal(conn, body.verdict, reason=body.reason)
        return Answer({"id": appeal_id, "state": "open"}, HTTPStatus.CREATED)

    return answers.once(request, acting, do)


@appeals_router.post("/{appeal_id}/grant", response_model=AppealState)
def grant_appeal(request: Request, appeal_id: Id, acting: Writing) -> Response:
    """Grant an appeal: the verdict and its effects are reverted."""
    return _decide(request, appeal_id, acting, granted=True)


@appeals_router.post("/{appeal_id}/reject", response_model=AppealState)
def reject_appeal(request: Request, appeal_id: Id, acting: Writing) -> Response:
    """Reject an appeal."""
    return _decide(request, appeal_id, acting, granted=False)


def _decide(request: Request, appeal_id: str, acting: Acting, *, granted: bool) -> Response:
    def do(conn: Connection) -> Answer:
        moderation.decide_appeal(conn, appeal_id, granted=granted)
        return Answer({"id": appeal_id, "state": "granted" if granted else "rejected"})

    return answers.once(request, acting, do)
