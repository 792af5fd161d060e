"""Moderation: the texts to judge, verdicts, policies and appeals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class Content:
    """A text to judge and its author; the author of a document is not known."""

    type: str
    id: str
    text: str
    user_id: UserId | None
    created_at: datetime


SELECT_CONTENTS: Final = """
    SELECT n."type", n."id", c."text", c."userId", c."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM unnest(%(types)s::text[], %(ids)s::text[]) AS n("type", "id")
    CROSS JOIN LATERAL (
        SELECT m."content" AS "text", v."userId", m."createdAt"
        FROM "Message" m JOIN "Conversation" v ON v."id" = m."conversationId"
        WHERE n."type" = 'message' AND m."id" = n."id"
        UNION ALL
        SELECT d."content", NULL, d."createdAt" FROM "Document" d
        WHERE n."type" = 'document' AND d."id" = n."id"
        UNION ALL
        SELECT coalesce(f."comment", ''), f."userId", f."createdAt" FROM "Feedback" f
        WHERE n."type" = 'feedback' AND f."id" = n."id"
    ) c
"""


def select_contents(
    conn: Connection, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Content]:
    """Those of the contents, as (type, id), that are still there."""
    values = {"types": [kind for kind, _ in wanted], "ids": [one for _, one in wanted]}
    found = (Content(*row) for row in conn.execute(SELECT_CONTENTS, values))
    return {(one.type, one.id): one for one in found}


@dataclass(frozen=True, slots=True)
class ExistingContent:
    """An existing content: the SHA-256 of its current text, and when it was created."""

    type: str
    id: str
    sha256: str
    created_at: datetime


SELECT_PRESENT: Final = """
    SELECT n."type", n."id", c."sha256", c."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM unnest(%(types)s::text[], %(ids)s::text[]) AS n("type", "id")
    CROSS JOIN LATERAL (
        SELECT encode(sha256(convert_to(m."content", 'UTF8')), 'hex') AS "sha256", m."createdAt"
        FROM "Message" m WHERE n."type" = 'message' AND m."id" = n."id"
        UNION ALL
        SELECT encode(sha256(convert_to(d."content", 'UTF8')), 'hex'), d."createdAt"
        FROM "Document" d WHERE n."type" = 'document' AND d."id" = n."id"
        UNION ALL
        SELECT encode(sha256(convert_to(coalesce(f."comment", ''), 'UTF8')), 'hex'), f."createdAt"
        FROM "Feedback" f WHERE n."type" = 'feedback' AND f."id" = n."id"
    ) c
"""


def select_present(
    conn: Connection, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], ExistingContent]:
    """As `select_contents`, with the texts' hashes in place of the texts."""
    values = {"types": [kind for kind, _ in wanted], "ids": [one for _, one in wanted]}
    found = (ExistingContent(*row) for row in conn.execute(SELECT_PRESENT, values))
    return {(one.type, one.id): one for one in found}


# Lock order: the tenant's policy, shared, then the contents by their ids. A verdict is given under
# both, so that a policy takes effect between verdicts, and a content's verdicts come one by one.
LOCK_CONTENTS: Final = """
    WITH policy AS MATERIALIZED (
        SELECT pg_advisory_xact_lock_shared(
            hashtextextended('moderation policy ' || current_setting('app.tenant_id'), 0))
    ), content AS MATERIALIZED (
        SELECT DISTINCT hashtextextended(
            'moderated ' || current_setting('app.tenant_id') || ' ' || n."id", 0) AS "lock"
        FROM policy, unnest(%(ids)s::text[]) AS n("id") ORDER BY 1
    )
    SELECT pg_advisory_xact_lock(c."lock") FROM content c
"""


def lock_contents(conn: Connection, content_ids: Sequence[str]) -> None:
    """Lock these contents and the policy against other verdicts and changes.

    Read the policy and the current verdicts after this: they stay the same until this transaction
    ends.
    """
    conn.execute(LOCK_CONTENTS, {"ids": list(content_ids)})


@dataclass(frozen=True, slots=True)
class ModerationState:
    """The current verdict on a content.

    Attributes:
        result_id: The current verdict; None before the first.
        action: Its action.
        pardoned: SHA-256 of the texts of which an appeal was granted.
    """

    content_id: str
    result_id: str | None
    action: str | None
    pardoned: list[str]


SELECT_STANDING: Final = """
    SELECT n."id" AS "contentId", r."id" AS "resultId", r."action", ARRAY(
               SELECT x."contentSha256" FROM "ModerationResult" x
               JOIN "ModerationAppeal" a ON a."resultId" = x."id"
               WHERE x."tenantId" = current_setting('app.tenant_id') AND x."contentId" = n."id"
                 AND x."contentSha256" IS NOT NULL
                 AND a."tenantId" = current_setting('app.tenant_id') AND a."state" = 'granted')
               AS "pardoned"
    FROM (SELECT DISTINCT unnest(%(ids)s::text[])) AS n("id")
    LEFT JOIN LATERAL (
        SELECT r."id", r."action" FROM "ModerationResult" r
        WHERE r."tenantId" = current_setting('app.tenant_id') AND r."contentId" = n."id"
          AND NOT r."superseded"
        ORDER BY r."createdAt" DESC, r."id" DESC LIMIT 1
    ) r ON true
"""


