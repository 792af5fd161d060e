"""Routing: how well each model serves each intent."""

import json

from shared.contracts import RefreshRouting
from shared.judgement import intents
from shared.ledger.outbox import Lease, effect
from shared.queries.ledger import outbox
from shared.queries.models import model_routes
from shared.queries.models.model_routes import NewScore
from workers.domain.models import routing
from workers.domain.models.bandit import Arm
from workers.domain.models.routing import RoutingCandidate
from workers.process.broker import actor


@actor(RefreshRouting)
def refresh_routing(job: RefreshRouting, lease: Lease) -> None:  # noqa: ARG001 - the day names the fact
    """Compute the score of every enabled model for every intent, from all tenants' rewards."""
    named = [*intents.names(), intents.UNKNOWN]
    with effect(lease) as conn:
        scores = []
        for arm in model_routes.select_global(conn, named):
            candidate = RoutingCandidate(
                slug=arm.model_id,
                arm=Arm(arm.alpha, arm.beta),
                cost_in=arm.cost_in,
                cost_out=arm.cost_out,
                latency_ms=arm.latency_ms,
                success=arm.success,
            )
            terms = routing.terms(candidate)
            score = routing.score(terms)
            scores.append(NewScore(arm.model_id, arm.intent, score, json.dumps(terms)))
        model_routes.upsert_scores(conn, scores)
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps({"scores": len(scores)}))
