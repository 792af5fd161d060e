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
    v_max CONSTANT BIGINT := 9223372036854775807;
    v_fold public."EventFold";
    v_left INTEGER := p_limit;
    v_after BIGINT;
    v_upto BIGINT;
    v_found INTEGER;
BEGIN
    <<folds>>
    FOR v_fold IN
        SELECT f.* FROM public."EventFold" f
        WHERE f."fold" >= p_fold AND f."fold" <= p_to ORDER BY f."fold"
    LOOP
        v_after := CASE WHEN v_fold."fold" = p_fold THEN p_position ELSE 0 END;
        -- Within a fold, first what lies just ahead: of a large one, most is passed in the index alone.
        FOREACH v_upto IN ARRAY CASE WHEN v_after BETWEEN 1 AND v_max / 2
                                THEN ARRAY[v_after + 4 * v_left, v_max] ELSE ARRAY[v_max] END LOOP
            IF v_fold."lows" IS NULL THEN
                RETURN QUERY
                    SELECT e."xid", e."position", e."xid", e."tenantId", e."jobId", e."job", e."queue",
                           e."what", e."batchId", e."waitedS", e."tookS", e."at"
                    FROM public."JobEvent" e
                    WHERE (e."xid", e."position") > (p_fold, p_position) AND e."xid" < v_fold."fold"
                    ORDER BY e."xid", e."position" LIMIT v_left;
            ELSE
                RETURN QUERY
                    SELECT v_fold."fold", e."position", e."xid", e."tenantId", e."jobId", e."job",
                           e."queue", e."what", e."batchId", e."waitedS", e."tookS", e."at"
                    FROM unnest(v_fold."lows", v_fold."highs") AS r("low", "high")
                    CROSS JOIN LATERAL (
                        -- OFFSET 0: each range by itself, along the index, whatever statistics say.
                        SELECT x.* FROM public."JobEvent" x
                        WHERE (x."xid", x."position") > (r."low", v_after) AND x."xid" < r."high"
                          AND x."position" > v_after AND x."position" <= v_upto OFFSET 0
                    ) e
                    ORDER BY e."position" LIMIT v_left;
            END IF;
            GET DIAGNOSTICS v_found = ROW_COUNT;
            v_left := v_left - v_found;
            EXIT folds WHEN v_left = 0;
            v_after := v_upto;
        END LOOP;
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_read_events', 'ailydian_relay, ailydian_app');
