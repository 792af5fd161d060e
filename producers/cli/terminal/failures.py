"""Maps exceptions to error messages and exit codes."""

import json

import click
import psycopg
import redis

from producers.cli.terminal.visible import bytes_escaped
from shared import server_errors
from shared.errors import AilydianError, PermanentError, ServerUnavailable, UsageError
from shared.observability import error_texts
from shared.settings import settings

FAILED, MISUSED = 1, 2
WORD_CHARS_MAX = 80


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


class ReportedError(click.ClickException):
    """An error as the command line shows it."""

    def __init__(self, sentence: str, code: str, exit_code: int, *, as_json: bool) -> None:
        sentence = bytes_escaped(sentence)
        super().__init__(sentence)
        self.exit_code = exit_code  # type: ignore[misc]  # each instance has its own
        self._document = {"error": {"code": code, "message": sentence}} if as_json else None

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the error on stderr; with --json, stdout still gets one document."""
        click.echo(f"Error: {self.message}", err=True)
        if self._document is not None:
            click.echo(json.dumps(self._document, ensure_ascii=False))


def reported(error: Exception, *, as_json: bool) -> ReportedError:
    """Convert an exception to a reportable error with an exit code.

    Args:
        error: The exception that a command raised.
        as_json: Whether stdout must get a JSON document.
    """
    error = _misuse(error) or error
    if isinstance(error, AilydianError):
        exit_code = MISUSED if isinstance(error, UsageError) else FAILED
        return ReportedError(error_texts.message(error), error.code, exit_code, as_json=as_json)
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedFunction):
        sentence = (
            f"The database schema is missing or outdated ({_line(error)}): run `ailydian migrate`."
        )
        return ReportedError(sentence, "schema_missing", FAILED, as_json=as_json)
    if isinstance(error, psycopg.Error):
        unavailable = server_errors.unavailable(error)
        if unavailable is not None:
            return ReportedError(str(unavailable), unavailable.code, FAILED, as_json=as_json)
    if isinstance(error, redis.RedisError):
        trouble = server_errors.trouble_of(error)
        assert trouble is not None, "an error of Redis is the server's"
        return ReportedError(
            f"{trouble.sentence}.", ServerUnavailable.code, FAILED, as_json=as_json
        )
    if isinstance(error, OSError):
        sentence = f"{error.filename or 'The system'}: {error.strerror or error}."
        return ReportedError(sentence, "system", FAILED, as_json=as_json)
    if settings().log_level == "debug":
        click.echo(error_texts.report(error), err=True, nl=False)
    sentence = (
        f"Internal error, {error_texts.class_name(error)}: {_line(error)}; "
        "set AILYDIAN_LOG_LEVEL=debug for the traceback."
    )
    return ReportedError(sentence, "bug", FAILED, as_json=as_json)


def _misuse(error: Exception) -> UsageError | None:
    """What an argument or a file's name that is not UTF-8 did, said as that.

    Nothing else that is stored, sent or read from a file has such bytes.
    """
    if not isinstance(error, UnicodeEncodeError):
        return None
    words = [word for word in error.object.split() if bytes_escaped(word) != word]
    return (
        UsageError(f"{bytes_escaped(words[0])[:WORD_CHARS_MAX]} is not UTF-8.") if words else None
    )


def _line(error: Exception) -> str:
    return error_texts.message(error).strip().partition("\n")[0].rstrip(".")
