CALL ailydian_build_security('Document');
CALL ailydian_build_security('DocumentChunk');
CALL ailydian_build_security('ChunkEmbedding');
CALL ailydian_build_security('ChunkVector', p_platform => false);
CALL ailydian_build_security('ChunkText', p_platform => false);
CALL ailydian_build_security('LiveModel', p_platform => false);
CALL ailydian_build_security('Upload', 'SELECT, INSERT, DELETE', p_platform => false);
