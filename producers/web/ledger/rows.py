"""Rows that several answers hold, for the OpenAPI document."""

from producers.queries.ledger.dead_letters import DeadRow
from producers.web import answers
from shared.queries.ledger.attempts import AttemptRow

DeadLetter = answers.model_of(DeadRow, name="DeadLetter")
JobAttempt = answers.model_of(AttemptRow, name="JobAttempt")
