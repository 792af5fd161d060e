"""A trace goes from publish to attempt to follow-up, with OpenTelemetry and without."""

import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from producers.ledger.redis_ingress import GROUP, RedisIngress
from shared import db
from shared.contracts import Probe
from shared.errors import ConfigurationBroken
from shared.ledger.outbox import Lease, current_job, effect, publish, publish_many, publish_received
from shared.observability import telemetry, tracing
from shared.settings import Settings
from tests.support.factories import claim, job, make_tenant, publish_jobs, publish_probe, rows
from tests.support.patience import patience
from workers.process import attempts
from workers.process.leases import SLOTS_BYTES, HeldLeases, Slots

ROOT = Path(__file__).parents[3]
EXPORTED = """
from shared.observability import telemetry, tracing
telemetry.configure("info")
with tracing.publishing("probe", "maintenance", count=1) as header:
    print(header)
"""
HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans():
    """An exporter that keeps the spans of the test; `names` gives them by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)
    provider.shutdown()


def by_name(exporter):
    return {span.name: span for span in exporter.get_finished_spans()}


def traceparent(job_id):
    return tracing.read(job(job_id)["traceparent"])


def work(leases, function, contract=Probe):
    """Attempt jobs as a worker's thread does."""
    held = HeldLeases(Slots(mmap.mmap(-1, SLOTS_BYTES)))
    return attempts._do(function, contract, leases, held)


def follow_up(seen):
    def function(it, lease: Lease):
        seen.append(dict(telemetry.doing.get()))
        with effect(lease) as conn:
            publish(conn, Probe(note=f"after {it.note}"))

    return function


# ---- without OpenTelemetry


@pytest.mark.parametrize(
    "header",
    [
        None, "", "nonsense", HEADER[:-1], HEADER + "-more", HEADER.upper(), "ff" + HEADER[2:],
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f" {HEADER}", f"{HEADER}\n",
    ],
)  # fmt: skip
def test_a_header_that_is_none_counts_as_none(header):
    assert tracing.read(header) is None


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known():
    assert tracing.read(f"01-{TRACE}-{SPAN}-01-later") == tracing.Trace(TRACE, SPAN, "01")


def test_what_is_published_at_once_is_one_trace_and_each_time_a_new_one(pool):
    tenant = make_tenant()

    first, second = publish_jobs(tenant, [Probe(note="a"), Probe(note="b")])
    third = publish_probe(tenant)

    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", job(first)["traceparent"])
    assert job(first)["traceparent"] == job(second)["traceparent"]
    assert traceparent(third).trace_id != traceparent(first).trace_id


def test_a_publisher_continues_the_trace_that_it_was_given(pool):
    tenant = make_tenant()

    with tracing.continued(HEADER):
        given = publish_probe(tenant)
    after = publish_probe(tenant)

    assert traceparent(given).trace_id == TRACE
    assert traceparent(after).trace_id != TRACE


def test_a_follow_up_is_in_its_parents_trace_and_below_its_span(pool):
    tenant = make_tenant()
    first = publish_probe(tenant)
    seen = []

    work(claim(first), follow_up(seen))

    [(second,)] = rows('SELECT "id" FROM "Job" WHERE "parentId" = %s', first)
    assert traceparent(second).trace_id == traceparent(first).trace_id == seen[0]["trace_id"]
    assert traceparent(second).span_id == seen[0]["span_id"] != traceparent(first).span_id
    assert seen[0] == seen[0] | {"job_id": first, "job": "probe", "tenant_id": tenant, "attempt": 1}


def test_nothing_of_an_attempt_is_left_in_its_thread(pool):
    tenant = make_tenant()

    work(claim(publish_probe(tenant)), lambda it, lease: None)

    assert (telemetry.doing.get(), current_job.get(), tracing.current()) == ({}, None, None)


def test_a_job_from_sql_without_a_trace_has_the_same_one_in_every_attempt(pool):
    tenant = make_tenant()
    with db.transaction(tenant) as conn:
        row = conn.execute(
            """INSERT INTO "Job" ("job", "queue", "payload") VALUES ('probe', 'maintenance', '{}')
               RETURNING "id" """
        ).fetchone()
    [lease] = claim(row[0])
    seen = []

    for _ in range(2):
        work([lease], lambda it, lease: seen.append(dict(telemetry.doing.get())))

    assert lease.traceparent is None
    assert seen[0]["trace_id"] == seen[1]["trace_id"]
    assert seen[0]["span_id"] != seen[1]["span_id"]


def test_a_job_from_sql_can_name_its_trace(pool):
    tenant = make_tenant()
    with db.transaction(tenant) as conn:
        row = conn.execute(
            """INSERT INTO "Job" ("job", "queue", "payload", "traceparent")
               VALUES ('probe', 'maintenance', '{}', %s) RETURNING "id" """,
            [HEADER],
        ).fetchone()
    seen = []

    work(claim(row[0]), follow_up(seen))

    assert seen[0]["trace_id"] == TRACE


