"""/v1/audit/checkpoints, /verification, /export: the sealed audit log of a tenant."""

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import IO, Annotated, Final

from fastapi import Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from producers.accounts.scopes import Scope
from producers.operations import audit_log
from producers.operations.audit_export import Period
from producers.operations.audit_verification import AuditFault
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.lists import Cursor, Limit, Moment
from producers.web.problems import Refused
from shared.settings import settings

router = routes.router("audit")
# Who asks waits for the answer: 2 s.
ENTRIES_MAX: Final = 100_000
_PIECE_BYTES: Final = 65_536
_reading = threading.Lock()

Reading = Annotated[Acting, needs(Scope.AUDIT_READ)]
AuditCheckpoint = answers.made(
    "AuditCheckpoint",
    **{"number": int, "at": datetime, "chains": int, "root": str, "previous": str | None},
    **{"format": str, "log": str, "moved": str, "key": str},
)
CheckpointList = answers.page_of(AuditCheckpoint, name="AuditCheckpointList")
BrokenEntry = answers.model_of(AuditFault, name="BrokenEntry")
AuditVerification = answers.made(
    "AuditVerification",
    ok=bool,
    entries=int,
    firstBroken=BrokenEntry | None,
    checkpoints=int,
    pending=int,
    late=int,
    faults=list[BrokenEntry],  # type: ignore[valid-type]
    verifiedAt=datetime,
)


class ExportQuery(BaseModel):
    """When the entries were sealed; unset means any time."""

    since: Moment | None = Field(None, description="From this time on.")
    until: Moment | None = Field(None, description="Before this time.")


@router.get("/checkpoints", response_model=CheckpointList)
def list_checkpoints(acting: Reading, after: Cursor = None, limit: Limit = 100) -> Response:
    """List the signed checkpoints, oldest first: of all tenants' chains, without their names."""
    del acting
    place = lists.read_texts(after)
    number = 0 if place is None else _number(place[0])
    rows = audit_log.list_checkpoints(after=number, limit=limit)
    full = len(rows) == limit
    following = lists.write_texts(str(rows[-1].number), "") if full else None
    return answers.ok({"items": [json.loads(row.body) for row in rows], "next": following})


@router.get("/verification", response_model=AuditVerification)
def verify_audit(acting: Reading) -> Response:
    """Compare the entries of a tenant with their seals and the signed checkpoints.

    One who may act for all and names no tenant verifies the entries without one.
    """
    chain = acting.tenant_id or audit_log.SYSTEM
    if audit_log.count_entries(chain) > ENTRIES_MAX:
        raise _too_many()
    with _alone():
        found = audit_log.verify_audit(settings(), chain)
    return answers.ok(audit_log.as_result(found))


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
def export_audit(acting: Reading, period: Annotated[ExportQuery, Query()]) -> Response:
    """Download the entries of a tenant as signed JSON lines, for `audit_verifier.py`.

    One who may act for all and names no tenant exports the entries without one.
    """
    chain = acting.tenant_id or audit_log.SYSTEM
    sealed = Period(period.since, period.until)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was sent
    try:
        with acting.named(), _alone():
            lines = audit_log.export_audit(settings(), acting.tenant_id, [chain], sealed)
            with closing(lines):
                for count, line in enumerate(lines):
                    if count > ENTRIES_MAX:
                        raise _too_many()
                    file.write(line)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = answers.PRIVATE | {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(_sent(file), media_type="application/jsonl", headers=headers)


def _sent(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


@contextmanager
def _alone() -> Iterator[None]:
    """One walk over a log at a time: it keeps a connection and a processor busy."""
    if not _reading.acquire(blocking=False):
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "audit_busy",
            "Another log is being read: ask again.",
            {"Retry-After": "2"},
        )
    try:
        yield
    finally:
        _reading.release()


def _too_many() -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "audit_too_large",
        f"More than {ENTRIES_MAX:,} entries: name a shorter time, or use `ailydian audit`.",
    )


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise lists.invalid_cursor() from None
