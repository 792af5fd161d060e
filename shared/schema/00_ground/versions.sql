-- Which version a new database has. One that was here before is brought on by `ailydian migrate` alone.
INSERT INTO "SchemaMigration" ("version", "sha256")
SELECT split_part(applied, ' ', 1), split_part(applied, ' ', 2)
FROM unnest('{/* applied */}'::text[]) AS applied
WHERE current_setting('ailydian.is_new')::boolean;

RESET ailydian.is_new;
