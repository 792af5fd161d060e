-- Tools of this file, dropped at its end. Each looks first, so that a second run locks nothing.

CREATE OR REPLACE PROCEDURE ailydian_build_index(of_table text, VARIADIC of_columns text[])
LANGUAGE plpgsql AS $$
DECLARE
    index_name text := of_table || '_' || array_to_string(of_columns, '_') || '_idx';
BEGIN
    IF to_regclass(format('public.%I', index_name)) IS NULL THEN
        EXECUTE format('CREATE INDEX %I ON public.%I (%s)', index_name, of_table,
                       (SELECT string_agg(quote_ident(c), ', ') FROM unnest(of_columns) c));
    END IF;
END $$;

-- A trigger's comment is its definition: that is how a changed one is noticed.
CREATE OR REPLACE PROCEDURE ailydian_build_trigger(of_table text, called text, definition text)
LANGUAGE plpgsql AS $$
DECLARE
    statement text := replace(definition, ' ON ROW ', format(' ON public.%I FOR EACH ROW ', of_table));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = format('public.%I', of_table)::regclass AND tgname = called
                     AND tgenabled = 'O'
                     AND obj_description(oid, 'pg_trigger') = statement) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON public.%I', called, of_table);
        EXECUTE format('CREATE TRIGGER %I %s', called, statement);
        EXECUTE format('COMMENT ON TRIGGER %I ON public.%I IS %L', called, of_table, statement);
    END IF;
END $$;

-- `rule` is both what is seen and what may be written. The comment keeps what Postgres made of it,
-- so that a policy changed by hand is noticed as well.
CREATE OR REPLACE PROCEDURE ailydian_build_policy(of_table text, of_role text, rule text)
LANGUAGE plpgsql AS $$
DECLARE
    of_class regclass := format('public.%I', of_table)::regclass;
    stands boolean;
    made text;
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT obj_description(p.oid, 'pg_policy') = m.made, m.made INTO stands, made
        FROM pg_policy p CROSS JOIN LATERAL (
            SELECT format('%s, as %s', rule, md5(concat(
                p.polcmd, p.polpermissive, p.polroles::regrole[],
                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))))
        ) m(made)
        WHERE p.polrelid = of_class AND p.polname = of_role;
        EXIT WHEN stands;
        IF attempt = 1 THEN
            EXECUTE format('DROP POLICY IF EXISTS %I ON %s', of_role, of_class);
            EXECUTE format('CREATE POLICY %I ON %s TO %I USING (%s) WITH CHECK (%s)',
                           of_role, of_class, of_role, rule, rule);
        ELSE
            EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', of_role, of_class, made);
        END IF;
    END LOOP;
END $$;

-- Exactly these rights, no more: `rights` is a list such as 'SELECT, INSERT', or ''.
CREATE OR REPLACE PROCEDURE ailydian_build_grant(of_table text, of_role text, rights text)
LANGUAGE plpgsql AS $$
DECLARE
    wanted text[] := string_to_array(nullif(rights, ''), ', ');
    held text[];
BEGIN
    SELECT coalesce(array_agg(acl.privilege_type), '{}') INTO held
    FROM pg_class, aclexplode(relacl) acl
    WHERE oid = format('public.%I', of_table)::regclass AND acl.grantee = of_role::regrole;
    wanted := coalesce(wanted, '{}');
    IF NOT (held @> wanted AND held <@ wanted) THEN
        EXECUTE format('REVOKE ALL ON public.%I FROM %I', of_table, of_role);
        IF wanted <> '{}' THEN
            EXECUTE format('GRANT %s ON public.%I TO %I', rights, of_table, of_role);
        END IF;
    END IF;
END $$;

-- Who may execute a function beside its owner: these roles ('a, b'; PUBLIC is everybody), no others.
CREATE OR REPLACE PROCEDURE ailydian_build_rights(of_function text, roles text DEFAULT '')
LANGUAGE plpgsql AS $$
DECLARE
    wanted text[] := coalesce(string_to_array(nullif(roles, ''), ', '), '{}');
    held text[];
    one regprocedure;
BEGIN
    FOR one IN SELECT oid FROM pg_proc
               WHERE pronamespace = 'public'::regnamespace AND proname = of_function LOOP
        SELECT coalesce(array_agg(CASE acl.grantee WHEN 0 THEN 'PUBLIC'
                                  ELSE acl.grantee::regrole::text END), '{}') INTO held
        FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
        WHERE p.oid = one AND acl.grantee <> p.proowner;
        IF NOT (held @> wanted AND held <@ wanted) THEN
            IF held <> '{}' THEN
                EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', one, array_to_string(held, ', '));
            END IF;
            IF wanted <> '{}' THEN
                EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', one, roles);
            END IF;
        END IF;
    END LOOP;
END $$;

