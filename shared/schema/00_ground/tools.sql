-- Tools of this file, dropped at its end. Each looks first, so that a second run locks nothing.

CREATE OR REPLACE PROCEDURE ailydian_build_index(p_table text, VARIADIC p_columns text[])
LANGUAGE plpgsql AS $$
DECLARE
    v_index_name text := p_table || '_' || array_to_string(p_columns, '_') || '_idx';
BEGIN
    IF to_regclass(format('public.%I', v_index_name)) IS NULL THEN
        EXECUTE format('CREATE INDEX %I ON public.%I (%s)', v_index_name, p_table,
                       (SELECT string_agg(quote_ident(c), ', ') FROM unnest(p_columns) c));
    END IF;
END $$;

-- A trigger's comment is its definition: that is how a changed one is noticed.
CREATE OR REPLACE PROCEDURE ailydian_build_trigger(p_table text, p_name text, p_definition text)
LANGUAGE plpgsql AS $$
DECLARE
    v_statement text := replace(p_definition, ' ON ROW ', format(' ON public.%I FOR EACH ROW ', p_table));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = format('public.%I', p_table)::regclass AND tgname = p_name
                     AND tgenabled = 'O'
                     AND obj_description(oid, 'pg_trigger') = v_statement) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON public.%I', p_name, p_table);
        EXECUTE format('CREATE TRIGGER %I %s', p_name, v_statement);
        EXECUTE format('COMMENT ON TRIGGER %I ON public.%I IS %L', p_name, p_table, v_statement);
    END IF;
END $$;

-- `p_rule` is both what is seen and what may be written. The comment keeps what Postgres made of it,
-- so that a policy changed by hand is noticed as well.
CREATE OR REPLACE PROCEDURE ailydian_build_policy(p_table text, p_role text, p_rule text)
LANGUAGE plpgsql AS $$
DECLARE
    v_class regclass := format('public.%I', p_table)::regclass;
    v_stands boolean;
    v_made text;
BEGIN
    FOR v_attempt IN 1..2 LOOP
        SELECT obj_description(p.oid, 'pg_policy') = m.made, m.made INTO v_stands, v_made
        FROM pg_policy p CROSS JOIN LATERAL (
            SELECT format('%s, as %s', p_rule, md5(concat(
                p.polcmd, p.polpermissive, p.polroles::regrole[],
                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))))
        ) m(made)
        WHERE p.polrelid = v_class AND p.polname = p_role;
        EXIT WHEN v_stands;
        IF v_attempt = 1 THEN
            EXECUTE format('DROP POLICY IF EXISTS %I ON %s', p_role, v_class);
            EXECUTE format('CREATE POLICY %I ON %s TO %I USING (%s) WITH CHECK (%s)',
                           p_role, v_class, p_role, p_rule, p_rule);
        ELSE
            EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', p_role, v_class, v_made);
        END IF;
    END LOOP;
END $$;

-- Exactly these rights, no more: `p_rights` is a list such as 'SELECT, INSERT ("id", "name")', or ''.
CREATE OR REPLACE PROCEDURE ailydian_build_grant(p_table text, p_role text, p_rights text)
LANGUAGE plpgsql AS $$
DECLARE
    v_class regclass := format('public.%I', p_table)::regclass;
    v_wanted text[];
    v_held text[];
BEGIN
    -- A right on a column is written as VERB.column.
    SELECT coalesce(array_agg(concat(r[1], '.' || c)), '{}') INTO v_wanted
    FROM regexp_matches(p_rights, '([A-Z]+)(?: \(([^)]*)\))?', 'g') AS r
    LEFT JOIN LATERAL unnest(parse_ident(replace(r[2], ', ', '.'))) AS c ON true;
    SELECT coalesce(array_agg(a.held), '{}') INTO v_held FROM (
        SELECT acl.privilege_type, acl.grantee FROM pg_class, aclexplode(relacl) acl
        WHERE oid = v_class
        UNION ALL
        SELECT acl.privilege_type || '.' || attname, acl.grantee
        FROM pg_attribute, aclexplode(attacl) acl WHERE attrelid = v_class
    ) AS a(held, grantee) WHERE a.grantee = p_role::regrole;
    IF NOT (v_held @> v_wanted AND v_held <@ v_wanted) THEN
        EXECUTE format('REVOKE ALL ON public.%I FROM %I', p_table, p_role);
        IF v_wanted <> '{}' THEN
            EXECUTE format('GRANT %s ON public.%I TO %I', p_rights, p_table, p_role);
        END IF;
    END IF;
END $$;

-- Grant EXECUTE on a function to these roles only ('a, b'; PUBLIC is everybody), beside its owner.
CREATE OR REPLACE PROCEDURE ailydian_build_rights(p_function text, p_roles text DEFAULT '')
LANGUAGE plpgsql AS $$
DECLARE
    v_wanted text[] := coalesce(string_to_array(nullif(p_roles, ''), ', '), '{}');
    v_held text[];
    v_one regprocedure;
BEGIN
    FOR v_one IN SELECT oid FROM pg_proc
               WHERE pronamespace = 'public'::regnamespace AND proname = p_function LOOP
        SELECT coalesce(array_agg(CASE acl.grantee WHEN 0 THEN 'PUBLIC'
                                  ELSE acl.grantee::regrole::text END), '{}') INTO v_held
        FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
        WHERE p.oid = v_one AND acl.grantee <> p.proowner;
        IF NOT (v_held @> v_wanted AND v_held <@ v_wanted) THEN
            IF v_held <> '{}' THEN
                EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', v_one, array_to_string(v_held, ', '));
            END IF;
            IF v_wanted <> '{}' THEN
                EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', v_one, p_roles);
            END IF;
        END IF;
    END LOOP;
