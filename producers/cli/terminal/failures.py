"""Error messages and exit codes of commands."""

import json

import click

from producers import errors
from producers.cli.terminal.visible import bytes_escaped
from producers.errors import Cause
from shared.errors import UsageError
from shared.observability import error_texts
from shared.settings import settings

FAILED, MISUSED = 1, 2
WORD_CHARS_MAX = 80


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
    failure = errors.told(error)
    exit_code = MISUSED if failure.cause is Cause.CALLER else FAILED
    sentence = failure.sentence
    if failure.cause is Cause.BUG:
        if settings().log_level == "debug":
            click.echo(error_texts.report(error), err=True, nl=False)
        sentence += "; set AILYDIAN_LOG_LEVEL=debug for the traceback."
    return ReportedError(sentence, failure.code, exit_code, as_json=as_json)


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
