-- Events get their place when they are folded, and no open transaction holds them back. Events that are
-- there keep their places; the cursor of the counters goes on under a new name, and the old one is moved
-- to the end, so that a relay of the version before counts nothing a second time.
CREATE TABLE IF NOT EXISTS "EventFold" (
    "fold"  XID8 PRIMARY KEY,
    "lows"  XID8[],
    "highs" XID8[],
    "upto"  XID8 NOT NULL,
    "open"  XID8[] NOT NULL,
    "foldedAt" TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT "EventFold_ranges_check" CHECK (cardinality("lows") = cardinality("highs"))
);
COMMENT ON TABLE "EventFold" IS
    'Whose events a fold holds: transactions from a low below its high, ended when it was made. Below '
    '"upto" all others but the "open" ones have been folded before. The first has no ranges: events of '
    'transactions below it, each with its transaction as its fold.';
COMMENT ON TABLE "EventCursor" IS
    'How far each reader of "JobEvent" has come: "xid" is a fold, and "position" one in it.';
COMMENT ON TABLE "JobEvent" IS
    'COMPLETED, DEAD, CANCELLED, RETRY, REPLAYED, DISCARDED of a job; RUN_..., STEP_..., BATCH_... and '
    'INCIDENT_... of others, under their own ids, "job" their name: noted as it commits. Read in the order '
    'of "EventFold", and by "position" within a fold.';
DO $$
DECLARE
    v_end CONSTANT XID8 := '18446744073709551615';
BEGIN
    PERFORM FROM "EventCursor" c WHERE c."reader" = 'fold' FOR UPDATE;
    INSERT INTO "EventCursor" ("reader", "xid", "position")
    SELECT 'counters', c."xid", c."position" FROM "EventCursor" c WHERE c."reader" = 'fold' AND c."xid" < v_end
    ON CONFLICT ("reader") DO NOTHING;
    INSERT INTO "EventCursor" ("reader", "xid", "position") VALUES ('fold', v_end, 0)
    ON CONFLICT ("reader") DO UPDATE SET "xid" = excluded."xid", "position" = excluded."position";
END $$;
