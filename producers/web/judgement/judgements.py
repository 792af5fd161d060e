"""/v1/provenance, explanations and trust: what was judged, and why."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from producers.accounts import tenants, users
from producers.accounts.scopes import Scope
from producers.errors import ExplanationNotFound
from producers.json_rows import as_document
from producers.judgement import explanations, provenance, trust
from producers.judgement.provenance import Finding
from producers.judgement.trust import TrustDetail
from producers.queries.judgement.provenance_records import ProvenanceRow
from producers.web import answers, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Limit
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection
from shared.ids import MessageId
from shared.queries.judgement import explanations as explained
from shared.queries.judgement import trust_scores
from shared.queries.judgement.explanations import KINDS, ExplanationRow
from shared.queries.judgement.trust_scores import EventRow, TrustRow
from shared.servers import embedded
from shared.settings import settings

provenance_router = routes.router("provenance")
explanations_router = routes.router("explanations")
trust_router = routes.router("trust")

Id = Annotated[str, Path(max_length=64, pattern=NO_NUL)]
Reading = Annotated[Acting, needs(Scope.MESSAGES_READ)]


class ExplanationRequest(Body):
    """Whose scores to explain."""

    subject: str = Field(
        min_length=1,
        max_length=320,
        description="A message, a document, a verdict, a user (id or e-mail), or MODEL/INTENT.",
    )
    kind: Literal["quality", "moderation", "trust", "routing"] | None = Field(
        None, description="Only this score."
    )


class RequestedExplanation(BaseModel):
    """The job that explains a score; its outcome has the `explanationId`."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    id: str
    duplicate: bool
    state: str


Provenance = answers.model_of(ProvenanceRow, name="Provenance")
ProvenanceFinding = answers.model_of(Finding, name="ProvenanceFinding")


class ProvenanceCheck(BaseModel):
    """Everything that was altered since an answer was recorded."""

    model_config = ConfigDict(extra="forbid")

    id: str
    ok: bool
    findings: list[ProvenanceFinding]  # type: ignore[valid-type]


Explanation = answers.model_of(ExplanationRow, name="Explanation")
RequestedList = answers.list_of(RequestedExplanation, name="RequestedExplanationList")
TrustScore = answers.model_of(TrustRow, name="TrustScore")
TrustList = answers.list_of(TrustScore, name="TrustList")
TrustEvent = answers.model_of(EventRow, name="TrustEvent")


class Trust(answers.model_of(TrustDetail, name="TrustDetail")):  # type: ignore[misc]
    """A person's trust with its latest events."""

    events: list[TrustEvent]  # type: ignore[valid-type]


@provenance_router.get("/{message_id}", response_model=Provenance)
def show_provenance(message_id: Id, acting: Reading) -> Response:
    """Show the provenance record of an answer: model, hashes, citations and watermark."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        row = provenance.found(conn, MessageId(message_id), slug)
    return answers.ok(as_document(row))


@provenance_router.get("/{message_id}/check", response_model=ProvenanceCheck)
def check_provenance(message_id: Id, acting: Reading) -> Response:
    """List everything that was altered since an answer was recorded."""
    key = embedded.signing_key(settings())
    with db.transaction(acting.tenant) as conn:
        report = provenance.verify(conn, key, MessageId(message_id))
    findings = [as_document(one) for one in report.findings]
    return answers.ok({"id": message_id, "ok": report.ok, "findings": findings})


@explanations_router.post("", status_code=HTTPStatus.ACCEPTED, response_model=RequestedList)
def request_explanations(
    request: Request,
    body: ExplanationRequest,
    acting: Annotated[Acting, needs(Scope.MESSAGES_WRITE)],
) -> Response:
    """Have scores explained by the Shapley values of their factors; unchanged ones are not again.

    The job of each, at `/v1/jobs`, has the `explanationId` in its outcome.
    """
    kinds = KINDS if body.kind is None else (body.kind,)

    def do(conn: Connection) -> Answer:
        jobs = explanations.explain(conn, body.subject, kinds)
        items = [{"kind": kind} | as_document(job) for kind, job in jobs.items()]
        return Answer({"items": items}, HTTPStatus.ACCEPTED)

    return answers.once(request, acting, do)


@explanations_router.get("/{explanation_id}", response_model=Explanation)
def show_explanation(explanation_id: Id, acting: Reading) -> Response:
    """Show an explanation: base and values add up to the score."""
    with db.transaction(acting.tenant) as conn:
        row = explained.select(conn, explanation_id)
    if row is None:
        slug = tenants.slug_of(acting.tenant)
        raise ExplanationNotFound(f"The tenant {slug} has no explanation {explanation_id}.")
    return answers.ok(as_document(row))


@trust_router.get("", response_model=TrustList)
def list_trust(
    acting: Annotated[Acting, needs(Scope.USERS_READ)],
    below: Annotated[float, Query(ge=0, le=2, description="Only users with a lower score.")] = 2.0,
    limit: Limit = 100,
) -> Response:
    """List users with a score, lowest first."""
    with db.transaction(acting.tenant) as conn:
        rows = trust_scores.select_trust(conn, below=below, limit=limit)
    return answers.ok_list(rows)


@trust_router.get("/{name}", response_model=Trust)
def show_trust(
    name: Annotated[str, Path(max_length=320, pattern=NO_NUL, description="E-mail or id.")],
    acting: Annotated[Acting, needs(Scope.USERS_READ)],
) -> Response:
    """Show a user's score, its factors, their sources and its effects."""
    user_id = users.named(acting.tenant, name)
    with db.transaction(acting.tenant) as conn:
        found = trust.show(conn, user_id)
    document: dict[str, Any] = as_document(found)
    return answers.ok(document | {"events": [as_document(one) for one in found.events]})
