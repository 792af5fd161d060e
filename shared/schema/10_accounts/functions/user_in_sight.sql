-- An API key names its tenant itself, so only its user is checked: it must be visible.
CREATE OR REPLACE FUNCTION public.ailydian_user_in_sight() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM public."User" WHERE "id" = NEW."userId";
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'insert or update on table "ApiKey" violates foreign key constraint '
                      '"ApiKey_userId_fkey"',
            DETAIL = format('Key (userId)=(%s) is not present in table "User".', NEW."userId"),
            SCHEMA = 'public', TABLE = 'ApiKey', CONSTRAINT = 'ApiKey_userId_fkey';
    END IF;
    RETURN NEW;
END $$;
