-- "ModerationResult" names its content by kind and id; its tenant is that of the content, where
-- the kind is one of ours and the content is visible.
CREATE OR REPLACE FUNCTION public.ailydian_tenant_of_moderationresult() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_tenant_id text;
BEGIN
    CASE lower(NEW."contentType")
        WHEN 'message' THEN
            SELECT "tenantId" INTO v_tenant_id FROM public."Message" WHERE "id" = NEW."contentId";
        WHEN 'document' THEN
            SELECT "tenantId" INTO v_tenant_id FROM public."Document" WHERE "id" = NEW."contentId";
        WHEN 'feedback' THEN
            SELECT "tenantId" INTO v_tenant_id FROM public."Feedback" WHERE "id" = NEW."contentId";
        ELSE NULL;
    END CASE;
    IF v_tenant_id IS NULL THEN
        IF TG_OP = 'INSERT' THEN
            NEW."tenantId" := coalesce(NEW."tenantId",
                                       nullif(current_setting('app.tenant_id', true), ''));
        END IF;
    ELSIF NEW."tenantId" IS DISTINCT FROM v_tenant_id THEN
        IF NEW."tenantId" IS NOT NULL
           AND (TG_OP = 'INSERT' OR NEW."tenantId" IS DISTINCT FROM OLD."tenantId") THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'the tenantId sent for "ModerationResult" is not that of its content';
        END IF;
        NEW."tenantId" := v_tenant_id;
    END IF;
    RETURN NEW;
END $$;
