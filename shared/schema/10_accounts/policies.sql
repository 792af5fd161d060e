-- A tenant sees its own row and changes nothing in it; the relay knows all tenants by name.
CALL ailydian_build_security('Tenant', 'SELECT',
    '"id" = (SELECT nullif(current_setting(''app.tenant_id'', true), ''''))');
CALL ailydian_build_policy('Tenant', 'ailydian_relay', 'true');
CALL ailydian_build_security('User');
CALL ailydian_build_security('Session');
CALL ailydian_build_security('ApiKey');
CALL ailydian_build_security('RevokedKey', '', 'false', p_platform => false);
CALL ailydian_build_security('RequestRule', '', 'false', p_platform => false);
CALL ailydian_build_security('RequestBucket', '', 'false', p_platform => false);
CALL ailydian_build_security('SessionState', '', 'false', p_platform => false);
CALL ailydian_build_security('LoginLink', '', 'false', p_platform => false);
CALL ailydian_build_security('UserPreference');
CALL ailydian_build_grant('Tenant', 'ailydian_relay', 'SELECT ("id", "slug", "tier")');
