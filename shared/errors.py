"""The error tree: the base classes state who must act, the leaves what happened.

PermanentError needs an operator: the job becomes a dead letter at once. TransientError needs
time: the job is retried. UsageError needs the caller: nothing was accepted.
"""

from collections.abc import Sequence
from typing import ClassVar


class AilydianError(Exception):
    """Base of all expected errors. The message is one sentence for a person."""

    code: ClassVar[str] = "error"


class PermanentError(AilydianError):
    """Retrying cannot help; an operator must act."""


class TransientError(AilydianError):
    """Retrying later may help.

    Attributes:
        counted: Whether such an attempt counts against `attempts_max`. If the job is not at
            fault, as with an exhausted budget, it is parked instead.
        waiting_for: What a parked job waits for, for operators.
        retry_after_s: Retry delay requested by the other side, in seconds, or None.
    """

    counted: ClassVar[bool] = True
    waiting_for: ClassVar[str] = "quota"
    retry_after_s: float | None = None  # also where a subclass does not call ours

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UsageError(AilydianError):
    """The request is invalid; nothing was accepted or changed."""


# ---- publishing


class UnknownJob(UsageError):
    """No contract has this name."""

    code = "unknown_job"


class PayloadRefused(UsageError):
    """The payload does not fit its contract.

    Attributes:
        fields: What is wrong with each field, and where it is.
    """

    code = "payload_refused"

    def __init__(
        self, message: str, fields: Sequence[tuple[tuple[int | str, ...], str]] = ()
    ) -> None:
        super().__init__(message)
        self.fields = fields


class PayloadTooLarge(UsageError):
    """The payload exceeds the size limit."""

    code = "payload_too_large"


class PublisherRefused(UsageError):
    """The publisher may not publish this job, or not for this tenant."""

    code = "publisher_refused"


class QueueFull(UsageError):
    """Back-pressure: the queue is full."""

    code = "queue_full"


class TenantNotFound(UsageError):
    """No tenant has this id or slug."""

    code = "tenant_not_found"


class UserNotFound(UsageError):
    """The tenant has no user with this e-mail or id."""

    code = "user_not_found"


class MessageNotFound(UsageError):
    """The tenant has no message with this id."""

    code = "message_not_found"


# ---- set-up


class ConfigurationBroken(PermanentError):
    """A setting is missing, malformed or unsafe."""

    code = "configuration"


class ServerUnavailable(TransientError):
    """Postgres or Redis is not responding, or cannot do its work: no attempt of a job counts.

    Attributes:
        trouble: What is wrong, as a stable code such as `disk_full`.
    """

    code = "server_unavailable"
    counted: ClassVar[bool] = False

    def __init__(self, message: str, *, trouble: str = "away") -> None:
        super().__init__(message)
        self.trouble = trouble


class TransactionInterrupted(ServerUnavailable):
    """Postgres ended the transaction for the sake of others, or by a time limit: repeat it."""

    code = "transaction_interrupted"


class ConnectionClosed(TransientError):
    """The code inside a transaction has closed its connection; no server is in trouble."""

    code = "connection_closed"


class MigrationBusy(TransientError):
    """A migration step did not get its locks, or held them too long; it was rolled back."""

    code = "migration_busy"


class MigrationRefused(PermanentError):
    """A part of the schema cannot be changed because other objects depend on it."""

    code = "migration_refused"


class AdministratorNeeded(PermanentError):
    """The database user may not create roles or extensions; the message says what to run."""

    code = "administrator_needed"


# ---- jobs


class LeaseLost(AilydianError):
    """A newer attempt owns the job, or it has ended; this attempt must not write."""

    code = "lease_lost"


class EditRefused(PermanentError):
    """The job is not dead any more, or the edit would duplicate another job."""

    code = "edit_refused"


class ReplayStopped(PermanentError):
    """Replayed jobs failed again, so the others were not replayed."""

    code = "replay_stopped"


class TimeLimitExceeded(TransientError):
    """The job exceeded its time limit."""

    code = "time_limit"


