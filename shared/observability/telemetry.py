"""Logging: one JSON event per line on stderr, or coloured lines on a terminal.

Our events are named `noun.verb`; within an attempt each carries the job, the tenant, the attempt
and the trace. Libraries log through the same handler: redaction, then one line. An uncaught
exception is an event as well, so that no bare traceback reaches stderr.
"""

import io
import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TextIO
from urllib.parse import unquote

import structlog
from pydantic import SecretStr
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.observability import error_texts, log_files, redaction, tracing
from shared.settings import Settings, settings

# At their lower levels these write whole requests and messages, texts and all.
LIBRARIES = (
    "asyncio",
    "dramatiq",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "openai",
    "opentelemetry",
    "psycopg",
    "urllib3",
)
# Fields of this context, such as an attempt, added to every event. One variable, set once per job;
# structlog has one per name.
doing: ContextVar[Mapping[str, object]] = ContextVar("doing", default=MappingProxyType({}))
_FIRST = ("timestamp", "level", "event", "logger")
_URL_PASSWORD = re.compile(r"://[^/@\s]*:([^/\s]+)@")
# Characters that end a line for some readers, or change text direction: escaped.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile(f"[\x00-\x1f]|{_UNSAFE.pattern}")
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False).encode


def configure(level: str) -> None:
    """Set up logging, and tracing if enabled, for this process.

    Args:
        level: debug, info, warning or error.

    Raises:
        ConfigurationBroken: Tracing is enabled but its libraries are missing.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    # Commands escape what they print; events are escaped here, and coloured on a terminal.
    out = log_files.guarded(getattr(sys.stderr, "unescaped", sys.stderr) or io.StringIO())
    redaction.remember(_own_secrets(settings()))
    end = _end(terminal=out.isatty())
    begin: list[Processor] = [
        _merge_doing,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*begin, _name_logger, _report_error, *end],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(out)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[
                *begin,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                _report_error,
            ],
            processors=[ProcessorFormatter.remove_processors_meta, *end],
        )
    )
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, _Handler)] + [handler]
    root.setLevel(number)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.getLogger("psycopg.pool").addFilter(_is_no_attempt)
    logging.captureWarnings(capture=True)
    _catch_uncaught()
    tracing.configure(settings())


def _merge_doing(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the fields of this context; fields of the event itself take precedence."""
    return {**doing.get(), **event}


def _report_error(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Write the error of `exc_info` as text: whatever it is, the line is written."""
    given = event.pop("exc_info", None)
    if not given:
        return event
    error = given if isinstance(given, BaseException) else None
    if error is None:
        error = given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if error is not None:
        event["exception"] = error_texts.report(error)
    return event


def redacted(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Redact all values, nested ones included; the last step before an event is written."""
    try:
        return redaction.redact_values(event)
    except (
        redaction.OUTRIGHT
    ) as error:  # a value whose own methods fail: the job that logs it must not
        kept = {name: event[name] for name in ("timestamp", "level", "logger") if name in event}
        return {**kept, "event": "log.failed", "error_type": type(error).__name__}


def one_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Format an event as one line of JSON without control characters or direction marks."""
    first = {name: event.pop(name) for name in _FIRST if name in event}
    line = _encode({**first, **event})
    return line if line.isascii() else _UNSAFE.sub(_escaped, line)


def _is_no_attempt(record: logging.LogRecord) -> bool:
    """Leave out each attempt of a pool to connect: why none succeeds is in our own errors."""
    return not str(record.msg).startswith(("error connecting in", "reconnection attempt"))


class _Handler(logging.StreamHandler[TextIO]):
    """The handler of the standard library's loggers."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report that a record could not be written, without its arguments."""
        kind = sys.exc_info()[0]
        why = "unknown" if kind is None else kind.__name__
        structlog.get_logger().error("log.failed", library=record.name, error_type=why)


def _name_logger(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the module that logs: our loggers are made without a name."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("structlog."):
        frame = frame.f_back
    event["logger"] = frame.f_globals["__name__"]
    return event


def _end(*, terminal: bool) -> list[Processor]:
    if not terminal:
        return [redacted, one_line]
    return [redacted, _visible, structlog.dev.ConsoleRenderer()]


def _visible(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters, so that a value cannot manipulate the terminal."""
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join(_CONTROL.sub(_escaped, line) for line in lines)
    return event


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _own_secrets(config: Settings) -> set[str]:
    texts = {
        value.get_secret_value()
        for name in type(config).model_fields
        if isinstance(value := getattr(config, name), SecretStr)
    }
    urls = {text for text in texts if "://" in text}
    found = {password for url in urls for password in _URL_PASSWORD.findall(url)}
    return (texts - urls) | found | {unquote(password) for password in found}


def _catch_uncaught() -> None:
    # Only if Python's own hooks are set: hooks of a test runner or a user are left alone.
    if sys.stderr is not None and sys.stderr.isatty():
        return
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _process_failed
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_failed
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _object_failed


def _process_failed(
    kind: type[BaseException], error: BaseException, at: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical("process.failed", exc_info=(kind, error, at))


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = None if args.thread is None else args.thread.name
    failed = (args.exc_type, args.exc_value, args.exc_traceback)
    structlog.get_logger().critical("thread.failed", thread=name, exc_info=failed)


def _object_failed(args: "sys.UnraisableHookArgs") -> None:
    failed = (args.exc_type, args.exc_value, args.exc_traceback)
    structlog.get_logger().error("object.failed", exc_info=failed)
