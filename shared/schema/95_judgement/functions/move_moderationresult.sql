-- Content has changed its tenant: its verdicts follow.
CREATE OR REPLACE FUNCTION public.ailydian_move_moderationresult() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE public."ModerationResult" SET "tenantId" = NEW."tenantId"
    WHERE "contentId" = NEW."id" AND lower("contentType") = lower(TG_TABLE_NAME)
      AND "tenantId" IS DISTINCT FROM NEW."tenantId";
    RETURN NULL;
END $$;
