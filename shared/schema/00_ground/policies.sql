CALL ailydian_build_security('SchemaMigration', '', 'false', p_platform => false);
