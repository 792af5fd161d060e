-- A tenant was deleted: delete its rows of judgement, which have no foreign key to it.
CREATE OR REPLACE FUNCTION ailydian_judgement_gone() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "ModerationPolicy" WHERE "tenantId" = OLD."id";
    DELETE FROM "ModerationAppeal" WHERE "tenantId" = OLD."id";
    DELETE FROM "TrustEvent" WHERE "tenantId" = OLD."id";
    DELETE FROM "QualityCalibration" WHERE "tenantId" = OLD."id";
    DELETE FROM "TenantArm" WHERE "tenantId" = OLD."id";
    DELETE FROM "ArmReward" WHERE "tenantId" = OLD."id";
    DELETE FROM "CacheSource" WHERE "tenantId" = OLD."id";
    DELETE FROM "SemanticCache" WHERE "tenantId" = OLD."id";
    DELETE FROM "TrainingExample" WHERE "tenantId" = OLD."id";
    DELETE FROM "Incident" WHERE "tenantId" = OLD."id";
    DELETE FROM "IncidentNotice" WHERE "tenantId" = OLD."id";
    RETURN OLD;
END $$;
