"""Verdicts: list them, judge them again under another policy, appeal against them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """A verdict; `scores` is {engine, blind, scores, spans, thresholds}, spans by code points."""

    id: str
    content_type: str
    content_id: str
    content_sha256: str | None
    user_id: UserId | None
    flagged: bool
    categories: list[str]
    scores: dict[str, Any]
    action: str | None
    engine: str | None
    policy_version: int | None
    superseded: bool
    created_at: datetime


SELECT: Final = """
    SELECT r."id", r."contentType", r."contentId", r."contentSha256", r."userId", r."flagged",
           coalesce(r."categories", '{}') AS "categories", r."scores", r."action", r."engine",
           r."policyVersion", r."superseded", r."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "ModerationResult" r
    WHERE r."tenantId" = current_setting('app.tenant_id')
      AND (%(id)s::text IS NULL OR r."id" = %(id)s::text)
      AND (%(action)s::text IS NULL OR r."action" = %(action)s::text)
      AND (NOT %(current)s::bool OR NOT r."superseded")
      AND (%(before)s::timestamptz IS NULL
           OR (r."createdAt", r."id") < (%(before)s AT TIME ZONE 'UTC', %(before_id)s::text))
    ORDER BY r."createdAt" DESC, r."id" DESC LIMIT %(limit)s
"""


def select(conn: Connection, verdict_id: str) -> VerdictRow | None:
    """A verdict of the tenant; None where there is none of this id."""
    values = {"id": verdict_id, "action": None, "current": False, "limit": 1}
    values |= {"before": None, "before_id": None}
    row = conn.execute(SELECT, values).fetchone()
    return None if row is None else VerdictRow(*row)


def select_latest(
    conn: Connection,
    *,
    action: str | None,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[VerdictRow]:
    """The current verdicts, newest first: all, or those of one action.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        action: None for any.
        before: Time and id of the last row of the page before.
        limit: Rows at most.
    """
    at, before_id = before or (None, None)
    values: dict[str, object] = {"id": None, "action": action, "current": True, "limit": limit}
    values |= {"before": at, "before_id": before_id}
    return [VerdictRow(*row) for row in conn.execute(SELECT, values)]


# The next current verdicts under an older policy, by id.
SELECT_OLDER: Final = """
    SELECT r."id", r."contentType", r."contentId", r."contentSha256", r."userId", r."flagged",
           coalesce(r."categories", '{}') AS "categories", r."scores", r."action", r."engine",
           r."policyVersion", r."superseded", r."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "ModerationResult" r
    WHERE r."tenantId" = current_setting('app.tenant_id') AND r."id" > %(after)s
      AND NOT r."superseded" AND coalesce(r."policyVersion", 0) < %(version)s
    ORDER BY r."id" LIMIT %(limit)s
"""


def select_older(conn: Connection, version: int, *, after: str, limit: int) -> list[VerdictRow]:
    """Current verdicts under a policy before this version, after an id, by id."""
    values = {"version": version, "after": after, "limit": limit}
    return [VerdictRow(*row) for row in conn.execute(SELECT_OLDER, values)]


CONFIRM: Final = """
    UPDATE "ModerationResult" SET "policyVersion" = %(version)s WHERE "id" = ANY(%(ids)s::text[])
"""


def confirm(conn: Connection, ids: list[str], version: int) -> None:
    """Note that another policy gives the same verdicts."""
    conn.execute(CONFIRM, {"ids": ids, "version": version})


@dataclass(frozen=True, slots=True)
class AppealRow:
    """An appeal against a verdict."""

    id: str
    result_id: str
    reason: str
    state: str
    opened_by: str
    opened_at: datetime
    decided_by: str | None
    decided_at: datetime | None


OPEN_APPEAL: Final = """
    INSERT INTO "ModerationAppeal" ("resultId", "reason", "openedBy")
    VALUES (%(result_id)s, %(reason)s, %(opened_by)s)
    ON CONFLICT ("tenantId", "resultId") DO NOTHING RETURNING "id"
"""


def open_appeal(conn: Connection, result_id: str, *, reason: str, opened_by: str) -> str | None:
    """Appeal against a verdict. Returns the appeal's id; None where there is one already."""
    values = {"result_id": result_id, "reason": reason, "opened_by": opened_by}
    row = conn.execute(OPEN_APPEAL, values).fetchone()
    return None if row is None else str(row[0])


DECIDE_APPEAL: Final = """
    UPDATE "ModerationAppeal" a
    SET "state" = %(state)s, "decidedBy" = %(decided_by)s, "decidedAt" = now()
    WHERE a."tenantId" = current_setting('app.tenant_id') AND a."id" = %(id)s
      AND a."state" = 'open'
    RETURNING a."resultId"
"""


def decide_appeal(conn: Connection, appeal_id: str, state: str, *, decided_by: str) -> str | None:
    """Decide an open appeal. Returns its verdict's id; None where there is no such open appeal."""
    values = {"id": appeal_id, "state": state, "decided_by": decided_by}
    row = conn.execute(DECIDE_APPEAL, values).fetchone()
    return None if row is None else str(row[0])


SELECT_APPEALS: Final = """
    SELECT a."id", a."resultId", a."reason", a."state", a."openedBy", a."openedAt", a."decidedBy",
           a."decidedAt"
    FROM "ModerationAppeal" a
    WHERE a."tenantId" = current_setting('app.tenant_id')
      AND (%(id)s::text IS NULL OR a."id" = %(id)s::text)
      AND (%(state)s::text IS NULL OR a."state" = %(state)s::text)
      AND (%(before)s::timestamptz IS NULL
           OR (a."openedAt", a."id") < (%(before)s, %(before_id)s::text))
    ORDER BY a."openedAt" DESC, a."id" DESC LIMIT %(limit)s
"""


def select_appeals(
    conn: Connection,
    *,
    appeal_id: str | None = None,
    state: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 1,
) -> list[AppealRow]:
    """Appeals, newest first: all, those of a state, or the one of this id.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        appeal_id: None for any.
        state: None for any.
        before: Time and id of the last row of the page before.
        limit: Rows at most.
    """
    at, before_id = before or (None, None)
    values: dict[str, object] = {"id": appeal_id, "state": state, "limit": limit}
    values |= {"before": at, "before_id": before_id}
    return [AppealRow(*row) for row in conn.execute(SELECT_APPEALS, values)]
