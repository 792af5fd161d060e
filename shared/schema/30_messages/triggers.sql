CALL ailydian_build_touch('Conversation', ' OF "id", "userId", "title", "createdAt", "updatedAt", "tenantId"');
CALL ailydian_build_child('Conversation', 'userId', 'User');
CALL ailydian_build_child('Message', 'conversationId', 'Conversation');
CALL ailydian_build_child('ConversationMetadata', 'conversationId', 'Conversation');
CALL ailydian_build_child('MessageEmbedding', 'messageId', 'Message');
CALL ailydian_build_child('Feedback', 'messageId', 'Message', p_must_exist => false);
