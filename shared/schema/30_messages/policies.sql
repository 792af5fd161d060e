CALL ailydian_build_security('Conversation');
CALL ailydian_build_security('Message');
CALL ailydian_build_security('ConversationMetadata');
CALL ailydian_build_security('MessageEmbedding');
CALL ailydian_build_security('Feedback');
CALL ailydian_build_security('SemanticCache');
CALL ailydian_build_security('CacheSource', p_platform => false);