# ---- documents


class DocumentRefused(PermanentError):
    """A document that cannot be ingested. `reason` is a stable code such as `empty_document`."""

    code = "document_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class DocumentNotFound(PermanentError):
    """The document was deleted or belongs to another tenant."""

    code = "document_not_found"


class SandboxUnavailable(TransientError):
    """Documents are not parsed on this machine now: their sandbox cannot start, or is too weak."""

    code = "sandbox_unavailable"
    counted: ClassVar[bool] = False
    waiting_for: ClassVar[str] = "sandbox"


class VectorsMissing(TransientError):
    """Chunks have no vector of a model yet."""

    code = "vectors_missing"


# ---- providers


class ProviderRefused(PermanentError):
    """The provider rejects this request permanently."""

    code = "provider_refused"


class ProviderRateLimited(TransientError):
    """The provider's rate limit was reached."""

    code = "provider_rate_limited"


class ProviderBudgetSpent(ProviderRateLimited):
    """Our own rate budget for the provider is spent for now; nothing was sent."""

    code = "provider_budget_spent"
    counted: ClassVar[bool] = False


class QuotaExhausted(TransientError):
    """The account has no quota, budget or permission left: jobs wait for an operator."""

    code = "quota_exhausted"
    counted: ClassVar[bool] = False


class ProviderUnavailable(TransientError):
    """The provider did not respond, or responded with a server error."""

    code = "provider_unavailable"


class ProviderContractBroken(TransientError):
    """The provider's response is invalid; nothing is stored."""

    code = "provider_contract_broken"


# ---- workflows


class DefinitionRefused(UsageError):
    """Invalid definition; the message lists every error with its line and column."""

    code = "definition_refused"


class UnknownKind(UsageError):
    """No step kind has this name."""

    code = "unknown_kind"


class ExpressionRefused(UsageError):
    """Invalid expression."""

    code = "expression_refused"


class ExpressionFailed(PermanentError):
    """An expression failed on its input."""

    code = "expression_failed"


class WorkflowNotFound(UsageError):
    """The tenant has no such workflow or version."""

    code = "workflow_not_found"


class RunNotFound(UsageError):
    """The tenant has no run with this id."""

    code = "run_not_found"


class RunRefused(UsageError):
    """The run cannot be started or changed in this state."""

    code = "run_refused"


class SignalRefused(UsageError):
    """The run does not accept the signal."""

    code = "signal_refused"


class StepFailed(PermanentError):
    """A step failed permanently."""

    code = "step_failed"


class StepCancelled(AilydianError):
    """The step's run was stopped while it ran; its result is discarded."""

    code = "step_cancelled"


class OutputTooLarge(PermanentError):
    """A step's output exceeds the size limit."""

    code = "output_too_large"


class AddressRefused(PermanentError):
    """The address is not allowed."""

    code = "address_refused"


class SpendRefused(PermanentError):
    """Paid calls are not allowed by the settings."""

    code = "spend_refused"


class NoModelFits(PermanentError):
    """No model satisfies the limits of the request."""

    code = "no_model_fits"


class MessageGone(PermanentError):
    """The message of a job was deleted."""

    code = "message_gone"


class RatingRefused(UsageError):
    """Invalid rating, or the comment is too long."""

    code = "rating_refused"


class NothingToExplain(PermanentError):
    """The score does not exist, or its inputs were deleted."""

    code = "nothing_to_explain"


class PolicyRefused(UsageError):
    """Invalid moderation policy; the message lists every error."""

    code = "policy_refused"


class VerdictNotFound(UsageError):
    """The tenant has no verdict or appeal with this id."""

    code = "verdict_not_found"


class AppealRefused(UsageError):
    """The verdict cannot be appealed, or the appeal is decided already."""

    code = "appeal_refused"


class ContentGone(PermanentError):
    """The text to be moderated was deleted."""

    code = "content_gone"


class ProviderNotFound(UsageError):
    """The catalogue has no provider with this slug."""

    code = "provider_not_found"
