-- A publisher who names no queue gets the contract's, or a refusal that names the job.
CREATE OR REPLACE FUNCTION ailydian_job_kind() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kind "JobKind";
BEGIN
    SELECT * INTO kind FROM "JobKind" k WHERE k."job" = NEW."job";
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown_job: no contract is named %', NEW."job" USING ERRCODE = 'AL002';
    END IF;
    NEW."queue" := kind."queue";
    NEW."attemptsMax" := kind."attemptsMax";
    RETURN NEW;
END $$;
