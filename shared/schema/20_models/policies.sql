CALL ailydian_build_security('AIProvider', 'SELECT', 'true');
CALL ailydian_build_security('AIModel', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('RoutingScore', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('BanditArm', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('ModelUse', '', 'false', p_platform => false);
CALL ailydian_build_security('TenantArm', p_platform => false);
CALL ailydian_build_security('ArmReward', p_platform => false);
CALL ailydian_build_security('ProviderHealth', 'SELECT, INSERT, UPDATE', 'true', p_platform => false);
