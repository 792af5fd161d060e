"""Queue `moderation`: texts are judged before anything rests on them."""

import json

from shared import db
from shared.contracts import ModerateContent
from shared.errors import DocumentNotFound
from shared.outbox import Lease, effect
from shared.queries import moderations, outbox
from shared.queries.moderations import NewModeration
from workers.broker import actor
from workers.domain import moderation


@actor(ModerateContent)
def moderate_content(job: ModerateContent, lease: Lease) -> None:
    """Judge a document or a message by the local rules and keep the result."""
    with db.transaction(lease.tenant_id) as conn:
        text = moderations.select_content(conn, job.content_type, job.content_id)
    if text is None:
        raise DocumentNotFound(f"The {job.content_type} {job.content_id} is gone.")
    verdict = moderation.judge(text)
    found = {"engine": moderation.ENGINE, "blind": moderation.BLIND, "scores": verdict.scores}
    spans = [list(span) for span in verdict.spans[:100]]
    outcome = found | {
        "flagged": verdict.action != "allow",
        "blocked": verdict.action == "block",
        "categories": verdict.categories,
    }
    new = NewModeration(
        content_type=job.content_type,
        content_id=job.content_id,
        flagged=verdict.action != "allow",
        categories=verdict.categories,
        scores=json.dumps(found | {"spans": spans}),
        action=verdict.action,
    )
    with effect(lease) as conn:
        moderations.insert_moderation(conn, new)
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome))
