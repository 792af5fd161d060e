CALL ailydian_build_security('Document');
CALL ailydian_build_security('DocumentChunk');
CALL ailydian_build_security('ChunkEmbedding');
CALL ailydian_build_security('ChunkVector', of_platform => false);
CALL ailydian_build_security('ChunkText', of_platform => false);
CALL ailydian_build_security('LiveModel', of_platform => false);
CALL ailydian_build_security('Upload', 'SELECT, INSERT, DELETE', of_platform => false);
