-- Payloads that Python could not read, or would read as another number, are refused when they are
-- written. NOT VALID: no table is read through, and a stored one is read as its text.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'JobPayload_depth_check') THEN
        ALTER DOMAIN "JobPayload" ADD CONSTRAINT "JobPayload_depth_check"
            CHECK (NOT VALUE @? 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")')
            NOT VALID;
        ALTER DOMAIN "JobPayload" ADD CONSTRAINT "JobPayload_number_check"
            CHECK (NOT VALUE @? 'strict $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308
                || @ > 0 && @ < 4e-324 || @ < 0 && @ > -4e-324))')
            NOT VALID;
    END IF;
END $$;
