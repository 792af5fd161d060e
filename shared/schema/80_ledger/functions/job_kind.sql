-- Set the queue of a job from its contract; an unknown job is refused, one that is not for publishers, and an
-- entry of the audit log in the name of one of ours: the names of RESERVED_ACTORS in shared/contracts.py. An
-- INSERT that names the queue, in a role of our processes, is theirs, or may do as they do.
CREATE OR REPLACE FUNCTION ailydian_job_kind() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_kind "JobKind";
BEGIN
    SELECT * INTO v_kind FROM "JobKind" k WHERE k."job" = NEW."job";
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown_job: no contract is named %', public.ailydian_visible(NEW."job")
            USING ERRCODE = 'AL002';
    END IF;
    IF v_kind."audience" <> 'anyone' THEN
        RAISE EXCEPTION 'publisher_refused: % is not for publishers: audience %', NEW."job",
            v_kind."audience" USING ERRCODE = 'AL010';
    END IF;
    -- Whatever form the name is written in: wide letters, capitals, with spaces or marks that nobody sees.
    IF NEW."job" = 'append_audit' AND regexp_replace(
        lower(split_part(normalize(NEW."payload" ->> 'actor', NFKC), ':', 1) COLLATE "C"), '[^!-~]', '', 'g'
    ) IN ('cli', 'door', 'key', 'operator', 'platform', 'relay', 'schedule', 'scheduler', 'service',
          'system', 'user', 'worker', 'workflow') THEN
        RAISE EXCEPTION 'publisher_refused: append_audit: the actor % is one of ours',
            public.ailydian_visible(to_json(NEW."payload" ->> 'actor')::text) USING ERRCODE = 'AL010';
    END IF;
    NEW."queue" := v_kind."queue";
    NEW."attemptsMax" := v_kind."attemptsMax";
    RETURN NEW;
END $$;
