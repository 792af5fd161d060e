-- Store trust events, one row a source: of two events of one source the greater revision counts.
-- Only events about `p_concerned`, the tenant's own people, are stored.
-- Locks: the events, by person, kind and source; the caller holds the people's locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_note_trust_events(
    p_concerned TEXT[], p_user_ids TEXT[], p_kinds TEXT[], p_source_ids TEXT[],
    p_values DOUBLE PRECISION[], p_occurred_at TIMESTAMPTZ[], p_revisions TIMESTAMPTZ[],
    p_withdrawn BOOLEAN[]
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    INSERT INTO "TrustEvent" AS e ("tenantId", "userId", "kind", "sourceId", "value", "occurredAt",
                                   "revision", "withdrawn")
    SELECT DISTINCT ON (n."userId", n."kind", n."sourceId") v_tenant_id, n.*
    FROM unnest(p_user_ids, p_kinds, p_source_ids, p_values, p_occurred_at, p_revisions, p_withdrawn)
         AS n ("userId", "kind", "sourceId", "value", "occurredAt", "revision", "withdrawn")
    WHERE n."kind" IS NOT NULL AND n."userId" = ANY(p_concerned)
    ORDER BY n."userId", n."kind", n."sourceId", n."revision" DESC, n."withdrawn" DESC,
             n."value" DESC, n."occurredAt" DESC
    ON CONFLICT ("tenantId", "userId", "kind", "sourceId") DO UPDATE
    SET "value" = excluded."value", "occurredAt" = excluded."occurredAt",
        "revision" = excluded."revision", "withdrawn" = excluded."withdrawn"
    WHERE (excluded."revision", excluded."withdrawn", excluded."value", excluded."occurredAt")
        > (e."revision", e."withdrawn", e."value", e."occurredAt");
END $$;
CALL ailydian_build_rights('ailydian_note_trust_events', 'ailydian_app');