END $$;

-- Row level security of one table. The owner's policy lets maintenance and the SECURITY DEFINER
-- functions see rows at all: FORCE binds the owner too. current_setting stands in a sub-select, so
-- it is read once a statement; a committed setting comes back as '', which is nobody's tenant.
CREATE OR REPLACE PROCEDURE ailydian_build_security(
    p_table text,
    p_app_rights text DEFAULT 'SELECT, INSERT, UPDATE, DELETE',
    p_app_rule text DEFAULT '"tenantId" = (SELECT nullif(current_setting(''app.tenant_id'', true), ''''))',
    p_platform boolean DEFAULT true
) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class
            WHERE oid = format('public.%I', p_table)::regclass) THEN
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', p_table);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', p_table);
    END IF;
    CALL ailydian_build_policy(p_table, 'ailydian_owner', 'true');
    CALL ailydian_build_policy(p_table, 'ailydian_app', p_app_rule);
    CALL ailydian_build_grant(p_table, 'ailydian_app', p_app_rights);
    IF p_platform THEN
        CALL ailydian_build_policy(p_table, 'ailydian_platform', 'true');
        CALL ailydian_build_grant(p_table, 'ailydian_platform', 'SELECT, INSERT, UPDATE, DELETE');
    END IF;
END $$;

CREATE OR REPLACE PROCEDURE ailydian_build_touch(p_table text, p_columns text DEFAULT '')
LANGUAGE plpgsql AS $$
BEGIN
    CALL ailydian_build_trigger(p_table, 'touch', format(
        'BEFORE UPDATE%s ON ROW WHEN (NEW."updatedAt" = OLD."updatedAt") '
        'EXECUTE FUNCTION public.ailydian_touch()', p_columns));
END $$;

-- "tenantId" of a child: ALWAYS the parent's, whatever was sent. A parent of another tenant is as
-- good as missing: both give the same foreign key error, and no row can be hung onto another
-- tenant's. SECURITY DEFINER for the plan of this look-up, which every chunk pays: under the
-- tenant's policy the planner, without statistics, would as soon read all the tenant's parents as
-- take the primary key; under the owner's it has nothing else, and the tenant is compared after. A parent that changes its
-- tenant takes its children along, those too that its writer has no rights to. Where the platform keeps no foreign key (must_exist false) the
-- parent may be missing; the row then belongs to the session's tenant, or to nobody.
CREATE OR REPLACE PROCEDURE ailydian_build_child(
    p_child text, p_child_column text, p_parent text, p_must_exist boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant_of text := 'ailydian_tenant_of_' || lower(p_child);
    v_move text := 'ailydian_move_' || lower(p_child);
BEGIN
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $b$
        DECLARE
            v_tenant_id text;
            v_seen boolean;
        BEGIN
            SELECT "tenantId" INTO v_tenant_id FROM public.%3$I WHERE "id" = NEW.%4$I;
            v_seen := FOUND AND (current_setting('role') <> 'ailydian_app'
                OR v_tenant_id = nullif(current_setting('app.tenant_id', true), ''));
            IF v_seen IS NOT TRUE THEN
                %5$s
            END IF;
            IF NEW."tenantId" IS DISTINCT FROM v_tenant_id THEN
                IF NEW."tenantId" IS NOT NULL
                   AND (TG_OP = 'INSERT' OR NEW."tenantId" IS DISTINCT FROM OLD."tenantId") THEN
                    RAISE insufficient_privilege USING
                        MESSAGE = 'the tenantId sent for "%2$s" is not that of its "%3$s"';
                END IF;
                NEW."tenantId" := v_tenant_id;
            END IF;
            RETURN NEW;
        END $b$
    $f$, v_tenant_of, p_child, p_parent, p_child_column, CASE WHEN p_must_exist THEN format($f$
                RAISE foreign_key_violation USING
                    MESSAGE = 'insert or update on table "%1$s" violates foreign key constraint '
                              '"%1$s_%2$s_fkey"',
                    DETAIL = format('Key (%2$s)=(%%s) is not present in table "%3$s".', NEW.%2$I),
                    SCHEMA = 'public', TABLE = '%1$s', CONSTRAINT = '%1$s_%2$s_fkey';
    $f$, p_child, p_child_column, p_parent) ELSE $f$
                IF TG_OP = 'INSERT' THEN
                    NEW."tenantId" := coalesce(NEW."tenantId",
                                               nullif(current_setting('app.tenant_id', true), ''));
                END IF;
                RETURN NEW;
    $f$ END);
    CALL ailydian_build_trigger(p_child, 'tenant', format(
        'BEFORE INSERT OR UPDATE OF %I, "tenantId" ON ROW EXECUTE FUNCTION public.%I()',
        p_child_column, v_tenant_of));
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $b$
        BEGIN
            UPDATE public.%2$I SET "tenantId" = NEW."tenantId"
            WHERE %3$I = NEW."id" AND "tenantId" IS DISTINCT FROM NEW."tenantId";
            RETURN NULL;
        END $b$
    $f$, v_move, p_child, p_child_column);
    -- AFTER UPDATE of anything: UPDATE OF would miss a tenant that a BEFORE trigger has changed.
    CALL ailydian_build_trigger(p_parent, 'move_' || lower(p_child), format(
        'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
        'EXECUTE FUNCTION public.%I()', v_move));
END $$;
