"""Queue `scoring`: record messages, score them and learn from them; one topic a module."""

from workers.actors.scoring.conversations import analyse_conversation
from workers.actors.scoring.explanations import explain_score
from workers.actors.scoring.feedback import apply_feedback
from workers.actors.scoring.messages import record_message
from workers.actors.scoring.quality import calibrate_quality, score_quality
from workers.actors.scoring.routing import refresh_routing
from workers.actors.scoring.trust import refresh_trust, update_trust

__all__ = [
    "analyse_conversation",
    "apply_feedback",
    "calibrate_quality",
    "explain_score",
    "record_message",
    "refresh_routing",
    "refresh_trust",
    "score_quality",
    "update_trust",
]
