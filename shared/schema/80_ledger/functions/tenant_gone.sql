-- A tenant was deleted: delete its rows of the ledger, which have no foreign key to it.
CREATE OR REPLACE FUNCTION ailydian_tenant_gone() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "JobOutbox" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobFlight" WHERE "tenantId" = OLD."id";
    DELETE FROM "Job" WHERE "tenantId" = OLD."id";
    DELETE FROM "TenantDepth" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobEvent" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobBatch" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobHold" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobLimit" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobLimitUse" WHERE "tenantId" = OLD."id";
    DELETE FROM "Schedule" WHERE "tenantId" = OLD."id";
    DELETE FROM "Upload" WHERE "tenantId" = OLD."id";
    DELETE FROM "LiveModel" WHERE "tenantId" = OLD."id";
    DELETE FROM "ProbeEntry" WHERE "tenantId" = OLD."id";
    RETURN OLD;
END $$;
