CALL ailydian_build_child('DSARRequest', 'userId', 'User', must_exist => false);
