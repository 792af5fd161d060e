CALL ailydian_build_security('QualityScore');
CALL ailydian_build_security('Provenance');
CALL ailydian_build_security('ExplainabilityLog');
CALL ailydian_build_security('ModerationResult');
CALL ailydian_build_security('TrainingExample');
CALL ailydian_build_security('TrustScore');

CALL ailydian_build_security('ModerationPolicy', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('ModerationAppeal', 'SELECT, INSERT, UPDATE', p_platform => false);
CALL ailydian_build_security('TrustEvent', p_platform => false);
CALL ailydian_build_security('QualityCalibration', 'SELECT, INSERT', p_platform => false);