-- Row level security of one table. The owner's policy lets maintenance and the SECURITY DEFINER
-- functions see rows at all: FORCE binds the owner too. current_setting stands in a sub-select, so
-- it is read once a statement; a committed setting comes back as '', which is nobody's tenant.
CREATE OR REPLACE PROCEDURE ailydian_build_security(
    of_table text,
    app_rights text DEFAULT 'SELECT, INSERT, UPDATE, DELETE',
    app_rule text DEFAULT '"tenantId" = (SELECT nullif(current_setting(''app.tenant_id'', true), ''''))',
    of_platform boolean DEFAULT true
) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class
            WHERE oid = format('public.%I', of_table)::regclass) THEN
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', of_table);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', of_table);
    END IF;
    CALL ailydian_build_policy(of_table, 'ailydian_owner', 'true');
    CALL ailydian_build_policy(of_table, 'ailydian_app', app_rule);
    CALL ailydian_build_grant(of_table, 'ailydian_app', app_rights);
    IF of_platform THEN
        CALL ailydian_build_policy(of_table, 'ailydian_platform', 'true');
        CALL ailydian_build_grant(of_table, 'ailydian_platform', 'SELECT, INSERT, UPDATE, DELETE');
    END IF;
END $$;

CREATE OR REPLACE PROCEDURE ailydian_build_touch(of_table text, of_columns text DEFAULT '')
LANGUAGE plpgsql AS $$
BEGIN
    CALL ailydian_build_trigger(of_table, 'touch', format(
        'BEFORE UPDATE%s ON ROW WHEN (NEW."updatedAt" = OLD."updatedAt") '
        'EXECUTE FUNCTION public.ailydian_touch()', of_columns));
END $$;

-- "tenantId" of a child: ALWAYS the parent's, whatever was sent. A parent of another tenant is as
-- good as missing: both give the same foreign key error, and no row can be hung onto another
-- tenant's. SECURITY DEFINER for the plan of this look-up, which every chunk pays: under the
-- tenant's policy the planner, without statistics, would as soon read all the tenant's parents as
-- take the primary key; under the owner's it has nothing else, and the tenant is compared after. A parent that changes its
-- tenant takes its children along. Where the platform keeps no foreign key (must_exist false) the
-- parent may be missing; the row then belongs to the session's tenant, or to nobody.
CREATE OR REPLACE PROCEDURE ailydian_build_child(
    child text, child_column text, parent text, must_exist boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
    tenant_of text := 'ailydian_tenant_of_' || lower(child);
    move text := 'ailydian_move_' || lower(child);
BEGIN
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $b$
        DECLARE
            found_tenant text;
            seen boolean;
        BEGIN
            SELECT "tenantId" INTO found_tenant FROM public.%3$I WHERE "id" = NEW.%4$I;
            seen := FOUND AND (current_setting('role') <> 'ailydian_app'
                OR found_tenant = nullif(current_setting('app.tenant_id', true), ''));
            IF seen IS NOT TRUE THEN
                %5$s
            END IF;
            IF NEW."tenantId" IS DISTINCT FROM found_tenant THEN
                IF NEW."tenantId" IS NOT NULL
                   AND (TG_OP = 'INSERT' OR NEW."tenantId" IS DISTINCT FROM OLD."tenantId") THEN
                    RAISE insufficient_privilege USING
                        MESSAGE = 'the tenantId sent for "%2$s" is not that of its "%3$s"';
                END IF;
                NEW."tenantId" := found_tenant;
            END IF;
            RETURN NEW;
        END $b$
    $f$, tenant_of, child, parent, child_column, CASE WHEN must_exist THEN format($f$
                RAISE foreign_key_violation USING
                    MESSAGE = 'insert or update on table "%1$s" violates foreign key constraint '
                              '"%1$s_%2$s_fkey"',
                    DETAIL = format('Key (%2$s)=(%%s) is not present in table "%3$s".', NEW.%2$I),
                    SCHEMA = 'public', TABLE = '%1$s', CONSTRAINT = '%1$s_%2$s_fkey';
    $f$, child, child_column, parent) ELSE $f$
                IF TG_OP = 'INSERT' THEN
                    NEW."tenantId" := coalesce(NEW."tenantId",
                                               nullif(current_setting('app.tenant_id', true), ''));
                END IF;
                RETURN NEW;
    $f$ END);
    CALL ailydian_build_trigger(child, 'tenant', format(
        'BEFORE INSERT OR UPDATE OF %I, "tenantId" ON ROW EXECUTE FUNCTION public.%I()',
        child_column, tenant_of));
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, public, pg_temp AS $b$
        BEGIN
            UPDATE public.%2$I SET "tenantId" = NEW."tenantId"
            WHERE %3$I = NEW."id" AND "tenantId" IS DISTINCT FROM NEW."tenantId";
            RETURN NULL;
        END $b$
    $f$, move, child, child_column);
    -- AFTER UPDATE of anything: UPDATE OF would miss a tenant that a BEFORE trigger has changed.
    CALL ailydian_build_trigger(parent, 'move_' || lower(child), format(
        'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
        'EXECUTE FUNCTION public.%I()', move));
END $$;
