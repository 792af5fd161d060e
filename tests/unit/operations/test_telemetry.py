"""What a process writes to stderr: one JSON object a line, named, redacted, whoever wrote it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import patience

ROOT = Path(__file__).parents[3]
SCRIPT = r"""
import logging, sys, threading, warnings
import structlog
from shared.observability import telemetry

log = structlog.get_logger()
telemetry.configure("info")

log.info("it.began", n=5, nan=float("nan"), ids=["a", "b"], password="canary-1")
log.debug("it.whispered")
log.info("it.forged", text="one\r\ntwo\x1b[31m\u2028three\u202efour\0\ud800 ışık")
token = telemetry.doing.set({"job_id": "job-1", "trace_id": "trace-1"})
log.info("it.worked")
logging.getLogger("psycopg.pool").warning("lost %s", "postgresql://u:canary-2@h/db")
telemetry.doing.reset(token)
logging.getLogger("a.library").info("said this", extra={"count": 3, "token": "canary-3"})
logging.getLogger("httpx2").info("GET https://h/?q=canary-4")
logging.getLogger("a.library").error("badly %d formatted", "password=canary-5")
logging.getLogger("a.library").error("own secret: %s", "canary-6 as the signing key")
class Broken(dict):
    def items(self):
        raise LookupError("canary-12")
log.info("it.broke", value=Broken())
log.info("it.connected", text="with canary%20seven, that is canary seven")
warnings.warn("deprecated: secret=canary-8")
try:
    raise ValueError("token=canary-9")
except ValueError:
    log.exception("it.failed")
    logging.getLogger("a.library").exception("failed as well")
class Unprintable(Exception):
    def __str__(self):
        raise SystemExit("canary-13")
    __repr__ = __str__
try:
    error = Unprintable()
    raise error from error
except Unprintable:
    log.exception("it.hid", value=error, values=[error])
    logging.getLogger("a.library").exception("hid as well")
thread = threading.Thread(target=lambda: int("canary-10"), name="worker-7")
thread.start()
thread.join()
raise RuntimeError("Cookie: canary-11")
"""


@pytest.fixture(scope="module")
def stderr() -> str:
    """What a process writes that logs in every way there is, and then falls over."""
    environment = {
        "AILYDIAN_SIGNING_KEY": "canary-6 as the signing key",
        "DATABASE_URL": "postgresql://app:canary%20seven@nowhere/db",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        check=False,
        timeout=patience(60),
    )
    assert (done.returncode, done.stdout) == (1, b"")
    return done.stderr.decode()


@pytest.fixture(scope="module")
def events(stderr):
    return {event["event"]: event for event in map(json.loads, stderr.splitlines())}


def test_every_line_is_an_object_with_a_name_a_level_a_time_and_a_logger(stderr):
    for line in stderr.splitlines():
        event = json.loads(line)
        assert event.keys() >= {"event", "level", "timestamp", "logger"}
        assert event["timestamp"].endswith("Z")


def test_no_secret_is_in_any_line(stderr):
    assert "canary" not in stderr


def test_our_events_carry_their_values_and_the_module_that_logs(events):
    assert events["it.began"] == events["it.began"] | {
        "n": 5, "nan": "nan", "ids": ["a", "b"], "level": "info", "logger": "__main__",
    }  # fmt: skip
    assert "it.whispered" not in events


def test_no_value_can_forge_a_line_or_repaint_a_terminal(stderr, events):
    [line] = [line for line in stderr.splitlines() if "it.forged" in line]

    assert events["it.forged"]["text"].startswith("one\r\ntwo\x1b[31m\u2028three\u202efour\\0")
    assert "ışık" in line
    assert not set(line) & set("\r\x1b\u2028\u202e\0")


def test_libraries_log_in_the_context_of_the_job(events):
    assert events["it.worked"]["job_id"] == "job-1"
    lost = events["lost postgresql://u:[redacted]@h/db"]
    assert (lost["logger"], lost["level"], lost["trace_id"]) == (
        "psycopg.pool",
        "warning",
        "trace-1",
    )
    assert "job_id" not in events["said this"]


def test_libraries_extra_fields_are_kept_and_their_chatter_is_not(events, stderr):
    assert events["said this"]["count"] == 3
    assert "https://h/" not in stderr


def test_what_cannot_be_logged_is_told_without_its_values(stderr):
    lines = [json.loads(line) for line in stderr.splitlines() if '"log.failed"' in line]

    assert [line["error_type"] for line in lines] == ["TypeError", "LookupError"]
    assert lines[0]["library"] == "a.library"


def test_warnings_are_lines_too(events):
    [warning] = [event for event in events.values() if event["logger"] == "py.warnings"]

    assert "deprecated" in warning["event"]


def test_tracebacks_keep_their_frames(events):
    for name in ("it.failed", "failed as well"):
        assert 'File "<string>", line' in events[name]["exception"]
        assert "ValueError: token=[redacted]" in events[name]["exception"]


def test_an_error_whose_own_methods_fail_is_told_by_its_class(events):
    for name in ("it.hid", "hid as well"):
        assert "Unprintable, whose message cannot be shown" in events[name]["exception"]
    assert "cannot be shown" in events["it.hid"]["value"]


def test_what_nobody_caught_is_an_event(events):
    assert events["thread.failed"]["thread"] == "worker-7"
    assert "invalid literal" in events["thread.failed"]["exception"]
    assert "RuntimeError: Cookie: [redacted]" in events["process.failed"]["exception"]
    assert events["process.failed"]["level"] == "critical"
