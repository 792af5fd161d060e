CALL ailydian_build_touch('Tenant');
CALL ailydian_build_touch('User');
CALL ailydian_build_touch('UserPreference');
CALL ailydian_build_child('Session', 'userId', 'User');
CALL ailydian_build_child('UserPreference', 'userId', 'User');
CALL ailydian_build_trigger('ApiKey', 'user_in_sight',
    'BEFORE INSERT OR UPDATE OF "userId" ON ROW EXECUTE FUNCTION public.ailydian_user_in_sight()');
