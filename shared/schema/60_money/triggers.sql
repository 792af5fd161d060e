CALL ailydian_build_touch('Wallet');
CALL ailydian_build_child('Wallet', 'userId', 'User');
CALL ailydian_build_child('WalletTransaction', 'walletId', 'Wallet');
