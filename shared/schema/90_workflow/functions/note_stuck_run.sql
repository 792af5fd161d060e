-- Incidents of stuck runs, and how many runs there are: the relay's role has no sight of the rows.
CREATE OR REPLACE FUNCTION ailydian_note_stuck_run(p_run_id TEXT, p_tenant_id TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO public."Incident" ("id", "title", "description", "severity", "status", "tenantId")
    VALUES ('stuck-run:' || p_run_id, 'A workflow run is stuck: ' || p_run_id,
            'Nothing carries it and nothing is left to begin. Look at it with `ailydian workflow '
            'show`, then retry it from a step or cancel it.', 'HIGH', 'OPEN', p_tenant_id)
    ON CONFLICT ("id") DO NOTHING;
    RETURN FOUND;
END $$;
CALL ailydian_build_rights('ailydian_note_stuck_run', 'ailydian_relay');
