-- The platform's changes. SECURITY DEFINER, because its role has no right on our tables.
CREATE OR REPLACE FUNCTION public.ailydian_note_change() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO public."PlatformChange" ("tenantId", "tableName", "rowId", "operation")
    VALUES (NEW."tenantId", TG_TABLE_NAME, NEW."id", TG_OP);
    RETURN NULL;
END $$;
