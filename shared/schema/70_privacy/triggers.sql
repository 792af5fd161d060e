CALL ailydian_build_child('DSARRequest', 'userId', 'User', p_must_exist => false);
