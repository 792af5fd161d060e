CALL ailydian_build_touch('CRDTState');
CALL ailydian_build_trigger('Incident', 'begins',
    'BEFORE INSERT ON ROW EXECUTE FUNCTION public.ailydian_incident_begins()');
CALL ailydian_build_trigger('Incident', 'noticed',
    'AFTER INSERT OR UPDATE ON ROW EXECUTE FUNCTION public.ailydian_incident_noticed()');

-- Asked first in every WHEN: our own writers pay for one comparison of names, no more.
DO $$
DECLARE
    v_not_ours constant text :=
        $w$current_user NOT IN ('ailydian_app', 'ailydian_owner', 'ailydian_relay')$w$;
    v_watched record;
BEGIN
    FOR v_watched IN SELECT * FROM (VALUES
        ('Document', 'OLD."content" IS DISTINCT FROM NEW."content" '
                     'OR OLD."title" IS DISTINCT FROM NEW."title"'),
        ('Message', 'OLD."content" IS DISTINCT FROM NEW."content"'),
        ('Feedback', 'OLD."rating" IS DISTINCT FROM NEW."rating" '
                     'OR OLD."comment" IS DISTINCT FROM NEW."comment"')
    ) AS tables(name, changed) LOOP
        CALL ailydian_build_trigger(v_watched.name, 'note_insert', format(
            'AFTER INSERT ON ROW WHEN (%s AND NEW."tenantId" IS NOT NULL) '
            'EXECUTE FUNCTION public.ailydian_note_change()', v_not_ours));
        CALL ailydian_build_trigger(v_watched.name, 'note_update', format(
            'AFTER UPDATE ON ROW WHEN (NEW."tenantId" IS NOT NULL '
            'AND (OLD."tenantId" IS DISTINCT FROM NEW."tenantId" OR (%s AND (%s)))) '
            'EXECUTE FUNCTION public.ailydian_note_change()', v_not_ours, v_watched.changed));
    END LOOP;
END $$;
