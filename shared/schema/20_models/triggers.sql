CALL ailydian_build_touch('RoutingScore');
CALL ailydian_build_touch('BanditArm');
