CALL ailydian_build_security('EncryptionKey');
CALL ailydian_build_security('DSARRequest');
