CALL ailydian_build_security('SchemaMigration', '', 'false', of_platform => false);
