"""What a tenant may try with another's rows: documents, answers, search, incidents, judgement."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    """What a calls; `before` is done by a superuser, `refused` is the SQLSTATE that must come.

    `answer` is what the call must tell, `then` a condition that must hold afterwards.
    """

    name: str
    call: str
    refused: str | None = None
    before: str = ""
    role: str = "ailydian_app"
    answer: object = None
    then: str = "true"


_FOREIGN_SOURCE = (
    """INSERT INTO "CacheSource" ("tenantId", "entryId", "documentId") VALUES ('a', 'sb', 'da');"""
)
_FOREIGN_TEXT = """
    INSERT INTO "ChunkText" ("tenantId", "chunkId", "documentId", "language", "tsv")
    SELECT 'b', n || 'x', 'db', 'en', public.ailydian_lexemes('en', 'red green')
    FROM generate_series(1, 50) n;
"""
_SEARCH = """
    SELECT array_agg(("chunkId", round("share"::numeric, 6))::text ORDER BY 1)
    FROM public.ailydian_search_text(ARRAY['red', 'green', 'blue'], 'en', 10, {reach})
"""
_FOUND = ["(ca,0.389012)", "(ea,0.067816)"]
_INCIDENT = """
    INSERT INTO "Incident" ("tenantId", "cause", "title", "description", "severity", "status",
                            "figure",
                            "resolvedAt")
    VALUES ('b', 'cause', 'secret-of-b', '', 'HIGH', '{}', 9, now());
"""
_RAISE = "SELECT public.ailydian_raise_incident('a', 'cause', 't', 'd', 'LOW', 1)"
_JUDGED = """
    INSERT INTO "ModerationResult" ("tenantId", "contentId", "contentType", "flagged", "scores")
    SELECT t, n || t, 'message', t = 'a', '{}'
    FROM generate_series(1, 4) n, unnest('{a,b}'::text[]) t;
"""
_CALIBRATED = """
    INSERT INTO "QualityCalibration" ("tenantId", "version", "method", "curve", "pairs", "errorRaw",
                                      "error", "createdAt")
    SELECT t, 1, 'identity', '{}', 9, 0, 0, now() - interval '1 hour'
    FROM unnest('{a,b}'::text[]) t;
    INSERT INTO "QualityScore" ("tenantId", "messageId", "estimatedScore", "actualScore")
    VALUES ('a', 'ma', 0.5, 0.5), ('b', 'mb', 0.9, 0.1);
"""
_NEAREST = ["(ca,0.466795)"]
ATTACKS = [
    Attack(
        "an answer of another tenant, its document deleted",
        """DELETE FROM "Document" WHERE "id" = 'da'""",
        before=_FOREIGN_SOURCE,
    ),
    Attack(
        "an answer of another tenant, its document changed",
        """UPDATE "Document" SET "content" = 'new' WHERE "id" = 'da'""",
        before=_FOREIGN_SOURCE,
    ),
    Attack(
        "an answer of another tenant, its chunk deleted",
        """DELETE FROM "DocumentChunk" WHERE "id" = 'ea'""",
        before=_FOREIGN_SOURCE,
    ),
    Attack(
        "an answer of another tenant, its chunk changed",
        """UPDATE "DocumentChunk" SET "content" = 'new' WHERE "id" = 'ca'""",
        before=_FOREIGN_SOURCE,
    ),
    Attack(
        "the words of another tenant's chunk of the same id",
        """UPDATE "Document" SET "tenantId" = NULL WHERE "id" = 'da'""",
        before="""
            INSERT INTO "ChunkText" ("tenantId", "chunkId", "documentId", "language", "tsv")
            VALUES ('b', 'ca', 'db', 'en', '');
            INSERT INTO "ChunkVector" ("tenantId", "chunkId", "documentId", "model", "bits",
                                       "embedding")
            VALUES ('b', 'ca', 'db', 'm', repeat('0', 1536)::bit(1536),
                    array_fill(0.5, ARRAY[1536])::halfvec);
        """,
        role="ailydian_platform",
    ),
    Attack(
        "an incident of the same cause",
        _RAISE,
        before=_INCIDENT.format("OPEN"),
        role="ailydian_relay",
        answer="opened",
    ),
    Attack(
        "a closed incident of the same cause",
        _RAISE,
        before=_INCIDENT.format("CLOSED"),
        role="ailydian_relay",
        answer="opened",
    ),
    Attack(
        "the incidents of one tenant",
        "SELECT i::text FROM public.ailydian_list_incidents(NULL, 'a', false, true, 9) i",
        before=_INCIDENT.format("OPEN"),
        role="ailydian_relay",
    ),
    Attack(
        "the share of flagged texts",
        """SELECT f::text FROM public.ailydian_flagged_shares('1 hour', 1) f""",
        before=_JUDGED,
        role="ailydian_relay",
        answer="(a,4,4,0,0)",
    ),
    Attack(
        "the error of a calibration",
        """SELECT f::text FROM public.ailydian_calibration_errors(9) f ORDER BY 1""",
        before=_CALIBRATED,
        role="ailydian_relay",
        answer="(a,1,0,0,1)",
    ),
    *(
        Attack(
            f"search, {size} words, beside a larger tenant",
            _SEARCH.replace("{reach}", reach),
            before=before,
            answer=answer,
        )
        for size, reach, answer in [("any", "2000", _FOUND), ("all", "2", _NEAREST)]
        for before in ("", _FOREIGN_TEXT)
    ),
]
