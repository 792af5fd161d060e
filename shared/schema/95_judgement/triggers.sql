CALL ailydian_build_child('QualityScore', 'messageId', 'Message');
CALL ailydian_build_child('Provenance', 'messageId', 'Message');
CALL ailydian_build_child('ExplainabilityLog', 'messageId', 'Message', p_must_exist => false);

CALL ailydian_build_touch('TrustScore');
CALL ailydian_build_child('TrustScore', 'userId', 'User', p_must_exist => false);
CALL ailydian_build_trigger('ModerationResult', 'tenant',
    'BEFORE INSERT OR UPDATE OF "contentId", "contentType", "tenantId" ON ROW '
    'EXECUTE FUNCTION public.ailydian_tenant_of_moderationresult()');

CALL ailydian_build_trigger('Document', 'move_moderationresult',
    'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
    'EXECUTE FUNCTION public.ailydian_move_moderationresult()');
CALL ailydian_build_trigger('Message', 'move_moderationresult',
    'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
    'EXECUTE FUNCTION public.ailydian_move_moderationresult()');
CALL ailydian_build_trigger('Feedback', 'move_moderationresult',
    'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
    'EXECUTE FUNCTION public.ailydian_move_moderationresult()');
CALL ailydian_build_trigger('Tenant', 'judgement_gone',
    'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_judgement_gone()');
