"""The error tree: each class says who must act, each leaf says what happened.

PermanentError needs a person: the job goes to the dead letters at once. TransientError needs
time: the job is tried again. UsageError is the caller's to mend: nothing was accepted.
"""

from typing import ClassVar


class AilydianError(Exception):
    """Everything this system raises on purpose. The message is one sentence for a person."""

    code: ClassVar[str] = "error"


class PermanentError(AilydianError):
    """Trying again cannot help; an operator must act."""


class TransientError(AilydianError):
    """Trying again later may help.

    Attributes:
        counted: Whether an attempt that ends so uses up one of `attempts_max`. What is no fault
            of the job's, such as a spent budget, parks it instead.
        retry_after_s: What the other side asked us to wait, in seconds, or None.
    """

    counted: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UsageError(AilydianError):
    """The caller asked for something impossible; nothing was accepted or changed."""


# ---- publishing


class UnknownJob(UsageError):
    """No contract has this name."""

    code = "unknown_job"


class PayloadRefused(UsageError):
    """The payload does not fit its contract."""

    code = "payload_refused"


class PayloadTooLarge(UsageError):
    """The payload is larger than a ledger row may be."""

    code = "payload_too_large"


class QueueFull(UsageError):
    """Back-pressure: the queue holds as many jobs as it may."""

    code = "queue_full"


class TenantNotFound(UsageError):
    """No tenant has this id or slug."""

    code = "tenant_not_found"


class UserNotFound(UsageError):
    """No person of the tenant has this e-mail or id."""

    code = "user_not_found"


class MessageNotFound(UsageError):
    """The tenant has no message of this id."""

    code = "message_not_found"


# ---- set-up


class ConfigurationBroken(PermanentError):
    """A setting is missing, malformed or unsafe."""

    code = "configuration"


class ServerUnavailable(TransientError):
    """Postgres or Redis does not answer."""

    code = "server_unavailable"


class MigrationBusy(TransientError):
    """A step of a migration did not get its locks, or held them too long; nothing of it stays."""

    code = "migration_busy"


class MigrationRefused(PermanentError):
    """A part of the schema that cannot be changed like this, because something depends on it."""

    code = "migration_refused"


# ---- jobs


class LeaseLost(AilydianError):
    """Someone newer owns the job, or it has ended; nothing of this attempt may be written."""

    code = "lease_lost"


class EditRefused(PermanentError):
    """What was edited is no dead letter any more, or its edit would make a double of another."""

    code = "edit_refused"


class ReplayStopped(PermanentError):
    """Replayed jobs fail again, so the others were left alone."""

    code = "replay_stopped"


class TimeLimitExceeded(TransientError):
    """The job ran longer than its contract allows."""

    code = "time_limit"


# ---- documents


class DocumentRefused(PermanentError):
    """A document that cannot be ingested. `reason` is a stable code such as `empty_document`."""

    code = "document_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class DocumentNotFound(PermanentError):
    """The document is gone or belongs to someone else."""

    code = "document_not_found"


class VectorsMissing(TransientError):
    """Chunks lack their vector of a model; they may be on their way."""

    code = "vectors_missing"


# ---- providers


class ProviderRefused(PermanentError):
    """The provider will not serve this request, however often it is asked."""

    code = "provider_refused"


class ProviderRateLimited(TransientError):
    """The provider asked us to slow down."""

    code = "provider_rate_limited"


class ProviderBudgetSpent(ProviderRateLimited):
    """Our own share of the provider's budget is spent for now; nothing was sent."""

    code = "provider_budget_spent"
    counted: ClassVar[bool] = False


class QuotaExhausted(TransientError):
    """The account's quota, budget or right is gone: jobs wait until a person has seen to it."""

    code = "quota_exhausted"
    counted: ClassVar[bool] = False


class ProviderUnavailable(TransientError):
    """The provider did not answer, or answered with a fault of its own."""

    code = "provider_unavailable"


class ProviderContractBroken(TransientError):
    """The provider answered with something that is not what was asked for; nothing is stored."""

    code = "provider_contract_broken"


# ---- workflows


class DefinitionRefused(UsageError):
    """A definition that cannot run; the message names each fault with its line and column."""

    code = "definition_refused"


class UnknownKind(UsageError):
    """No step kind has this name."""

    code = "unknown_kind"


class ExpressionRefused(UsageError):
    """An expression that is not allowed, or does not parse."""

    code = "expression_refused"


class ExpressionFailed(PermanentError):
    """An expression that cannot be evaluated with what is there."""

    code = "expression_failed"


class WorkflowNotFound(UsageError):
    """The tenant has no workflow, or no such version of it, of this name."""

    code = "workflow_not_found"


class RunNotFound(UsageError):
    """No run of the tenant has this id."""

    code = "run_not_found"


class RunRefused(UsageError):
    """A run cannot be started, or changed, like this."""

    code = "run_refused"


class SignalRefused(UsageError):
    """The run takes no such signal."""

    code = "signal_refused"


class StepFailed(PermanentError):
    """A step found that it cannot succeed."""

    code = "step_failed"


class StepCancelled(AilydianError):
    """The step's run was stopped while it ran; nothing it still does counts."""

    code = "step_cancelled"


class OutputTooLarge(PermanentError):
    """A step's output is larger than a run may keep."""

    code = "output_too_large"


class AddressRefused(PermanentError):
    """An address that this system does not connect to."""

    code = "address_refused"


class SpendRefused(PermanentError):
    """A paid call that nobody has allowed."""

    code = "spend_refused"


class NoModelFits(PermanentError):
    """The limits of a request leave no model that could answer it."""

    code = "no_model_fits"


class MessageGone(PermanentError):
    """A message that a job is about was deleted."""

    code = "message_gone"


class RatingRefused(UsageError):
    """A rating that nobody can give, or a comment that is too long."""

    code = "rating_refused"


class NothingToExplain(PermanentError):
    """There is no such score, or what it was made of is gone."""

    code = "nothing_to_explain"


class PolicyRefused(UsageError):
    """A moderation policy that cannot hold; the message has every fault."""

    code = "policy_refused"


class VerdictNotFound(UsageError):
    """The tenant has no verdict or appeal of this id."""

    code = "verdict_not_found"


class AppealRefused(UsageError):
    """A verdict that cannot be appealed, or an appeal that was decided."""

    code = "appeal_refused"


class ContentGone(PermanentError):
    """A text that is to be judged was deleted."""

    code = "content_gone"


class ProviderNotFound(UsageError):
    """The catalogue has no provider of this slug."""

    code = "provider_not_found"
