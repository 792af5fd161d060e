"""From an exception to the sentence that a person reads and the exit code that a script does."""

import json
import traceback

import click
import psycopg
import redis

from shared.errors import AilydianError, PermanentError, UsageError
from shared.settings import settings

FAILED, MISUSED = 1, 2


class JobNotFound(PermanentError):
    """No job, dead letter or quarantined message has this id."""

    code = "job_not_found"


class NothingToCancel(PermanentError):
    """The job has ended."""

    code = "nothing_to_cancel"


class RoleKeepsEnding(PermanentError):
    """A process of `ailydian up` cannot start."""

    code = "role_keeps_ending"


class TenantInUse(PermanentError):
    """A tenant that still has people cannot be deleted."""

    code = "tenant_in_use"


class UserTaken(PermanentError):
    """The e-mail is another tenant's."""

    code = "user_taken"


class WorkersMissing(PermanentError):
    """Someone waits for work that nobody does."""

    code = "workers_missing"


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
    """What was waited for did not come within the time given."""

    code = "waited_too_long"


class ReportedError(click.ClickException):
    """An error as the command line shows it."""

    def __init__(self, sentence: str, code: str, exit_code: int, *, as_json: bool) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code  # type: ignore[misc]  # each instance has its own
        self._document = {"error": {"code": code, "message": sentence}} if as_json else None

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Say it on stderr; with --json stdout still gets its one document."""
        click.echo(f"Error: {self.message}", err=True)
        if self._document is not None:
            click.echo(json.dumps(self._document, ensure_ascii=False))


def reported(error: Exception, *, as_json: bool) -> ReportedError:
    """What to say of an error, and how to end.

    Args:
        error: Whatever a command raised.
        as_json: Whether a JSON document is owed on stdout.
    """
    if isinstance(error, AilydianError):
        exit_code = MISUSED if isinstance(error, UsageError) else FAILED
        return ReportedError(str(error), error.code, exit_code, as_json=as_json)
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedFunction):
        sentence = f"The database lacks the schema ({_line(error)}): run `ailydian migrate`."
        return ReportedError(sentence, "schema_missing", FAILED, as_json=as_json)
    if isinstance(error, psycopg.OperationalError):
        sentence = f"Postgres does not answer: {_line(error)}."
        return ReportedError(sentence, "server_unavailable", FAILED, as_json=as_json)
    if isinstance(error, redis.RedisError):
        sentence = f"Redis does not answer: {_line(error)}."
        return ReportedError(sentence, "server_unavailable", FAILED, as_json=as_json)
    if isinstance(error, OSError):
        sentence = f"{error.filename or 'The system'}: {error.strerror or error}."
        return ReportedError(sentence, "system", FAILED, as_json=as_json)
    if settings().log_level == "debug":
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    sentence = (
        f"This is a fault of ours, {type(error).__name__}: {_line(error)}; "
        "AILYDIAN_LOG_LEVEL=debug shows where."
    )
    return ReportedError(sentence, "bug", FAILED, as_json=as_json)


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
