-- Give the events and audit entries that were committed since the last fold their place: the number of
-- a new fold. A fold names the ended transactions whose events it holds; one that is still open is left to
-- the fold after its commit, so nobody's open transaction keeps the others' events back, and none is left
-- out. A job's events lie in their order: who notes the second has waited for the commit of the first.
--
-- Writes one row a fold, and nothing at an event. Locks: one process places at a time, another one does
-- nothing. Returns whether there was a new fold.
CREATE OR REPLACE FUNCTION ailydian_place_events() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_last public."EventFold";
    v_now pg_snapshot;
    v_lows xid8[];
    v_highs xid8[];
BEGIN
    -- An older snapshot would not see the fold of who had the lock before.
    IF current_setting('transaction_isolation') <> 'read committed'
       OR NOT pg_try_advisory_xact_lock(hashtext('ailydian'), hashtext('events')) THEN
        RETURN false;
    END IF;
    SELECT f.* INTO v_last FROM public."EventFold" f ORDER BY f."fold" DESC LIMIT 1;
    v_now := pg_current_snapshot();
    IF v_last."fold" IS NULL THEN
        INSERT INTO public."EventFold" ("fold", "upto", "open")
        VALUES (pg_snapshot_xmin(v_now), pg_snapshot_xmin(v_now), '{}') RETURNING * INTO v_last;
    END IF;
    -- Transactions that were open at the last fold and have ended; and what lies between those that
    -- are open now, from where the last fold ended.
    SELECT array_agg(r."low" ORDER BY r."low"), array_agg(r."high" ORDER BY r."low") INTO v_lows, v_highs
    FROM (
        SELECT o.x AS "low", (o.x::text::bigint + 1)::text::xid8 AS "high"
        FROM unnest(v_last."open") AS o(x) WHERE pg_visible_in_snapshot(o.x, v_now)
        UNION ALL
        SELECT (b.n + 1)::text::xid8, (lead(b.n) OVER (ORDER BY b.n))::text::xid8
        FROM (
            SELECT v_last."upto"::text::bigint - 1
            UNION ALL SELECT pg_snapshot_xmax(v_now)::text::bigint
            UNION ALL SELECT o.x::text::bigint FROM pg_snapshot_xip(v_now) AS o(x)
                      WHERE o.x >= v_last."upto"
        ) AS b(n)
    ) r
    -- By the index for each range, whatever the statistics say.
    CROSS JOIN LATERAL (
        (SELECT FROM public."JobEvent" e WHERE e."xid" >= r."low" AND e."xid" < r."high"
         ORDER BY e."xid" LIMIT 1)
        UNION ALL
        (SELECT FROM public."AuditLog" a WHERE a."xid" >= r."low" AND a."xid" < r."high"
         ORDER BY a."xid" LIMIT 1)
        LIMIT 1
    ) e
    WHERE r."low" < r."high";
    IF v_lows IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO public."EventFold" ("fold", "lows", "highs", "upto", "open")
    VALUES (greatest((v_last."fold"::text::bigint + 1)::text::xid8, pg_snapshot_xmax(v_now)),
            v_lows, v_highs, pg_snapshot_xmax(v_now), ARRAY(SELECT pg_snapshot_xip(v_now)));
    RETURN true;
END $$;
CALL ailydian_build_rights('ailydian_place_events', 'ailydian_relay, ailydian_app, ailydian_audit_reader');
