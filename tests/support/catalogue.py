"""What a database is, by names: two that were made in different ways can be compared."""

import psycopg

# Everything of ours in the schema `public`, without object ids; what an extension made is left out.
FACTS = """
    WITH ours AS (
        SELECT oid, relname AS name, relkind FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.objid = pg_class.oid AND d.deptype = 'e')
    ), acls AS (
        SELECT classid, objid, objsubid, string_agg(one::text, ' ' ORDER BY one::text) AS acl
        FROM (
            SELECT 'pg_class'::regclass AS classid, oid AS objid, 0 AS objsubid,
                   unnest(coalesce(relacl, acldefault('r', relowner))) AS one FROM pg_class
            UNION ALL
            SELECT 'pg_attribute'::regclass, attrelid, attnum, unnest(attacl) FROM pg_attribute
            UNION ALL
            SELECT 'pg_proc'::regclass, oid, 0, unnest(coalesce(proacl, acldefault('f', proowner)))
            FROM pg_proc
        ) a GROUP BY classid, objid, objsubid
    )
    SELECT 'table ' || o.name, concat_ws(' | ', c.relkind, c.relowner::regrole, a.acl,
           c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relpersistence,
           (SELECT string_agg(r, ' ' ORDER BY r) FROM unnest(c.reloptions) r))
    FROM ours o JOIN pg_class c USING (oid)
    LEFT JOIN acls a ON a.classid = 'pg_class'::regclass AND a.objid = o.oid
    UNION ALL
    SELECT 'column ' || o.name || '.' || t.attname, concat_ws(' | ',
           row_number() OVER (PARTITION BY o.oid ORDER BY t.attnum),
           format_type(t.atttypid, t.atttypmod), t.attnotnull, pg_get_expr(d.adbin, d.adrelid),
           t.attidentity, t.attgenerated, t.attstorage, t.attcompression,
           t.attcollation::regcollation, t.attoptions, a.acl)
    FROM ours o JOIN pg_attribute t ON t.attrelid = o.oid AND t.attnum > 0 AND NOT t.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = t.attrelid AND d.adnum = t.attnum
    LEFT JOIN acls a ON a.classid = 'pg_attribute'::regclass AND a.objid = o.oid
        AND a.objsubid = t.attnum
    UNION ALL
    SELECT 'index ' || o.name, concat_ws(' | ', pg_get_indexdef(i.indexrelid), i.indisvalid,
           i.indisprimary, i.indisreplident)
    FROM ours o JOIN pg_index i ON i.indexrelid = o.oid
    UNION ALL
    SELECT 'sequence ' || o.name, concat_ws(' | ', s.seqtypid::regtype, s.seqstart, s.seqincrement,
           s.seqmax, s.seqmin, s.seqcache, s.seqcycle)
    FROM ours o JOIN pg_sequence s ON s.seqrelid = o.oid
    UNION ALL
    SELECT 'constraint ' || coalesce(o.name, contypid::regtype::text) || '.' || c.conname,
           concat_ws(' | ', pg_get_constraintdef(c.oid), c.convalidated, c.condeferrable)
    FROM pg_constraint c LEFT JOIN ours o ON o.oid = c.conrelid
    WHERE c.connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'trigger ' || o.name || '.' || t.tgname,
           concat_ws(' | ', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT 'policy ' || o.name || '.' || p.polname, concat_ws(' | ', p.polcmd, p.polpermissive,
           p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid),
           pg_get_expr(p.polwithcheck, p.polrelid))
    FROM ours o JOIN pg_policy p ON p.polrelid = o.oid
    UNION ALL
    SELECT 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
           concat_ws(' | ', p.prokind, pg_get_function_arguments(p.oid),
           pg_get_function_result(p.oid), l.lanname, p.proowner::regrole, a.acl, p.prosecdef,
           p.provolatile, p.proparallel, p.proisstrict, p.proleakproof, p.procost, p.prorows,
           p.proconfig, p.prosrc)
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    LEFT JOIN acls a ON a.classid = 'pg_proc'::regclass AND a.objid = p.oid
    WHERE p.pronamespace = 'public'::regnamespace AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'type ' || t.typname, concat_ws(' | ', t.typtype, t.typowner::regrole,
           format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
           (SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum e
            WHERE e.enumtypid = t.oid))
    FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('d', 'e')
    UNION ALL
    SELECT 'comment ' || i.type || ' ' || i.identity, d.description
    FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
    WHERE i.identity LIKE '%public.%' AND NOT EXISTS (
        SELECT FROM pg_depend e WHERE e.objid = d.objoid AND e.deptype = 'e')
    UNION ALL
    SELECT concat_ws(' ', 'default rights', d.defaclrole::regrole, d.defaclobjtype),
           concat_ws(' | ', d.defaclnamespace, (SELECT string_agg(x::text, ' ' ORDER BY x::text)
                               FROM unnest(d.defaclacl) x))
    FROM pg_default_acl d
    UNION ALL
    SELECT 'statistics ' || s.stxname, pg_get_statisticsobjdef(s.oid)
    FROM pg_statistic_ext s WHERE s.stxnamespace = 'public'::regnamespace
"""


def facts(conn: psycopg.Connection) -> dict[str, str]:
    """Each object by its kind and name, with all that is known of it in one line."""
    with conn.transaction():
        conn.execute("SET LOCAL search_path = pg_catalog")
        return dict(conn.execute(FACTS).fetchall())


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """What differs, each with both of its sides."""
    return [
        f"{name}:\n  {one.get(name)}\n  {other.get(name)}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
