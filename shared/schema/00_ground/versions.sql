-- The version of a new database. An existing one is upgraded by `ailydian migrate` alone.
INSERT INTO "SchemaMigration" ("version", "sha256")
SELECT split_part(applied, ' ', 1), split_part(applied, ' ', 2)
FROM unnest('{/* applied */}'::text[]) AS applied
WHERE current_setting('ailydian.is_new')::boolean;

RESET ailydian.is_new;
