-- The events after a place, in their order, by fold and position; those of folds above `p_to` are left
-- out. Events from before the first fold lie by the number of their transaction, as they were read then.
-- Who asks sees what the policies let them see.
CREATE OR REPLACE FUNCTION ailydian_read_events(
    p_fold XID8, p_position BIGINT, p_to XID8, p_limit INTEGER
) RETURNS TABLE ("fold" XID8, "position" BIGINT, "xid" XID8, "tenantId" TEXT, "jobId" TEXT, "job" TEXT,
                 "queue" TEXT, "what" TEXT, "batchId" TEXT, "waitedS" REAL, "tookS" REAL, "at" TIMESTAMPTZ)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_fold public."EventFold";
    v_left INTEGER := p_limit;
    v_found INTEGER;
BEGIN
    FOR v_fold IN
        SELECT f.* FROM public."EventFold" f
        WHERE f."fold" >= p_fold AND f."fold" <= p_to ORDER BY f."fold"
    LOOP
        IF v_fold."lows" IS NULL THEN
            RETURN QUERY
                SELECT e."xid", e."position", e."xid", e."tenantId", e."jobId", e."job", e."queue",
                       e."what", e."batchId", e."waitedS", e."tookS", e."at"
                FROM public."JobEvent" e
                WHERE (e."xid", e."position") > (p_fold, p_position) AND e."xid" < v_fold."fold"
                ORDER BY e."xid", e."position" LIMIT v_left;
        ELSE
            RETURN QUERY
                SELECT v_fold."fold", e."position", e."xid", e."tenantId", e."jobId", e."job", e."queue",
                       e."what", e."batchId", e."waitedS", e."tookS", e."at"
                FROM unnest(v_fold."lows", v_fold."highs") AS r("low", "high")
                CROSS JOIN LATERAL (
                    -- OFFSET 0: each range by itself, along the index, whatever the statistics say.
                    SELECT x.* FROM public."JobEvent" x
                    WHERE x."xid" >= r."low" AND x."xid" < r."high"
                      AND x."position" > CASE WHEN v_fold."fold" = p_fold THEN p_position ELSE 0 END
                    OFFSET 0
                ) e
                ORDER BY e."position" LIMIT v_left;
        END IF;
        GET DIAGNOSTICS v_found = ROW_COUNT;
        v_left := v_left - v_found;
        EXIT WHEN v_left = 0;
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_read_events', 'ailydian_relay, ailydian_app');
