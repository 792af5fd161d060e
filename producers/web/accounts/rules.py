"""What requests of a tenant or a key are held to, as bodies and answers have it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts import request_rules
from producers.accounts.request_rules import ADDRESSES_MAX, BURST_S, RATE_MAX, Subject
from producers.json_rows import as_document
from producers.queries.accounts.request_rules import RequestRule
from producers.web import answers, conditions
from producers.web.access import Acting
from producers.web.answers import Answer
from producers.web.bodies import Body
from shared.db import Connection, Role

Network = Annotated[str, Field(max_length=64, examples=["10.0.0.0/8"])]


class RuleRequest(Body):
    """A whole rule: what is left out is no longer set."""

    rate_per_s: float | None = Field(
        None, gt=0, le=RATE_MAX, alias="ratePerS", description="Requests a second.", examples=[100]
    )
    burst: float | None = Field(
        None,
        ge=1,
        le=RATE_MAX * BURST_S,
        description="Requests at once after a rest; unset: those of ten seconds.",
    )
    addresses: list[Network] = Field(
        default_factory=list,
        max_length=ADDRESSES_MAX,
        description="Addresses and networks (CIDR) that requests may come from; none: anywhere.",
    )

    def rule(self) -> RequestRule:
        """The rule that is asked for."""
        return RequestRule(self.rate_per_s, self.burst, self.addresses)


Rule = answers.model_of(RequestRule, name="Rule")


def put(
    request: Request,
    acting: Acting,
    subject: Subject,
    body: RuleRequest,
    *,
    allowed: Callable[[Connection], None] = lambda _: None,
) -> Response:
    """Set a rule, and answer it; `allowed` raises where the caller may not."""

    def do(conn: Connection) -> Answer:
        allowed(conn)
        before = request_rules.lock(conn, subject)
        conditions.check(request, as_document(before.rule))
        return answers.tagged(as_document(request_rules.put(conn, before, body.rule())))

    return answers.once(request, acting, do, role=Role.OWNER)
