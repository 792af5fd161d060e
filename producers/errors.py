"""Errors of what callers ask for, and how the command line and the HTTP API tell each."""

from dataclasses import dataclass
from enum import Enum

import psycopg
import redis

from shared import server_errors
from shared.errors import AilydianError, PermanentError, ServerUnavailable, UsageError
from shared.observability import error_texts


class JobNotFound(PermanentError):
    """No job, dead letter or quarantined message has this id."""

    code = "job_not_found"


class NothingToCancel(PermanentError):
    """The job has ended."""

    code = "nothing_to_cancel"


class RoleKeepsEnding(PermanentError):
    """A process of `ailydian up` cannot start."""

    code = "role_keeps_ending"


class ConversationNotFound(PermanentError):
    """The tenant has no conversation of this id."""

    code = "conversation_not_found"


class ModelNotFound(PermanentError):
    """The catalogue has no model of this slug."""

    code = "model_not_found"


class ProviderTaken(PermanentError):
    """The name belongs to another provider."""

    code = "provider_taken"


class ExplanationNotFound(PermanentError):
    """The tenant has no explanation of this id."""

    code = "explanation_not_found"


class TenantInUse(PermanentError):
    """A tenant that still has users cannot be deleted."""

    code = "tenant_in_use"


class UserTaken(PermanentError):
    """The e-mail belongs to another tenant."""

    code = "user_taken"


class WorkersMissing(PermanentError):
    """No worker serves a queue that a command waits for."""

    code = "workers_missing"


class PublisherNotFound(PermanentError):
    """No publisher has this name."""

    code = "publisher_not_found"


class LimitNotFound(PermanentError):
    """No limit has this id."""

    code = "limit_not_found"


class ExplanationFailed(PermanentError):
    """A score could not be explained."""

    code = "explanation_failed"


class ScheduleNotFound(PermanentError):
    """The tenant has no schedule of this name."""

    code = "schedule_not_found"


class WaitedTooLong(PermanentError):
    """The wait timed out."""

    code = "waited_too_long"


class Cause(Enum):
    """Who must act on an error: the caller, an operator, the clock, or we."""

    CALLER = "caller"
    OPERATOR = "operator"
    SERVER = "server"
    BUG = "bug"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as people and programs are told it: one sentence, and a stable code."""

    code: str
    sentence: str
    cause: Cause


def told(error: Exception) -> Failure:
    """Return how an exception is told."""
    if isinstance(error, AilydianError):
        cause = Cause.CALLER if isinstance(error, UsageError) else Cause.OPERATOR
        if isinstance(error, ServerUnavailable):
            cause = Cause.SERVER
        return Failure(error.code, error_texts.message(error), cause)
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedFunction):
        sentence = (
            f"The database schema is missing or outdated ({_line(error)}): run `ailydian migrate`."
        )
        return Failure("schema_missing", sentence, Cause.OPERATOR)
    if isinstance(error, psycopg.Error):
        unavailable = server_errors.unavailable(error)
        if unavailable is not None:
            return Failure(unavailable.code, str(unavailable), Cause.SERVER)
    if isinstance(error, redis.RedisError):
        trouble = server_errors.trouble_of(error)
        assert trouble is not None, "an error of Redis is the server's"
        return Failure(ServerUnavailable.code, f"{trouble.sentence}.", Cause.SERVER)
    if isinstance(error, OSError):
        sentence = f"{error.filename or 'The system'}: {error.strerror or error}."
        return Failure("system", sentence, Cause.OPERATOR)
    sentence = f"Internal error, {error_texts.class_name(error)}: {_line(error)}"
    return Failure("bug", sentence, Cause.BUG)


def _line(error: Exception) -> str:
    return error_texts.message(error).strip().partition("\n")[0].rstrip(".")