def select_standing(conn: Connection, content_ids: Sequence[str]) -> dict[str, ModerationState]:
    """The current verdict on each of these contents, by their ids."""
    found = (
        ModerationState(*row) for row in conn.execute(SELECT_STANDING, {"ids": list(content_ids)})
    )
    return {one.content_id: one for one in found}


@dataclass(frozen=True, slots=True)
class NewResult:
    """A row of "ModerationResult"; `scores` is JSON text."""

    content_type: str
    content_id: str
    content_sha256: str
    user_id: UserId | None
    flagged: bool
    categories: Sequence[str]
    scores: str
    action: str
    engine: str
    policy_version: int


# Of several verdicts on one content the newest is current; the others are kept, superseded.
INSERT_RESULTS: Final = """
    WITH new AS MATERIALIZED (
        SELECT public.ailydian_new_id() AS "id", n.*
        FROM unnest(%(types)s::text[], %(ids)s::text[], %(digests)s::text[], %(users)s::text[],
                    %(flagged)s::bool[], %(categories)s::text[], %(scores)s::jsonb[],
                    %(actions)s::text[], %(engines)s::text[], %(versions)s::int[])
             WITH ORDINALITY AS n("type", "contentId", "sha256", "userId", "flagged", "categories",
                                  "scores", "action", "engine", "version", "at")
    ), old AS (
        UPDATE "ModerationResult" r SET "superseded" = true
        WHERE r."tenantId" = current_setting('app.tenant_id')
          AND r."contentId" = ANY(%(ids)s::text[]) AND NOT r."superseded"
    ), made AS (
        INSERT INTO "ModerationResult" ("id", "contentType", "contentId", "contentSha256", "userId",
                                        "flagged", "categories", "scores", "action", "engine",
                                        "policyVersion")
        SELECT n."id", n."type", n."contentId", n."sha256", n."userId", n."flagged",
               coalesce(string_to_array(nullif(n."categories", ''), ','), '{}'), n."scores",
               n."action", n."engine", n."version"
        FROM new n
    )
    SELECT n."id" FROM new n ORDER BY n."at"
"""


def insert_results(conn: Connection, new: Sequence[NewResult]) -> list[str]:
    """Store verdicts as the current ones. Returns the ids of the rows, in the order given."""
    values: dict[str, object] = {
        "types": [one.content_type for one in new],
        "ids": [one.content_id for one in new],
        "digests": [one.content_sha256 for one in new],
        "users": [one.user_id for one in new],
        "flagged": [one.flagged for one in new],
        "categories": [",".join(one.categories) for one in new],
        "scores": [one.scores for one in new],
        "actions": [one.action for one in new],
        "engines": [one.engine for one in new],
        "versions": [one.policy_version for one in new],
    }
    return [row[0] for row in conn.execute(INSERT_RESULTS, values)]


SELECT_POLICY: Final = """
    SELECT p."version", p."policy" FROM "ModerationPolicy" p
    WHERE p."tenantId" = current_setting('app.tenant_id') ORDER BY p."version" DESC LIMIT 1
"""


def select_policy(conn: Connection) -> tuple[int, dict[str, Any]] | None:
    """The current version and its policy; None where the tenant has none of its own."""
    row = conn.execute(SELECT_POLICY).fetchone()
    if row is None:
        return None
    version, policy = row
    return version, policy


# Versions are counted by one at a time, and no verdict is given meanwhile: see LOCK_CONTENTS.
LOCK_POLICY: Final = """
    SELECT pg_advisory_xact_lock(
        hashtextextended('moderation policy ' || current_setting('app.tenant_id'), 0))
"""


def lock_policy(conn: Connection) -> None:
    """Lock the policy against verdicts and other changes."""
    conn.execute(LOCK_POLICY)


INSERT_POLICY: Final = """
    INSERT INTO "ModerationPolicy" ("version", "policy", "createdBy")
    SELECT 1 + coalesce(max(p."version"), 0), %(policy)s::jsonb, %(created_by)s
    FROM "ModerationPolicy" p WHERE p."tenantId" = current_setting('app.tenant_id')
    RETURNING "version"
"""


def insert_policy(conn: Connection, policy: str, *, created_by: str) -> int:
    """Make a policy, as JSON text, the current one. Returns its version."""
    row = conn.execute(INSERT_POLICY, {"policy": policy, "created_by": created_by}).fetchone()
    assert row is not None, "an insert that returns yields a row"
    return int(row[0])


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A version of a tenant's policy."""

    version: int
    policy: dict[str, Any]
    created_by: str
    created_at: datetime


SELECT_POLICIES: Final = """
    SELECT p."version", p."policy", p."createdBy", p."createdAt" FROM "ModerationPolicy" p
    WHERE p."tenantId" = current_setting('app.tenant_id') ORDER BY p."version" DESC LIMIT %(limit)s
"""


def select_policies(conn: Connection, *, limit: int) -> list[PolicyRow]:
    """The versions of the tenant's policy, newest first."""
    return [PolicyRow(*row) for row in conn.execute(SELECT_POLICIES, {"limit": limit})]
