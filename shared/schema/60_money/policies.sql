CALL ailydian_build_security('Budget');
CALL ailydian_build_security('Wallet');
CALL ailydian_build_security('WalletTransaction', 'SELECT, INSERT');
