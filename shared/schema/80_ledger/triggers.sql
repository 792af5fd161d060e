CALL ailydian_build_trigger('Job', 'kind', 'BEFORE INSERT ON ROW WHEN (NEW."queue" IS NULL OR current_user NOT IN (''ailydian_app'', ''ailydian_relay'', ''ailydian_owner'')) EXECUTE FUNCTION public.ailydian_job_kind()');
CALL ailydian_build_trigger('Job', 'accepted', 'AFTER INSERT ON public."Job" REFERENCING NEW TABLE AS accepted FOR EACH STATEMENT EXECUTE FUNCTION public.ailydian_job_accepted()');
CALL ailydian_build_trigger('Tenant', 'gone', 'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_tenant_gone()');
CALL ailydian_build_trigger('JobBatch', 'finished', 'AFTER UPDATE ON ROW WHEN (OLD."finishedAt" IS NULL AND NEW."finishedAt" IS NOT NULL) EXECUTE FUNCTION public.ailydian_batch_finished()');
