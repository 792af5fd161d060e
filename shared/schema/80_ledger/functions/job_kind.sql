-- Set the queue of a job from its contract; an unknown job is refused, and one that is not for
-- publishers. An INSERT that names the queue is one of our processes', or may do as they do.
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
    NEW."queue" := v_kind."queue";
    NEW."attemptsMax" := v_kind."attemptsMax";
    RETURN NEW;
END $$;
