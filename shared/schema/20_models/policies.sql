CALL ailydian_build_security('AIProvider', 'SELECT', 'true');
CALL ailydian_build_security('AIModel', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('RoutingScore', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('BanditArm', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('ModelUse', '', 'false', of_platform => false);
CALL ailydian_build_security('TenantArm', of_platform => false);
CALL ailydian_build_security('ArmReward', of_platform => false);
CALL ailydian_build_security('ProviderHealth', 'SELECT, INSERT, UPDATE', 'true', of_platform => false);
