"""Traces: one id from publish to the last follow-up, with OpenTelemetry's spans where it is on.

The context travels in the ledger row, as W3C trace context writes it (`"Job"."traceparent"`); the
wake-up in Redis stays an id. `publishing` names the span that publishes, `attempt` the one that
runs the job: a child of the publisher's, and the parent of what it publishes itself. This needs
no library. With AILYDIAN_TRACING=1 or the usual OTEL_* variables both become real spans with the
attributes of OpenTelemetry's conventions for messaging.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from shared.errors import ConfigurationBroken
from shared.observability import error_texts
from shared.observability.redaction import redact
from shared.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

SYSTEM = "ailydian"
_HEADER = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.{0,200})?"
)


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of a trace: 32 and 16 hex digits, and the flags, of which 01 means "recorded"."""

    trace_id: str
    span_id: str
    flags: str = "01"

    @property
    def traceparent(self) -> str:
        """Return the traceparent header (W3C trace context)."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> "Trace":
        """Return a new span of the same trace."""
        return Trace(self.trace_id, os.urandom(8).hex(), self.flags)


class Work(Protocol):
    """The attributes of an attempt: a `shared.ledger.outbox.Lease`."""

    @property
    def job_id(self) -> str: ...  # noqa: D102
    @property
    def job(self) -> str: ...  # noqa: D102
    @property
    def queue(self) -> str: ...  # noqa: D102
    @property
    def tenant_id(self) -> str: ...  # noqa: D102
    @property
    def attempt(self) -> int: ...  # noqa: D102
    @property
    def traceparent(self) -> str | None: ...  # noqa: D102


class Attempt:
    """The span of an attempt, or of a batch of attempts."""

    def __init__(self, trace: Trace, span: "Span | None" = None) -> None:
        self.trace = trace
        self._span = span

    def failed(self, error: BaseException, sentence: str) -> None:
        """Record a failure, with one sentence without row values."""
        if self._span is not None:
            _Tracer.fail(self._span, error, sentence)


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def read(traceparent: str | None) -> Trace | None:
    """Parse a traceparent header; None if missing or malformed.

    Source: W3C Trace Context, 3.2: a malformed header is ignored, a later version read as far as
    it is known.
    """
    found = _HEADER.fullmatch(traceparent) if traceparent else None
    if found is None or (found[1] == "00" and found[5]):
        return None
    return Trace(found[2], found[3], found[4])


def current() -> Trace | None:
    """Return the current span of this thread, if any."""
    if _Tracer.provider is not None:
        from opentelemetry import trace as api  # noqa: PLC0415 - an extra: on use

        span = api.get_current_span().get_span_context()
        if span.is_valid:
            return _trace_of(span.trace_id, span.span_id, span.trace_flags)
    return _current.get()


@contextmanager
def continued(traceparent: str | None) -> Iterator[None]:
    """Publish as part of the trace of a received header; see `read`."""
    trace = read(traceparent)
    if trace is None:
        yield
        return
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def publishing(job: str, queue: str, *, count: int, received: Trace | None = None) -> Iterator[str]:
    """Open the span of publishing jobs. Yields the header to write into their rows.

    Args:
        job: Name of the (first) job.
        queue: Its queue.
        count: How many jobs are published at once.
        received: The trace that they are published in. Default: the current one, or a new one.
    """
    parent = received or current()
    if _Tracer.provider is None:
        yield (parent or _new()).traceparent
        return
    attributes: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": queue,
        "messaging.batch.message_count": count,
    }
    with _Tracer.span(f"publish {job}", "PRODUCER", parent, attributes) as span:
        here = span.get_span_context()
        try:
            yield _trace_of(here.trace_id, here.span_id, here.trace_flags).traceparent
        except Exception as error:
            _Tracer.fail(span, error, error_texts.message(error))
            raise


@contextmanager
def attempt(leases: Sequence[Work]) -> Iterator[Attempt]:
    """Open the span of an attempt of a job, or of several jobs processed as one.

    It is a child of the first job's publisher, and linked to the others'. A job whose publisher
    named no trace has one that its id determines, the same for every attempt.
    """
    first, *others = leases
    parent = read(first.traceparent) or _of_job(first.job_id)
    if _Tracer.provider is None:
        trace = parent.child()
        token = _current.set(trace)
        try:
            yield Attempt(trace)
        finally:
            _current.reset(token)
        return
    attributes: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": first.queue,
        "messaging.message.id": first.job_id,
        "ailydian.job": first.job,
        "ailydian.tenant_id": first.tenant_id,
        "ailydian.attempt": first.attempt,
    }
    if others:
        attributes["messaging.batch.message_count"] = len(leases)
    linked = [read(one.traceparent) or _of_job(one.job_id) for one in others]
    with _Tracer.span(f"process {first.job}", "CONSUMER", parent, attributes, linked) as span:
        here = span.get_span_context()
        yield Attempt(_trace_of(here.trace_id, here.span_id, here.trace_flags), span)


def configure(config: Settings) -> None:
    """Record spans from now on, if enabled by the settings.

    Raises:
        ConfigurationBroken: Tracing is enabled and the libraries are not installed.
    """
    asked = config.tracing or config.otel_traces_exporter or config.otel_endpoint
    name = config.otel_traces_exporter or "otlp"
    if not asked or name == "none" or _Tracer.provider is not None:
        return
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra: on use
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra: on use
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise ConfigurationBroken(
            "Tracing is enabled but OpenTelemetry is missing: install ailydian-workers[tracing]."
        ) from None
    exporters = entry_points(group="opentelemetry_traces_exporter", name=name)
    if not exporters:
        raise ConfigurationBroken(
            f"Tracing is enabled but the exporter {name!r} is missing: install "
            f"opentelemetry-exporter-otlp-proto-http, or set OTEL_TRACES_EXPORTER=console."
        )
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SYSTEM}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(next(iter(exporters)).load()()))
    use(provider)


def use(provider: "TracerProvider | None") -> None:
    """Record spans with this provider; None records none."""
    _Tracer.provider = provider


class _Tracer:
    """The OpenTelemetry integration; nothing is imported while it is disabled."""

    provider: "TracerProvider | None" = None

    @classmethod
    @contextmanager
    def span(
        cls,
        name: str,
        kind: str,
        parent: Trace | None,
        attributes: dict[str, str | int],
        linked: Sequence[Trace] = (),
    ) -> "Iterator[Span]":
        from opentelemetry import trace as api  # noqa: PLC0415 - an extra: on use

        assert cls.provider is not None, "callers check that tracing is enabled"
        tracer = cls.provider.get_tracer("ailydian")
        links = [api.Link(_remote(one).get_span_context()) for one in linked]
        with tracer.start_as_current_span(
            name,
            context=_below(parent),
            kind=api.SpanKind[kind],
            attributes=attributes,
            links=links,
            record_exception=False,  # it would send row values and secrets: see fail()
            set_status_on_exception=False,
        ) as span:
            yield span

    @staticmethod
    def fail(span: "Span", error: BaseException, sentence: str) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra: on use

        kind, message = error_texts.class_name(error), redact(sentence)
        span.set_status(Status(StatusCode.ERROR, message))
        span.set_attribute("error.type", kind)
        span.add_event("exception", {"exception.type": kind, "exception.message": message})


def _below(parent: Trace | None) -> "Context | None":
    from opentelemetry import trace as api  # noqa: PLC0415 - an extra: on use

    return None if parent is None else api.set_span_in_context(_remote(parent))


def _remote(trace: Trace) -> "Span":
    from opentelemetry import trace as api  # noqa: PLC0415 - an extra: on use

    return api.NonRecordingSpan(
        api.SpanContext(
            trace_id=int(trace.trace_id, 16),
            span_id=int(trace.span_id, 16),
            is_remote=True,
            trace_flags=api.TraceFlags(int(trace.flags, 16)),
        )
    )


def _trace_of(trace_id: int, span_id: int, flags: int) -> Trace:
    return Trace(f"{trace_id:032x}", f"{span_id:016x}", f"{flags:02x}")


def _new() -> Trace:
    return Trace(os.urandom(16).hex(), os.urandom(8).hex())


def _of_job(job_id: str) -> Trace:
    digest = hashlib.sha256(job_id.encode()).hexdigest()
    return Trace(digest[:32], digest[32:48])