def test_the_door_continues_the_trace_of_each_request(pool, redis_url):
    make_tenant("a")
    request = {"job": "probe", "tenant": "a"}
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create("ailydian:publish", GROUP, id="0", mkstream=True)
        headers = [HEADER, None, "nonsense", HEADER]
        for number, header in enumerate(headers):
            named = {} if header is None else {"traceparent": header}
            fields = {"key": f"k{number}", "payload": f'{{"n": {number}}}'}
            client.xadd("ailydian:publish", request | fields | named)

        RedisIngress(client, "ailydian").turn(block_s=0.001)

    found = rows('SELECT "traceparent" FROM "Job" ORDER BY "key"')
    assert [header == HEADER for (header,) in found] == [True, False, False, True]
    assert all(tracing.read(header) for (header,) in found)


# ---- with OpenTelemetry


def test_publish_and_attempt_are_spans_of_one_trace(pool, spans):
    tenant = make_tenant()
    first = publish_probe(tenant)
    seen = []

    work(claim(first), follow_up(seen))

    sent, done, sent_again = spans.get_finished_spans()[0], *spans.get_finished_spans()[:0:-1]
    assert [sent.name, done.name, sent_again.name] == [
        "publish probe",
        "process probe",
        "publish probe",
    ]
    assert (sent.kind, done.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert len({span.context.trace_id for span in (sent, done, sent_again)}) == 1
    assert done.parent.span_id == sent.context.span_id
    assert sent_again.parent.span_id == done.context.span_id
    assert traceparent(first).span_id == f"{sent.context.span_id:016x}"
    assert seen[0]["span_id"] == f"{done.context.span_id:016x}"


def test_spans_carry_the_attributes_of_the_messaging_conventions(pool, spans):
    tenant = make_tenant()
    first = publish_probe(tenant)

    work(claim(first), lambda it, lease: None)

    sent, done = (by_name(spans)[name] for name in ("publish probe", "process probe"))
    assert dict(sent.attributes) == {
        "messaging.system": "ailydian",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "maintenance",
        "messaging.batch.message_count": 1,
    }
    assert dict(done.attributes) == {
        "messaging.system": "ailydian",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "maintenance",
        "messaging.message.id": first,
        "ailydian.job": "probe",
        "ailydian.tenant_id": tenant,
        "ailydian.attempt": 1,
    }
    assert done.status.status_code is StatusCode.UNSET


def test_a_failed_attempt_is_a_failed_span_without_its_secrets(pool, spans):
    def fail(it, lease):
        raise ValueError("password=canary")

    work(claim(publish_probe(make_tenant())), fail)

    done = by_name(spans)["process probe"]
    assert done.status.status_code is StatusCode.ERROR
    assert done.attributes["error.type"] == "ValueError"
    assert [event.name for event in done.events] == ["exception"]
    assert "canary" not in done.to_json()


def test_requests_that_are_published_together_are_a_span_for_each_of_their_traces(pool, spans):
    other = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = [HEADER, None, other, "nonsense", HEADER]
    with db.transaction(make_tenant()) as conn:
        found = publish_received(
            conn,
            [Probe(n=number) for number in range(5)],
            keys=[f"k{number}" for number in range(5)],
            traceparents=headers,
        )

    done = spans.get_finished_spans()
    parents = {span.parent and f"{span.parent.trace_id:032x}" for span in done}
    counts = sorted(span.attributes["messaging.batch.message_count"] for span in done)
    traces = [traceparent(one.id).trace_id for one in found]
    assert (parents, counts) == ({TRACE, "a" * 32, None}, [1, 2, 2])
    assert [traces[0], traces[2], traces[4]] == [TRACE, "a" * 32, TRACE]
    assert traces[1] == traces[3] not in {TRACE, "a" * 32}


def test_a_refused_publish_is_a_failed_span(pool, spans):
    with pytest.raises(psycopg.Error), db.transaction(make_tenant()) as conn:
        publish_many(conn, [Probe()], priority=99)

    assert by_name(spans)["publish probe"].status.status_code is StatusCode.ERROR


def test_a_batch_is_a_span_below_the_first_publisher_and_linked_to_the_others(pool, spans):
    tenant = make_tenant()
    leases = claim(*(publish_probe(tenant) for _ in range(3)))

    with tracing.attempt(leases):
        pass

    done = by_name(spans)["process probe"]
    sent = [span.context.span_id for span in spans.get_finished_spans()[:3]]
    assert done.parent.span_id == sent[0]
    assert [link.context.span_id for link in done.links] == sent[1:]
    assert done.attributes["messaging.batch.message_count"] == 3


def test_spans_are_recorded_only_where_it_is_asked_for():
    tracing.configure(Settings())
    tracing.configure(Settings(otel_traces_exporter="none"))

    assert tracing.current() is None
    with tracing.publishing("probe", "maintenance", count=1) as header:
        assert tracing.read(header).flags == "01"


def test_an_exporter_that_is_missing_is_named():
    with pytest.raises(ConfigurationBroken, match="the exporter 'nowhere' is missing"):
        tracing.configure(Settings(otel_traces_exporter="nowhere"))


def test_a_process_exports_its_spans_where_the_environment_says(tmp_path):
    environment = {"OTEL_TRACES_EXPORTER": "console", "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-c", EXPORTED],
        env=environment | {"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=patience(60),
    )

    header, _, span = done.stdout.decode().partition("\n")
    assert '"name": "publish probe"' in span
    assert tracing.read(header).span_id in span
    assert done.stderr == b""
