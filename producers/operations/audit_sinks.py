"""Checkpoints of the audit log kept outside the database: in files, or at an address by PUT.

What a superuser of the database rewrites is told by what it cannot reach. Delivery is at least once
and in order; a place that does not answer gets what it lacks later.
"""

import os
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from producers.operations import audit_checkpoints
from producers.queries.operations import audit_seals, audit_sinks
from producers.queries.operations.audit_seals import StoredCheckpoint
from shared import db
from shared.db import Role
from shared.egress import fetching
from shared.egress.fetching import FetchLimits, FetchRequest
from shared.egress.targets import policy_of
from shared.errors import AilydianError, ConfigurationBroken
from shared.settings import Settings

log = structlog.get_logger()

LINES_MAX = 500  # of a file at once
PUTS_MAX = 50  # to an address at once
TIMEOUT_S = 10.0
EMBEDDED_FILE = "audit/checkpoints.jsonl"


def sinks(settings: Settings) -> list[str]:
    """Return the places that keep checkpoints: paths of files, and URLs.

    Raises:
        ConfigurationBroken: A URL is not one of https, or of http where egress allows it.
    """
    named = [one.strip() for one in settings.audit_sinks.split(",") if one.strip()]
    for one in named:
        if "://" in one and urlsplit(one).scheme not in {"https", "http"}:
            raise ConfigurationBroken(f"AILYDIAN_AUDIT_SINKS: {one} is neither a file nor https.")
    if not named and settings.database_url is None:
        named = [str(settings.home / EMBEDDED_FILE)]
    return named


def sweep(settings: Settings, stop: threading.Event) -> int:
    """Bring each place the checkpoints that it lacks. Returns how many were delivered."""
    return sum(_bring(sink, settings, stop) for sink in sinks(settings))


def _bring(sink: str, settings: Settings, stop: threading.Event) -> int:
    delivered = 0
    is_url = "://" in sink
    while not stop.is_set():
        with db.transaction(None, role=Role.AUDIT_READER) as conn:
            after = audit_sinks.select_place(conn, sink)
            limit = PUTS_MAX if is_url else LINES_MAX
            signed = audit_seals.select_checkpoints(conn, after=after, limit=limit)
            if not signed:
                break
            moved = audit_seals.select_heads(conn, after=after, to=signed[-1].number)
        lines = [(one, audit_checkpoints.line(one, moved.get(one.number, []))) for one in signed]
        kept, failed = _put(sink, lines, settings) if is_url else _append(Path(sink), lines)
        with db.transaction(None, role=Role.AUDIT_READER) as conn:
            if kept:
                audit_sinks.mark_kept(conn, sink, kept)
            if failed is not None:
                audit_sinks.mark_failed(conn, sink, failed)
        delivered += sum(one.number <= kept for one in signed)
        if failed is not None:
            log.warning("audit.sink_failed", sink=sink, error=failed)
            break
    return delivered


def _append(path: Path, lines: Sequence[tuple[StoredCheckpoint, bytes]]) -> tuple[int, str | None]:
    """Append lines to a file. Returns the last number on disk, and what went wrong."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a crash has cut off the last line
                    file.write(b"\n")
            file.write(b"".join(line for _, line in lines))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return 0, f"{path} cannot be written: {error.strerror}."
    return lines[-1][0].number, None


def _put(
    url: str, lines: Sequence[tuple[StoredCheckpoint, bytes]], settings: Settings
) -> tuple[int, str | None]:
    """Put each checkpoint at an address of its own. Returns as `_append`."""
    kept = 0
    for signed, line in lines:
        at = f"{url.rstrip('/')}/{signed.number:012}.json"
        request = FetchRequest("PUT", at, {"Content-Type": "application/json"}, line)
        try:
            reply = fetching.fetch(
                request, FetchLimits(timeout_s=TIMEOUT_S), policy=policy_of(settings)
            )
        except AilydianError as error:
            return kept, str(error)
        if not HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
            return kept, f"{reply.host} answered with {reply.status}."
        kept = signed.number
    return kept, None
