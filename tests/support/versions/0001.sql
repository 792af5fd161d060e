-- statement: accounts.SELECT_TENANT_ID
SELECT "id" FROM "Tenant" WHERE "slug" = $1

-- statement: accounts.SELECT_SLUG
SELECT "slug" FROM "Tenant" WHERE "id" = $1

-- statement: accounts.SELECT_CURRENT_TENANT
SELECT current_setting('app.tenant_id')

-- statement: accounts.SELECT_USER_ID
SELECT "id" FROM "User" WHERE lower("email") = lower($1) OR "id" = $1
    ORDER BY "id" = $1 DESC LIMIT 1

-- statement: accounts.INSERT_TENANT
INSERT INTO "Tenant" ("slug", "name", "tier")
    VALUES ($1, coalesce($2::text, $1),
            coalesce($3::text, 'FREE')::"TenantTier")
    ON CONFLICT ("slug") DO NOTHING

-- statement: accounts.UPDATE_TENANT
UPDATE "Tenant" SET "name" = coalesce($1::text, "name"),
        "tier" = coalesce($2::text, "tier"::text)::"TenantTier"
    WHERE "slug" = $3
      AND ("name", "tier"::text) <> (coalesce($1::text, "name"),
                                     coalesce($2::text, "tier"::text))

-- statement: accounts.SELECT_TENANTS
SELECT "id", "slug", "name", "tier"::text, "createdAt" AT TIME ZONE 'UTC' FROM "Tenant"
    WHERE $1::text IS NULL OR "slug" = $1 ORDER BY "slug"

-- statement: accounts.ADOPT_USERS
UPDATE "User" SET "tenantId" = $1 WHERE "tenantId" IS NULL

-- statement: accounts.ADOPT_DOCUMENTS
UPDATE "Document" SET "tenantId" = $1 WHERE "tenantId" IS NULL

-- statement: accounts.ADOPT_WORKFLOWS
UPDATE "Workflow" SET "tenantId" = $1 WHERE "tenantId" IS NULL

-- statement: accounts.COUNT_USERS
SELECT count(*) FROM "User" WHERE "tenantId" = $1

-- statement: accounts.DELETE_DOCUMENTS
DELETE FROM "Document" WHERE "tenantId" = $1

-- statement: accounts.DELETE_WORKFLOWS
DELETE FROM "Workflow" WHERE "tenantId" = $1

-- statement: accounts.DELETE_TENANT
DELETE FROM "Tenant" t WHERE t."id" = $1
      AND NOT EXISTS (SELECT FROM "User" u WHERE u."tenantId" = t."id")

-- statement: accounts.INSERT_USER
INSERT INTO "User" ("email", "name", "passwordHash", "role", "tenantId")
    VALUES ($1, $2::text, '!', $3::text::"UserRole", $4::text)
    ON CONFLICT ("email") DO NOTHING

-- statement: accounts.SELECT_USERS
SELECT u."id", u."email", u."name", u."role"::text, t."slug", u."createdAt" AT TIME ZONE 'UTC'
    FROM "User" u LEFT JOIN "Tenant" t ON t."id" = u."tenantId"
    WHERE ($1::text IS NULL OR u."email" = $1)
      AND ($2::text IS NULL OR u."tenantId" = $2)
    ORDER BY u."createdAt" DESC, u."id" DESC LIMIT $3

-- statement: attempts.COMPLETE
WITH held AS (
        SELECT j."id" FROM unnest($1::text[], $2::bigint[]) AS m("id", "fence")
        JOIN "Job" j ON j."id" = m."id"
        WHERE j."fence" = m."fence" AND j."state" = 'RUNNING'
        ORDER BY j."id" FOR UPDATE OF j
    ), landed AS (
        DELETE FROM "JobFlight" f USING held WHERE f."jobId" = held."id"
    ), done AS (
        UPDATE "Job" j
        SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(), "leaseUntil" = NULL,
            "error" = NULL
        FROM held WHERE j."id" = held."id" RETURNING j.*
    )
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                "waitedS", "tookS")
    SELECT "tenantId", "id", "job", "queue", 'COMPLETED', "batchId",
           extract(epoch FROM "startedAt" - "dueAt"),
           extract(epoch FROM "finishedAt" - "startedAt") FROM done

-- statement: attempts.GIVE_BACK
WITH freed AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "attempt" = j."attempt" - 1, "leaseUntil" = NULL, "worker" = NULL
        FROM unnest($1::text[], $2::bigint[]) AS m("id", "fence")
        WHERE j."id" = m."id" AND j."fence" = m."fence" AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING freed WHERE f."jobId" = freed."id"
    ), waiting AS (
        INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt",
                                 "jobId", "attempt", "cost")
        SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "id", "attempt",
               "cost" FROM freed
    )
    SELECT count(*), pg_notify('ailydian_outbox', '') FROM freed

-- statement: attempts.RETRY
WITH ended AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "waitingFor" = $1, "leaseUntil" = NULL,
            "dueAt" = CASE WHEN $2 = 'crashed' THEN j."dueAt"
                ELSE now() + $3::float8 * interval '1 second' END, "error" = $4,
            "crashes" = j."crashes" + $5::bool::int,
            "attempt" = j."attempt" - ($6::bool)::int
        WHERE j."id" = $7 AND j."fence" = $8 AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended WHERE f."jobId" = ended."id"
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error", "traceback", "fingerprint",
                                  "signal", "exitCode", "peakBytes", "stepId")
        SELECT "tenantId", "id", "fence", "attempt" + ($6::bool)::int, "worker",
               "startedAt", $2, $9, $4, $10,
               $11, $12, $13, $14, "stepId" FROM ended e
        WHERE NOT $6::bool OR NOT EXISTS (
            SELECT FROM "JobAttempt" a WHERE a."jobId" = e."id" AND a."attempt" = e."attempt" + 1
              AND a."verdict" = $2)
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                "waitedS", "tookS")
        SELECT "tenantId", "id", "job", "queue", 'RETRY', "batchId", NULL,
               extract(epoch FROM clock_timestamp() - "startedAt") FROM ended
    )
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "id", "attempt", "cost"
    FROM ended

-- statement: attempts.BURY
WITH ended AS (
        UPDATE "Job" j
        SET "state" = 'DEAD', "leaseUntil" = NULL, "finishedAt" = clock_timestamp(),
            "waitingFor" = NULL, "error" = $1,
            "crashes" = j."crashes" + $2::bool::int
        WHERE j."id" = $3 AND j."fence" = $4 AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended WHERE f."jobId" = ended."id"
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error", "traceback", "fingerprint",
                                  "signal", "exitCode", "peakBytes", "stepId")
        SELECT "tenantId", "id", "fence", "attempt", "worker", "startedAt", $5,
               $6, $1, $7, $8, $9,
               $10, $11, "stepId" FROM ended
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                "waitedS", "tookS")
        SELECT "tenantId", "id", "job", "queue", 'DEAD', "batchId", NULL,
               extract(epoch FROM "finishedAt" - "startedAt") FROM ended
    )
    INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason", "error",
                              "fingerprint")
    SELECT "tenantId", "id", "job", "queue", "attempt", $12, $1, $8
    FROM ended
    ON CONFLICT ("tenantId", "jobId") DO UPDATE
    SET "attempts" = excluded."attempts", "reason" = excluded."reason", "error" = excluded."error",
        "fingerprint" = excluded."fingerprint", "diedAt" = excluded."diedAt"

-- statement: attempts.SELECT_HISTORY
SELECT "attempt", "verdict", "errorType", "error", "worker", "startedAt", "endedAt",
           extract(epoch FROM "endedAt" - "startedAt")::float8, "signal", "exitCode", "peakBytes",
           "fingerprint", "traceback"
    FROM "JobAttempt" WHERE "jobId" = $1 ORDER BY "fence" LIMIT $2

-- statement: audit_logs.INSERT_ACTS
INSERT INTO "AuditLog" ("tenantId", "userId", "action", "resource", "resourceId", "metadata",
                            "ipAddress", "userAgent")
    SELECT a."tenantId", a."actor", a."action", a."resource", a."resourceId", a."metadata",
           a."ipAddress", a."userAgent"
    FROM unnest($1::text[], $2::text[], $3::text[],
                $4::text[], $5::text[], $6::jsonb[],
                $7::text[], $8::text[])
         AS a("tenantId", "actor", "action", "resource", "resourceId", "metadata", "ipAddress",
              "userAgent")

-- statement: audit_logs.SELECT_LATEST
SELECT a."id", a."createdAt", a."userId", a."action", a."resource", a."resourceId",
           a."metadata"
    FROM "AuditLog" a WHERE a."tenantId" = $1::text
    ORDER BY a."createdAt" DESC, a."id" DESC LIMIT $2

-- statement: audit_logs.SELECT_LATEST_OF_SYSTEM
SELECT a."id", a."createdAt", a."userId", a."action", a."resource", a."resourceId",
           a."metadata"
    FROM "AuditLog" a WHERE a."tenantId" IS NULL
    ORDER BY a."createdAt" DESC, a."id" DESC LIMIT $1

-- statement: batches.INSERT_BATCH
INSERT INTO "JobBatch" ("id", "name", "thenJob", "thenPayload")
    VALUES (coalesce($1::text, ailydian_new_id()), $2, $3::text,
            $4::jsonb)
    ON CONFLICT ("tenantId", "id") DO NOTHING RETURNING "id"

-- statement: batches.SELECT_KIND
SELECT EXISTS (SELECT FROM "JobKind" WHERE "job" = $1)

-- statement: batches.ADD
UPDATE "JobBatch" SET "total" = "total" + $1::int
    WHERE "id" = $2 AND "tenantId" = current_setting('app.tenant_id') AND "sealedAt" IS NULL

-- statement: batches.SEAL
UPDATE "JobBatch" SET "sealedAt" = coalesce("sealedAt", clock_timestamp())
    WHERE "id" = $1 AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tenantId", "finishedAt" IS NULL
        AND "completed" + "dead" + "cancelled" = "total"

-- statement: batches.FINISH
WITH ended AS (
        UPDATE "JobBatch" b
        SET "finishedAt" = clock_timestamp(),
            "thenId" = CASE WHEN b."thenJob" IS NOT NULL THEN ailydian_new_id() END
        FROM unnest($1::text[], $2::text[], $3::text[])
             AS m("tenantId", "id", "jobId")
        WHERE b."tenantId" = m."tenantId" AND b."id" = m."id" AND b."finishedAt" IS NULL
          AND b."sealedAt" IS NOT NULL
          AND b."completed" + b."dead" + b."cancelled" = b."total"
        RETURNING b.*, m."jobId"
    ), followed AS (
        INSERT INTO "Job" ("id", "tenantId", "job", "queue", "payload", "schemaVersion", "key",
                           "attemptsMax", "parentId", "producer", "traceparent")
        SELECT e."thenId", e."tenantId", e."thenJob", k."queue", e."thenPayload",
               k."schemaVersion", 'batch:' || e."id", k."attemptsMax", e."jobId",
               'batch:' || e."id",
               (SELECT j."traceparent" FROM "Job" j WHERE j."id" = e."jobId")
        FROM ended e JOIN "JobKind" k ON k."job" = e."thenJob"
        ON CONFLICT ("tenantId", "job", "key") WHERE "key" IS NOT NULL DO NOTHING
    )
    SELECT count(*) FROM ended

-- statement: batches.SELECT_BATCHES
SELECT b."id", t."slug", b."name",
           CASE WHEN b."finishedAt" IS NOT NULL THEN 'FINISHED'
                WHEN b."sealedAt" IS NOT NULL THEN 'SEALED' ELSE 'OPEN' END,
           b."total", b."completed", b."dead", b."cancelled",
           b."total" - b."completed" - b."dead" - b."cancelled", b."thenJob", b."thenId",
           b."createdAt", b."sealedAt", b."finishedAt"
    FROM "JobBatch" b LEFT JOIN "Tenant" t ON t."id" = b."tenantId"
    WHERE ($1::text IS NULL OR b."tenantId" = $1)
      AND ($2::text IS NULL OR b."id" = $2)
      AND (NOT $3::bool OR b."finishedAt" IS NULL)
    ORDER BY b."createdAt" DESC, b."id" DESC LIMIT $4

-- statement: chunk_indexes.SELECT_INDEXED
SELECT d."title",
           coalesce((SELECT o."content" FROM "DocumentChunk" o WHERE o."documentId" = d."id"
                     ORDER BY o."chunkIndex" LIMIT 1), ''),
           count(c."id"), count(v."chunkId"), count(t."chunkId")
    FROM "Document" d
    LEFT JOIN "DocumentChunk" c ON c."documentId" = d."id"
    LEFT JOIN "ChunkVector" v ON v."tenantId" = $1 AND v."model" = $2
                             AND v."chunkId" = c."id"
    LEFT JOIN "ChunkText" t ON t."tenantId" = $1 AND t."chunkId" = c."id"
    WHERE d."id" = $3
    GROUP BY d."id"

-- statement: clock.SELECT_NOW
SELECT now()

-- statement: clock.SELECT_MOMENT
SELECT clock_timestamp()

-- statement: conversations.SELECT_TURNS
SELECT c."id", m."id", m."role"::text, left(m."content", $1::int), m."intent",
           e."embedding", k."messages"
    FROM "Conversation" c
    CROSS JOIN LATERAL (
        SELECT count(*) AS "messages" FROM "Message" a WHERE a."conversationId" = c."id"
    ) k
    LEFT JOIN LATERAL (
        SELECT n.*, row_number() OVER (PARTITION BY n."role"
                                       ORDER BY n."createdAt" DESC, n."id" DESC) AS "nth"
        FROM (SELECT n.* FROM "Message" n WHERE n."conversationId" = c."id"
              ORDER BY n."createdAt" DESC, n."id" DESC LIMIT $2) n
    ) m ON true
    LEFT JOIN "MessageEmbedding" e ON e."messageId" = m."id" AND e."model" = $3
        AND m."role" = 'USER' AND m."nth" <= $4::int
    WHERE c."id" = ANY($5::text[])
    ORDER BY c."id", m."createdAt", m."id"

-- statement: conversations.NEXT_ANALYSES
WITH held AS (
        SELECT c."id" FROM "Conversation" c WHERE c."id" = ANY($1::text[])
        ORDER BY c."id" FOR NO KEY UPDATE
    )
    UPDATE "Conversation" c SET "analysis" = c."analysis" + 1
    FROM held h WHERE c."id" = h."id" RETURNING c."id", c."analysis"

-- statement: conversations.SELECT_NEWEST
SELECT c."id", n."id", (SELECT count(*) FROM "Message" a WHERE a."conversationId" = c."id")
    FROM "Conversation" c LEFT JOIN LATERAL (
        SELECT m."id" FROM "Message" m WHERE m."conversationId" = c."id"
        ORDER BY m."createdAt" DESC, m."id" DESC LIMIT 1
    ) n ON true
    WHERE c."id" = ANY($1::text[])

-- statement: conversations.UPSERT_METADATA
INSERT INTO "ConversationMetadata" AS m ("conversationId", "tags", "sentiment", "topic",
                                             "messages", "language", "analysedAt")
    SELECT f."id", ARRAY(SELECT jsonb_array_elements_text(f."tags")), f."sentiment", f."topic",
           f."messages", f."language", now()
    FROM unnest($1::text[], $2::jsonb[], $3::float8[], $4::text[],
                $5::int[], $6::text[])
         AS f("id", "tags", "sentiment", "topic", "messages", "language")
    ORDER BY f."id"
    ON CONFLICT ("conversationId") DO UPDATE
    SET "tags" = excluded."tags", "sentiment" = excluded."sentiment", "topic" = excluded."topic",
        "messages" = excluded."messages", "language" = excluded."language",
        "analysedAt" = excluded."analysedAt"

-- statement: dead_edits.SELECT_LETTER
SELECT j."tenantId", j."key", j."payload", j."schemaVersion", d."edits"
    FROM "Job" j JOIN "DeadLetter" d ON d."tenantId" = j."tenantId" AND d."jobId" = j."id"
    WHERE j."id" = $1

-- statement: dead_edits.EDIT
WITH edited AS (
        UPDATE "Job" j
        SET "payload" = $1::jsonb, "schemaVersion" = $2,
            "limitKey" = $3, "cost" = $4
        WHERE j."id" = $5 AND j."state" = 'DEAD' AND j."payload" = $6::jsonb
        RETURNING j."id", j."tenantId"
    )
    UPDATE "DeadLetter" d SET "edits" = d."edits" || $7::jsonb
    FROM edited e WHERE d."tenantId" = e."tenantId" AND d."jobId" = e."id"

-- statement: dead_edits.SELECT_HOLDER
SELECT j."id" FROM "Job" j
    WHERE j."tenantId" = $1 AND j."job" = $2 AND j."key" = $3

-- statement: dead_letters.SELECT_DEAD
SELECT d."jobId", d."job", d."queue", t."slug", d."attempts", d."reason", d."error",
           d."fingerprint", d."diedAt", d."id"
    FROM "DeadLetter" d LEFT JOIN "Tenant" t ON t."id" = d."tenantId"
    WHERE d."id" > $1
      AND ($2::text IS NULL OR d."queue" = $2)
      AND ($3::text IS NULL OR d."job" = $3)
      AND ($4::text IS NULL OR d."tenantId" = $4)
      AND ($5::timestamptz IS NULL OR d."diedAt" >= $5)
      AND ($6::timestamptz IS NULL OR d."diedAt" <= $6)
      AND ($7::text IS NULL OR d."fingerprint" = $7)
      AND ($8::text IS NULL OR d."error" ~ $8)
    ORDER BY d."id" LIMIT $9

-- statement: dead_letters.SELECT_DEAD_BY_IDS
SELECT d."jobId", d."job", d."queue", t."slug", d."attempts", d."reason", d."error",
           d."fingerprint", d."diedAt", d."id"
    FROM (
        SELECT i."id" FROM unnest($1::text[]) AS i("id")
        UNION
        SELECT x."id" FROM unnest($1::text[]) AS i("id")
        JOIN "Job" j ON j."id" = i."id"
        JOIN "DeadLetter" x ON x."tenantId" = j."tenantId" AND x."jobId" = j."id"
    ) AS named
    JOIN "DeadLetter" d ON d."id" = named."id"
    LEFT JOIN "Tenant" t ON t."id" = d."tenantId"
    WHERE d."id" > $2
      AND ($3::text IS NULL OR d."queue" = $3)
      AND ($4::text IS NULL OR d."job" = $4)
      AND ($5::text IS NULL OR d."tenantId" = $5)
      AND ($6::timestamptz IS NULL OR d."diedAt" >= $6)
      AND ($7::timestamptz IS NULL OR d."diedAt" <= $7)
      AND ($8::text IS NULL OR d."fingerprint" = $8)
      AND ($9::text IS NULL OR d."error" ~ $9)
    ORDER BY d."id" LIMIT $10

-- statement: dead_letters.SELECT_GROUPS
SELECT g."fingerprint", g."job", g."queue", g."count", g."tenants", g."first", g."last",
           (SELECT d."error" FROM "DeadLetter" d WHERE d."id" = g."latest")
    FROM (
        SELECT d."fingerprint", d."job", d."queue", count(*) AS "count",
               count(DISTINCT d."tenantId") AS "tenants", min(d."diedAt") AS "first",
               max(d."diedAt") AS "last", max(d."id") AS "latest"
        FROM "DeadLetter" d
        WHERE ($1::text IS NULL OR d."queue" = $1)
          AND ($2::text IS NULL OR d."job" = $2)
          AND ($3::text IS NULL OR d."tenantId" = $3)
          AND ($4::timestamptz IS NULL OR d."diedAt" >= $4)
          AND ($5::timestamptz IS NULL OR d."diedAt" <= $5)
          AND ($6::text IS NULL OR d."fingerprint" = $6)
          AND ($7::text IS NULL OR d."error" ~ $7)
        GROUP BY d."fingerprint", d."job", d."queue"
        ORDER BY count(*) DESC, max(d."id") DESC LIMIT $8
    ) AS g
    ORDER BY g."count" DESC, g."latest" DESC

-- statement: dead_letters.COUNT_DEAD
SELECT count(*) FROM "DeadLetter" d
    WHERE ($1::text IS NULL OR d."queue" = $1)
      AND ($2::text IS NULL OR d."job" = $2)
      AND ($3::text IS NULL OR d."tenantId" = $3)
      AND ($4::timestamptz IS NULL OR d."diedAt" >= $4)
      AND ($5::timestamptz IS NULL OR d."diedAt" <= $5)
      AND ($6::text IS NULL OR d."fingerprint" = $6)
      AND ($7::text IS NULL OR d."error" ~ $7)

-- statement: dead_letters.REPLAY
WITH mine AS (
        SELECT j."id" FROM "Job" j
        WHERE j."id" = ANY($1::text[]) AND j."state" = 'DEAD'
        ORDER BY j."id" FOR UPDATE
    ), revived AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "attempt" = 0, "crashes" = 0, "dueAt" = now(),
            "waitingFor" = 'replay', "finishedAt" = NULL, "startedAt" = NULL, "worker" = NULL
        FROM mine WHERE j."id" = mine."id" AND j."state" = 'DEAD'
        RETURNING j.*
    ), lifted AS (
        DELETE FROM "DeadLetter" d USING revived r
        WHERE d."tenantId" = r."tenantId" AND d."jobId" = r."id"
    ), waiting AS (
        INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt",
                                 "jobId", "attempt", "cost")
        SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "id", "attempt",
               "cost" FROM revived ORDER BY "id"
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'REPLAYED', "batchId" FROM revived
    ), woken AS MATERIALIZED (
        SELECT pg_notify('ailydian_outbox', '') WHERE EXISTS (SELECT FROM revived)
    )
    SELECT r."id", r."tenantId" FROM revived r LEFT JOIN woken ON true ORDER BY r."id"

-- statement: dead_letters.DISCARD
WITH mine AS (
        SELECT j."id" FROM "Job" j
        WHERE j."id" = ANY($1::text[]) AND j."state" = 'DEAD'
        ORDER BY j."id" FOR UPDATE
    ), ended AS (
        UPDATE "Job" j SET "state" = 'CANCELLED'
        FROM mine WHERE j."id" = mine."id" AND j."state" = 'DEAD'
        RETURNING j."id", j."tenantId", j."job", j."queue", j."batchId",
                  j."payload" ->> 'upload_id' AS "uploadId"
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'DISCARDED', "batchId" FROM ended
    ), lifted AS (
        DELETE FROM "DeadLetter" d USING ended e
        WHERE d."tenantId" = e."tenantId" AND d."jobId" = e."id"
    ), forgotten AS (
        DELETE FROM "Upload" u USING ended e
        WHERE u."tenantId" = e."tenantId" AND u."id" = e."uploadId"
    )
    SELECT e."id", e."tenantId" FROM ended e ORDER BY e."id"

-- statement: document_lists.SELECT_DOCUMENTS
SELECT d."id", d."title", d."source", d."kind", d."language", length(d."content"),
           (SELECT count(*) FROM "DocumentChunk" c WHERE c."documentId" = d."id"),
           (SELECT count(*) FROM "DocumentChunk" c
            JOIN "ChunkEmbedding" e ON e."chunkId" = c."id" WHERE c."documentId" = d."id"),
           d."createdAt" AT TIME ZONE 'UTC', d."ingestedAt", d."metadata"
    FROM "Document" d
    WHERE d."tenantId" = current_setting('app.tenant_id')
      AND ($1::text IS NULL OR d."id" = $1)
    ORDER BY d."createdAt" DESC, d."id" DESC LIMIT $2

-- statement: document_lists.SELECT_CHUNKS
SELECT c."id", c."chunkIndex", c."startOffset", c."endOffset", c."tokenCount", c."headings",
           e."model", c."content"
    FROM "DocumentChunk" c LEFT JOIN "ChunkEmbedding" e ON e."chunkId" = c."id"
    WHERE c."documentId" = $1 ORDER BY c."chunkIndex", c."id" LIMIT $2

-- statement: documents.INSERT_UPLOAD
INSERT INTO "Upload" ("ingestKey", "sha256", "content")
    VALUES ($1, $2, $3) RETURNING "id"

-- statement: documents.SELECT_NEWEST_UPLOAD
SELECT "id", "sha256" FROM "Upload"
    WHERE "tenantId" = current_setting('app.tenant_id') AND "ingestKey" = $1
    ORDER BY "createdAt" DESC, "id" DESC LIMIT 1

-- statement: documents.RESTORE_UPLOAD
INSERT INTO "Upload" ("id", "ingestKey", "sha256", "content")
    VALUES ($1, '', '', $2)

-- statement: documents.SELECT_UPLOAD
SELECT "content" FROM "Upload" WHERE "id" = $1
        AND "tenantId" = current_setting('app.tenant_id')

-- statement: documents.DELETE_UPLOAD
DELETE FROM "Upload" WHERE "id" = $1 AND "tenantId" = current_setting('app.tenant_id')

-- statement: documents.DELETE_OLD_UPLOADS
DELETE FROM "Upload" WHERE "tenantId" = current_setting('app.tenant_id')
      AND "createdAt" < now() - $1::float8 * interval '1 second'

-- statement: documents.SELECT_CURRENT
SELECT d."id", d."ingestVersion", d."uploadSha256",
           (SELECT count(*) FROM "DocumentChunk" c WHERE c."documentId" = d."id")
    FROM "Document" d
    WHERE d."tenantId" = current_setting('app.tenant_id') AND d."ingestKey" = $1

-- statement: documents.SELECT_WRITTEN
SELECT "id", "title", "content", "source", "ingestVersion", "contentSha256"
    FROM "Document" WHERE "id" = $1

-- statement: documents.PUT_VERSION
INSERT INTO "Document" AS d ("tenantId", "ingestKey", "title", "content", "source", "kind",
        "language", "uploadSha256", "contentSha256", "ingestedSha256", "ingestedAt",
        "submittedAt", "submittedJobId", "ingestVersion")
    VALUES (current_setting('app.tenant_id'), $1, $2, $3, $4,
        $5, $6, $7, $8, $8, now(),
        $9, $10, 1)
    ON CONFLICT ("tenantId", "ingestKey") DO UPDATE
    SET "title" = excluded."title", "content" = excluded."content", "kind" = excluded."kind",
        "language" = excluded."language", "uploadSha256" = excluded."uploadSha256",
        "contentSha256" = excluded."contentSha256", "ingestedSha256" = excluded."ingestedSha256",
        "ingestedAt" = excluded."ingestedAt", "submittedAt" = excluded."submittedAt",
        "submittedJobId" = excluded."submittedJobId",
        "ingestVersion" = d."ingestVersion" + 1
    WHERE d."submittedAt" IS NULL OR (d."submittedAt", d."submittedJobId")
        <= (excluded."submittedAt", excluded."submittedJobId")
    RETURNING d."id", d."ingestVersion"

-- statement: documents.MARK_INGESTED
UPDATE "Document"
    SET "kind" = $1, "language" = $2, "contentSha256" = $3,
        "ingestedSha256" = $3, "ingestedAt" = now(),
        "ingestVersion" = "ingestVersion" + 1
    WHERE "id" = $4 AND "content" = $5

-- statement: documents.SELECT_CHUNK_HASHES
SELECT "id", "contentSha256" FROM "DocumentChunk"
    WHERE "documentId" = $1 ORDER BY "chunkIndex", "id"

-- statement: documents.INSERT_CHUNKS
WITH added AS (
        INSERT INTO "DocumentChunk" ("documentId", "content", "chunkIndex", "startOffset",
            "endOffset", "tokenCount", "contentSha256", "headings")
        SELECT $1, c."content", c."index", c."start", c."end", c."tokens", c."hash",
               string_to_array(nullif(c."headings", ''), E'\n')
        FROM unnest($2::text[], $3::int[], $4::int[], $5::int[],
                    $6::int[], $7::text[], $8::text[])
             AS c("content", "index", "start", "end", "tokens", "hash", "headings")
        RETURNING "id", "tenantId", "chunkIndex", "content", "headings"
    ), words AS (
        INSERT INTO "ChunkText" ("tenantId", "chunkId", "documentId", "language", "tsv")
        SELECT "tenantId", "id", $1, $9,
               ailydian_words(
                   $9, coalesce(array_to_string("headings", ' '), ''), "content")
        FROM added
    )
    SELECT "id" FROM added ORDER BY "chunkIndex"

-- statement: documents.MOVE_CHUNKS
WITH kept AS (
        SELECT c.*, string_to_array(nullif(c."path", ''), E'\n') AS "headings"
        FROM unnest($1::text[], $2::int[], $3::int[], $4::int[],
                    $5::text[]) AS c("id", "index", "start", "end", "path")
    ), words AS (
        UPDATE "ChunkText" t
        SET "language" = $6,
            "tsv" = ailydian_words(
                $6, coalesce(array_to_string(k."headings", ' '), ''), d."content")
        FROM kept k JOIN "DocumentChunk" d ON d."id" = k."id"
        WHERE t."tenantId" = d."tenantId" AND t."chunkId" = d."id"
          AND (d."headings" IS DISTINCT FROM k."headings" OR t."language" <> $6)
    )
    UPDATE "DocumentChunk" d
    SET "chunkIndex" = k."index", "startOffset" = k."start", "endOffset" = k."end",
        "headings" = k."headings"
    FROM kept k WHERE d."id" = k."id"

-- statement: documents.DELETE_CHUNKS
DELETE FROM "DocumentChunk" WHERE "id" = ANY($1::text[])

-- statement: documents.DELETE
DELETE FROM "Document" WHERE "id" = $1

-- statement: embeddings.REUSE
WITH found AS (
        SELECT c."id" AS "chunkId", c."documentId", v."model", v."bits", v."embedding" AS "half",
               e."embedding"
        FROM "DocumentChunk" c CROSS JOIN LATERAL (
            SELECT o."id" FROM "DocumentChunk" o
            WHERE o."tenantId" = c."tenantId" AND o."contentSha256" = c."contentSha256"
              AND o."id" <> c."id"
              AND (SELECT x."model" FROM "ChunkEmbedding" x WHERE x."chunkId" = o."id" LIMIT 1)
                  = $1
            LIMIT 1
        ) o
        CROSS JOIN LATERAL (
            SELECT e."embedding" FROM "ChunkEmbedding" e WHERE e."chunkId" = o."id" OFFSET 0
        ) e
        CROSS JOIN LATERAL (
            SELECT * FROM "ChunkVector" v
            WHERE v."tenantId" = c."tenantId" AND v."model" = $1 AND v."chunkId" = o."id"
            OFFSET 0
        ) v
        WHERE c."id" = ANY($2::text[])
    ), live AS (
        INSERT INTO "ChunkEmbedding" ("chunkId", "embedding", "model")
        SELECT "chunkId", "embedding", "model" FROM found
        ON CONFLICT ("chunkId") DO UPDATE
        SET "embedding" = excluded."embedding", "model" = excluded."model"
    )
    INSERT INTO "ChunkVector" ("tenantId", "model", "chunkId", "documentId", "bits", "embedding")
    SELECT current_setting('app.tenant_id'), "model", "chunkId", "documentId", "bits", "half"
    FROM found
    ON CONFLICT ("tenantId", "model", "chunkId") DO NOTHING
    RETURNING "chunkId"

-- statement: embeddings.SELECT_UNEMBEDDED
SELECT c."id", c."content", c."tokenCount" FROM "DocumentChunk" c
    WHERE c."id" = ANY($1::text[])
      AND (SELECT v."chunkId" FROM "ChunkVector" v WHERE v."tenantId" = c."tenantId"
           AND v."model" = $2 AND v."chunkId" = c."id" LIMIT 1) IS NULL

-- statement: embeddings.SELECT_MISSING
SELECT c."documentId", c."id" FROM "DocumentChunk" c
    WHERE NOT EXISTS (SELECT FROM "ChunkVector" v WHERE v."tenantId" = c."tenantId"
                      AND v."model" = $1 AND v."chunkId" = c."id")
    ORDER BY c."documentId", c."chunkIndex" LIMIT $2

-- statement: embeddings.STORE
WITH made AS (
        SELECT c."id", c."documentId", m."bits", m."embedding"
        FROM unnest($1::text[], $2::bit(1536)[], $3::vector[])
             AS m("id", "bits", "embedding")
        JOIN "DocumentChunk" c ON c."id" = m."id"
        FOR KEY SHARE OF c
    ), live AS (
        INSERT INTO "ChunkEmbedding" ("chunkId", "embedding", "model")
        SELECT "id", "embedding", $4 FROM made WHERE $5::bool
        ON CONFLICT ("chunkId") DO UPDATE
        SET "embedding" = excluded."embedding", "model" = excluded."model"
    )
    INSERT INTO "ChunkVector" ("tenantId", "model", "chunkId", "documentId", "bits", "embedding")
    SELECT current_setting('app.tenant_id'), $4, "id", "documentId", "bits",
           "embedding"::halfvec(1536)
    FROM made
    ON CONFLICT ("tenantId", "model", "chunkId") DO UPDATE
    SET "bits" = excluded."bits", "embedding" = excluded."embedding"

-- statement: embeddings.SELECT_MESSAGES
SELECT "id", "content", NULL::int FROM "Message" WHERE "id" = ANY($1::text[])

-- statement: embeddings.STORE_MESSAGES
INSERT INTO "MessageEmbedding" ("messageId", "embedding", "model", "bits")
    SELECT m."id", v."embedding", $1, v."bits"
    FROM unnest($2::text[], $3::vector[], $4::bit(1536)[])
         AS v("id", "embedding", "bits")
    JOIN "Message" m ON m."id" = v."id" FOR KEY SHARE OF m
    ON CONFLICT ("messageId") DO UPDATE
    SET "embedding" = excluded."embedding", "model" = excluded."model", "bits" = excluded."bits"

-- statement: events.HAS_NEWS
SELECT EXISTS (
        SELECT FROM "JobEvent" e
        WHERE (e."xid", e."position") > (c."xid", c."position")
          AND e."xid" < pg_snapshot_xmin(pg_current_snapshot()))
    FROM "EventCursor" c WHERE c."reader" = 'fold'

-- statement: events.PUT_CURSOR
INSERT INTO "EventCursor" ("reader", "xid", "position") VALUES ('fold', '0', 0)
    ON CONFLICT DO NOTHING

-- statement: events.WAIT_BRIEFLY
SELECT set_config('lock_timeout', $1::text, true)

-- statement: events.FOLD
WITH cursor AS MATERIALIZED (
        SELECT c."xid", c."position" FROM "EventCursor" c
        WHERE c."reader" = 'fold' FOR UPDATE SKIP LOCKED
    ), news AS MATERIALIZED (
        SELECT e.* FROM cursor c CROSS JOIN LATERAL (
            SELECT e."xid", e."position", e."tenantId", e."jobId", e."job", e."queue", e."what",
                   e."batchId", e."waitedS", e."tookS", e."at" FROM "JobEvent" e
            WHERE (e."xid", e."position") > (c."xid", c."position")
              AND e."xid" < pg_snapshot_xmin(pg_current_snapshot())
            ORDER BY e."xid", e."position" LIMIT $1
        ) e
    ), alike AS MATERIALIZED (
        SELECT e."job", e."what", max(e."queue") AS "queue", count(*) AS "n",
               width_bucket(e."tookS"::float8, $2::float8[]) AS "took",
               width_bucket(e."waitedS"::float8, $2::float8[]) AS "waited",
               sum(e."tookS") AS "tookS", sum(e."waitedS") AS "waitedS", max(e."at") AS "at"
        FROM news e GROUP BY e."job", e."what", 5, 6
    ), kinds AS (
        SELECT a."job", max(a."queue") AS "queue", max(a."at") AS "at",
               coalesce(sum(a."n") FILTER (WHERE a."what" = 'COMPLETED'), 0) AS "completed",
               coalesce(sum(a."n") FILTER (WHERE a."what" = 'DEAD'), 0) AS "dead",
               coalesce(sum(a."n") FILTER (WHERE a."what" IN ('CANCELLED', 'DISCARDED')), 0)
                   AS "cancelled",
               coalesce(sum(a."n") FILTER (WHERE a."what" = 'RETRY'), 0) AS "retried",
               coalesce(sum(a."tookS"), 0) AS "tookS", coalesce(sum(a."waitedS"), 0) AS "waitedS"
        FROM alike a GROUP BY a."job"
    ), counted AS (
        SELECT b."job", b."bucket", sum(b."took")::bigint AS "took",
               sum(b."waited")::bigint AS "waited"
        FROM (
            SELECT a."job", a."took" AS "bucket", a."n" AS "took", 0 AS "waited" FROM alike a
            WHERE a."took" IS NOT NULL
            UNION ALL
            SELECT a."job", a."waited", 0, a."n" FROM alike a WHERE a."waited" IS NOT NULL
            UNION ALL
            SELECT k."job", g.g, 0, 0
            FROM kinds k CROSS JOIN generate_series(0, cardinality($2::float8[])) g
        ) b GROUP BY 1, 2
    ), buckets AS (
        SELECT c."job", array_agg(c."took" ORDER BY c."bucket") AS "took",
               array_agg(c."waited" ORDER BY c."bucket") AS "waited"
        FROM counted c GROUP BY c."job"
    ), stats AS (
        INSERT INTO "JobStat" AS s ("job", "queue", "completed", "dead", "cancelled", "retried",
            "tookS", "waitedS", "tookBuckets", "waitedBuckets", "donePerS", "foldedAt")
        SELECT k."job", k."queue", k."completed", k."dead", k."cancelled", k."retried",
               k."tookS", k."waitedS", b."took", b."waited",
               k."completed" / $3::float8, k."at"
        FROM kinds k JOIN buckets b USING ("job")
        ON CONFLICT ("job") DO UPDATE
        SET "queue" = excluded."queue",
            "completed" = s."completed" + excluded."completed",
            "dead" = s."dead" + excluded."dead",
            "cancelled" = s."cancelled" + excluded."cancelled",
            "retried" = s."retried" + excluded."retried",
            "tookS" = s."tookS" + excluded."tookS",
            "waitedS" = s."waitedS" + excluded."waitedS",
            "tookBuckets" = (SELECT array_agg(u.a + u.b ORDER BY u.n)
                FROM unnest(s."tookBuckets", excluded."tookBuckets") WITH ORDINALITY u(a, b, n)),
            "waitedBuckets" = (SELECT array_agg(u.a + u.b ORDER BY u.n)
                FROM unnest(s."waitedBuckets", excluded."waitedBuckets")
                     WITH ORDINALITY u(a, b, n)),
            "donePerS" = (
                SELECT s."donePerS" * exp(-passed.s / $3::float8)
                       + CASE WHEN passed.s < 0.001 THEN excluded."donePerS"
                              ELSE excluded."completed" / passed.s
                                   * (1 - exp(-passed.s / $3::float8)) END
                FROM (SELECT least(1e4, greatest(0, extract(
                    epoch FROM excluded."foldedAt" - s."foldedAt")))::float8 AS s) passed),
            "foldedAt" = greatest(s."foldedAt", excluded."foldedAt")
    ), ends AS MATERIALIZED (
        SELECT e."tenantId", e."batchId",
               count(*) FILTER (WHERE e."what" = 'COMPLETED') AS "completed",
               count(*) FILTER (WHERE e."what" = 'DEAD')
                   - count(*) FILTER (WHERE e."what" IN ('REPLAYED', 'DISCARDED')) AS "dead",
               count(*) FILTER (WHERE e."what" IN ('CANCELLED', 'DISCARDED')) AS "cancelled",
               (array_agg(e."jobId" ORDER BY e."xid" DESC, e."position" DESC))[1] AS "jobId"
        FROM news e WHERE e."batchId" IS NOT NULL AND e."what" <> 'RETRY' GROUP BY 1, 2
    ), batches AS (
        UPDATE "JobBatch" b
        SET "completed" = b."completed" + e."completed", "dead" = b."dead" + e."dead",
            "cancelled" = b."cancelled" + e."cancelled"
        FROM ends e WHERE b."tenantId" = e."tenantId" AND b."id" = e."batchId"
        RETURNING b.*, e."jobId"
    ), moved AS (
        UPDATE "EventCursor" c SET "xid" = l."xid", "position" = l."position", "movedAt" = now()
        FROM (SELECT e."xid", e."position" FROM news e
              ORDER BY e."xid" DESC, e."position" DESC LIMIT 1) l
        WHERE c."reader" = 'fold'
    ), told AS (
        SELECT t."tenantId", pg_notify('ailydian_events', t."tenantId")
        FROM (SELECT DISTINCT e."tenantId" FROM news e) t
    )
    SELECT (SELECT count(*) FROM news), ARRAY(SELECT t."tenantId" FROM told t),
           ARRAY(SELECT b."tenantId" FROM batches b WHERE b."sealedAt" IS NOT NULL
                 AND b."completed" + b."dead" + b."cancelled" = b."total"
                 AND b."finishedAt" IS NULL ORDER BY b."tenantId", b."id"),
           ARRAY(SELECT b."id" FROM batches b WHERE b."sealedAt" IS NOT NULL
                 AND b."completed" + b."dead" + b."cancelled" = b."total"
                 AND b."finishedAt" IS NULL ORDER BY b."tenantId", b."id"),
           ARRAY(SELECT b."jobId" FROM batches b WHERE b."sealedAt" IS NOT NULL
                 AND b."completed" + b."dead" + b."cancelled" = b."total"
                 AND b."finishedAt" IS NULL ORDER BY b."tenantId", b."id")

-- statement: events.SELECT_EVENTS
WITH page AS MATERIALIZED (
        SELECT e.*, row_number() OVER (ORDER BY e."xid", e."position") AS "n" FROM "JobEvent" e
        WHERE (e."xid", e."position") > ($1::text::xid8, $2::bigint)
          AND e."xid" < $3::text::xid8
        ORDER BY e."xid", e."position" LIMIT $4
    )
    SELECT p."xid"::text, p."position", p."tenantId", p."jobId", p."job", p."queue", p."what",
           p."batchId", p."waitedS", p."tookS", p."at", p."n" FROM page p
    WHERE p."n" = $4
       OR ($5::text IS NULL OR p."jobId" = $5)
      AND ($6::text IS NULL OR p."batchId" = $6)
    ORDER BY p."xid", p."position"

-- statement: events.SELECT_BELOW
SELECT pg_snapshot_xmin(pg_current_snapshot())::text

-- statement: events.SELECT_LAST
SELECT e."xid"::text, e."position" FROM "JobEvent" e
    WHERE (e."xid", e."position") <= ($1::text::xid8, $2::bigint)
    ORDER BY e."xid" DESC, e."position" DESC LIMIT 1

-- statement: explanations.SELECT_QUALITY
SELECT 'quality', q."id", q."messageId", q."estimatedScore", q."metrics", m."content"
    FROM "QualityScore" q JOIN "Message" m ON m."id" = q."messageId"
    WHERE q."id" = $1 OR q."messageId" = $1 LIMIT 1

-- statement: explanations.SELECT_MODERATION
SELECT 'moderation', r."id", r."contentId", NULL::float8, r."scores",
           coalesce((SELECT m."content" FROM "Message" m
                     WHERE m."id" = r."contentId" AND r."contentType" = 'message'),
                    (SELECT d."content" FROM "Document" d
                     WHERE d."id" = r."contentId" AND r."contentType" = 'document'),
                    (SELECT f."comment" FROM "Feedback" f
                     WHERE f."id" = r."contentId" AND r."contentType" = 'feedback'))
    FROM "ModerationResult" r
    WHERE r."tenantId" = current_setting('app.tenant_id')
      AND (r."id" = $1 OR (r."contentId" = $1 AND NOT r."superseded"))
    ORDER BY r."createdAt" DESC, r."id" DESC LIMIT 1

-- statement: explanations.SELECT_TRUST
SELECT 'trust', t."id", t."userId", t."score", t."factors", NULL::text
    FROM "TrustScore" t LEFT JOIN "User" u ON u."id" = t."userId"
    WHERE t."id" = $1 OR t."userId" = $1 OR lower(u."email") = lower($1) LIMIT 1

-- statement: explanations.SELECT_ROUTING
SELECT 'routing', r."id", r."modelId", r."score", r."factors", NULL::text
    FROM "RoutingScore" r JOIN "AIModel" m ON m."id" = r."modelId"
    WHERE (r."id" = $1 OR m."slug" || '/' || r."intent" = $1)
      AND r."factors" IS NOT NULL LIMIT 1

-- statement: explanations.SELECT_RESTED
SELECT coalesce(q."content", ''),
           coalesce(array_agg(c."content" ORDER BY x."place") FILTER (WHERE c."id" IS NOT NULL),
                    '{}')
    FROM "Provenance" p LEFT JOIN "Message" q ON q."id" = p."questionId"
    LEFT JOIN LATERAL jsonb_path_query(p."citations", '$[*]."chunkId"')
        WITH ORDINALITY AS x("chunkId", "place") ON true
    LEFT JOIN "DocumentChunk" c ON c."id" = x."chunkId" #>> '{}'
    WHERE p."messageId" = $1 GROUP BY q."content"

-- statement: explanations.INSERT
INSERT INTO "ExplainabilityLog" ("messageId", "method", "features", "importance", "subject",
                                     "subjectId")
    VALUES ($1, $2, $3::jsonb, $4::jsonb, $5,
            $6)
    RETURNING "id"

-- statement: explanations.SELECT
SELECT x."id", x."subject", x."messageId", x."method", x."features", x."importance",
           x."createdAt" AT TIME ZONE 'UTC'
    FROM "ExplainabilityLog" x WHERE x."id" = $1

-- statement: feedback_entries.HAS_MESSAGE
SELECT 1 FROM "Message" WHERE "id" = $1

-- statement: feedback_entries.GIVE
WITH lock AS MATERIALIZED (
        SELECT pg_advisory_xact_lock(hashtextextended($1 || chr(1) || $2, 0))
    ), old AS (
        SELECT f."id" FROM "Feedback" f, lock
        WHERE f."messageId" = $1 AND f."userId" = $2
        ORDER BY f."createdAt" DESC, f."id" DESC LIMIT 1
    ), changed AS (
        UPDATE "Feedback" f SET "rating" = $3, "comment" = $4::text,
            "createdAt" = greatest(now() AT TIME ZONE 'UTC', f."createdAt" + interval '1 ms')
        FROM old WHERE f."id" = old."id"
        RETURNING f."id", f."createdAt"
    ), made AS (
        INSERT INTO "Feedback" ("messageId", "userId", "rating", "comment")
        SELECT $1, $2, $3, $4::text
        FROM lock WHERE NOT EXISTS (SELECT FROM old)
        RETURNING "id", "createdAt"
    )
    SELECT "id", "createdAt" AT TIME ZONE 'UTC' FROM changed
    UNION ALL SELECT "id", "createdAt" AT TIME ZONE 'UTC' FROM made

-- statement: feedback_entries.SELECT_FEEDBACK
SELECT f."id", f."messageId", coalesce(u."email", f."userId"), f."rating", f."comment",
           f."createdAt" AT TIME ZONE 'UTC'
    FROM "Feedback" f LEFT JOIN "User" u ON u."id" = f."userId"
    WHERE $1::text IS NULL OR f."messageId" = $1::text
    ORDER BY f."createdAt" DESC, f."id" DESC LIMIT $2

-- statement: figures.SELECT_FIGURES
WITH RECURSIVE counted AS MATERIALIZED (
        SELECT q."queue", q."place", c.* FROM unnest($1::text[]) WITH ORDINALITY
            AS q("queue", "place")
        CROSS JOIN LATERAL (
            SELECT count(*) AS "n", count(*) FILTER (WHERE o."dueAt" <= now()) AS "ready"
            FROM (SELECT o."dueAt" FROM "JobOutbox" o WHERE o."queue" = q."queue"
                  LIMIT $2::bigint + 1) o
        ) c
    ), lane AS (
        SELECT r."queue", 1 AS "n", l.* FROM unnest($1::text[]) AS r("queue")
        CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o WHERE o."queue" = r."queue"
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l
        UNION ALL
        SELECT p."queue", p."n" + 1, l.* FROM lane p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < $3::int
    ), heads AS (
        SELECT l."queue", min(l."dueAt") AS "oldest" FROM lane l WHERE l."dueAt" <= now()
        GROUP BY 1
    ), deep AS MATERIALIZED (
        SELECT c."queue", greatest(s."depth", c."n") AS "total",
               (SELECT count(*) FROM (
                    SELECT FROM lane l CROSS JOIN LATERAL (
                        SELECT FROM "JobOutbox" o
                        WHERE (o."queue", o."tenantId", o."job", o."limitKey", o."priority")
                              = (l."queue", l."tenantId", l."job", l."limitKey", l."priority")
                          AND o."dueAt" > now() LIMIT $2::bigint + 1) o
                    WHERE l."queue" = c."queue" LIMIT $2::bigint + 1) x
               ) AS "delayed",
               (SELECT count(*) FROM (
                    SELECT FROM lane l CROSS JOIN LATERAL (
                        SELECT FROM "JobOutbox" o
                        WHERE (o."queue", o."tenantId", o."job", o."limitKey", o."priority")
                              = (l."queue", l."tenantId", l."job", l."limitKey", l."priority")
                          AND o."dueAt" <= now() LIMIT $2::bigint + 1) o
                    WHERE l."queue" = c."queue" LIMIT $2::bigint + 1) x
               ) AS "ready"
        FROM counted c LEFT JOIN "QueueState" s USING ("queue") WHERE c."n" > $2
    ), waiting AS (
        SELECT c."queue", c."place",
               CASE WHEN d."queue" IS NULL THEN c."ready"
                    WHEN d."delayed" <= $2 THEN greatest(d."total" - d."delayed", 0)
                    ELSE d."ready" END AS "ready",
               CASE WHEN d."queue" IS NULL THEN c."n" - c."ready"
                    WHEN d."delayed" <= $2 THEN d."delayed"
                    ELSE greatest(d."total" - d."ready", 0) END AS "delayed"
        FROM counted c LEFT JOIN deep d USING ("queue")
    ), flying AS (
        SELECT f."queue", count(*) FILTER (WHERE j."state" = 'PENDING') AS "queued",
               count(*) FILTER (WHERE j."state" = 'RUNNING') AS "running",
               min(j."dueAt") FILTER (WHERE j."state" = 'PENDING') AS "oldest"
        FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId" GROUP BY 1
    ), done AS (
        SELECT s."queue", sum(s."donePerS" * exp(least(0, greatest(-500, -extract(
                   epoch FROM now() - s."foldedAt")::float8 / $4::float8)))) AS "rate"
        FROM "JobStat" s GROUP BY 1
    ), serving AS (
        SELECT s."queue", count(*) AS "workers" FROM "WorkerProcess" p
        CROSS JOIN LATERAL unnest(p."queues") AS s("queue")
        WHERE p."role" = 'worker'
          AND p."seenAt" > now() - $5::float8 * interval '1 second' GROUP BY 1
    )
    SELECT w."queue", w."ready" + coalesce(f."queued", 0), w."delayed", coalesce(f."running", 0),
           (SELECT count(*) FROM (SELECT FROM "DeadLetter" d WHERE d."queue" = w."queue"
                                  LIMIT $6) d),
           extract(epoch FROM now() - least(h."oldest", f."oldest"))::float8,
           coalesce(r."rate", 0)::float8, coalesce(s."workers", 0), EXISTS (
               SELECT FROM "JobHold" h
               WHERE h."queue" = w."queue" AND num_nonnulls(h."tenantId", h."job") = 0)
    FROM waiting w LEFT JOIN heads h USING ("queue") LEFT JOIN flying f USING ("queue")
    LEFT JOIN done r USING ("queue") LEFT JOIN serving s USING ("queue")
    ORDER BY w."place"

-- statement: figures.SELECT_LAGS
WITH RECURSIVE lane AS (
        SELECT r."queue", 1 AS "n", l.* FROM unnest($1::text[]) AS r("queue")
        CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o WHERE o."queue" = r."queue"
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l
        UNION ALL
        SELECT p."queue", p."n" + 1, l.* FROM lane p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < $2::int
    )
    SELECT l."queue", CASE
               WHEN EXISTS (SELECT FROM "JobHold" h
                   WHERE coalesce(h."queue", l."queue") = l."queue"
                     AND coalesce(h."tenantId", l."tenantId") = l."tenantId"
                     AND coalesce(h."job", l."job") = l."job") THEN 'held'
               WHEN EXISTS (SELECT FROM "JobLimit" m
                   WHERE coalesce(m."tenantId", l."tenantId") = l."tenantId"
                     AND coalesce(m."job", l."job") = l."job"
                     AND (m."tier" IS NULL OR m."tier" = (
                         SELECT t."tier"::text FROM "Tenant" t WHERE t."id" = l."tenantId"))
                     AND (NOT m."perKey" OR l."limitKey" <> '')) THEN 'limited'
               ELSE 'free' END AS "why",
           max(extract(epoch FROM now() - l."dueAt"))::float8
    FROM lane l WHERE l."dueAt" <= now() GROUP BY 1, 2

-- statement: figures.SELECT_PROCESSES
SELECT "id", "host", "pid", "queues", "threads", "startedAt", "seenAt",
           extract(epoch FROM now() - "seenAt")::float8, "figures"
    FROM "WorkerProcess"
    WHERE "role" = $1 AND "seenAt" > now() - $2::float8 * interval '1 second'
    ORDER BY "startedAt", "id"

-- statement: figures.SELECT_SEEN
SELECT extract(epoch FROM now() - greatest(
               (SELECT max(p."seenAt") FROM "WorkerProcess" p WHERE p."role" = 'relay'),
               (SELECT max(q."measuredAt") FROM "QueueState" q)))::float8,
           extract(epoch FROM now() - greatest(
               (SELECT max(p."seenAt") FROM "WorkerProcess" p WHERE p."role" = 'scheduler'),
               (SELECT max(s."ranAt") FROM "Schedule" s WHERE s."tenantId" IS NULL)))::float8

-- statement: flights.SELECT_LANES
WITH RECURSIVE lane AS (
        SELECT r."queue", 1 AS "n", l.*
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[],
                    $5::int[]) AS r("queue", "tenantId", "job", "limitKey", "priority")
        CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = r."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (r."tenantId", r."job", r."limitKey", r."priority"::smallint)
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l
        UNION ALL
        SELECT p."queue", p."n" + 1, l.* FROM lane p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < $6
    )
    SELECT l."queue", l."tenantId", l."job", l."limitKey", l."priority",
           extract(epoch FROM now() - l."dueAt")::float8, l."cost", t."tier"::text
    FROM lane l LEFT JOIN "Tenant" t ON t."id" = l."tenantId"

-- statement: flights.TAKE_TURNS
SELECT pg_advisory_xact_lock(hashtext('ailydian'), hashtext('relay'))

-- statement: flights.TAKE
WITH ahead AS (
        SELECT o.*, row_number() OVER (
            PARTITION BY o."queue", o."tenantId"
            ORDER BY o."dueAt" - o."priority" * $1::float8 * interval '1 second', o."seq"
        ) AS "place", s."tenantRows"
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[],
                    $6::int[], $7::int[], $8::float8[],
                    $9::int[])
             AS s("queue", "tenantId", "job", "limitKey", "priority", "rows", "cost", "tenantRows")
        CROSS JOIN LATERAL (
            SELECT l.* FROM (
                SELECT o.*, sum(o."cost") OVER (ROWS UNBOUNDED PRECEDING) AS "sum"
                FROM (
                    SELECT o.ctid AS "row", o."queue", o."tenantId", o."priority", o."dueAt",
                           o."seq", o."cost"
                    FROM "JobOutbox" o
                    WHERE o."queue" = s."queue" AND o."tenantId" = s."tenantId"
                      AND o."job" = s."job" AND o."limitKey" = s."limitKey"
                      AND o."priority" = s."priority"::smallint AND o."dueAt" <= now()
                    ORDER BY o."dueAt", o."seq" LIMIT s."rows"
                ) o
            ) l WHERE l."sum" - l."cost" < s."cost"
        ) o
    ), mine AS (
        SELECT o.ctid AS "row" FROM ahead a JOIN "JobOutbox" o ON o.ctid = a."row"
        WHERE a."place" <= a."tenantRows" FOR UPDATE OF o SKIP LOCKED
    ), gone AS (
        DELETE FROM "JobOutbox" o WHERE o.ctid = ANY(ARRAY(SELECT m."row" FROM mine m))
        RETURNING o.*
    ), sent AS (
        INSERT INTO "JobFlight" ("jobId", "tenantId", "queue", "job", "limitKey", "attempt")
        SELECT "jobId", "tenantId", "queue", "job", "limitKey", "attempt" FROM gone
        ON CONFLICT ("jobId") DO UPDATE SET "attempt" = excluded."attempt", "sentAt" = now()
    )
    SELECT "jobId", "queue", "attempt", "tenantId", "job", "limitKey", "cost" FROM gone
    ORDER BY "dueAt" - "priority" * $1::float8 * interval '1 second', "seq"

-- statement: flights.RESEND
WITH lost AS (
        SELECT f."jobId" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE j."state" = 'PENDING' AND f."queue" = ANY($1::text[])
          AND f."sentAt" < now() - $2::float8 * interval '1 second'
        ORDER BY f."sentAt" LIMIT $3 FOR UPDATE OF f SKIP LOCKED
    )
    UPDATE "JobFlight" f SET "sentAt" = now() FROM lost WHERE f."jobId" = lost."jobId"
    RETURNING f."jobId", f."queue", f."attempt"

-- statement: flights.COUNT_WAITING
SELECT f."queue", count(*) FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."state" = 'PENDING' GROUP BY f."queue"

-- statement: flights.DELETE_STALE
DELETE FROM "JobFlight" f
    WHERE NOT EXISTS (
        SELECT 1 FROM "Job" j WHERE j."id" = f."jobId" AND j."state" IN ('PENDING', 'RUNNING'))

-- statement: flights.SELECT_LAPSED
SELECT j."id", j."fence", j."attempt", j."attemptsMax", j."crashes"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."state" = 'RUNNING' AND j."leaseUntil" < now()
    ORDER BY j."id" LIMIT $1 FOR UPDATE OF j SKIP LOCKED

-- statement: flights.SELECT_HELD
SELECT j."id", j."fence", j."attempt", j."attemptsMax", j."crashes"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."worker" = $1 AND j."state" = 'RUNNING'
    ORDER BY j."id" FOR UPDATE OF j

-- statement: flights.WAIT_BRIEFLY
SELECT set_config('lock_timeout', '2000', true)

-- statement: flights.MEASURE_DEPTH
INSERT INTO "QueueState" ("queue", "depth", "depthMax")
    SELECT q."queue", (SELECT count(*) FROM "JobOutbox" o WHERE o."queue" = q."queue"),
           $1
    FROM unnest($2::text[]) AS q("queue")
    ON CONFLICT ("queue") DO UPDATE
    SET "depth" = excluded."depth", "depthMax" = excluded."depthMax", "measuredAt" = now()

-- statement: holdings.SELECT_HOLDINGS
SELECT (SELECT count(*) FROM "Document" WHERE "ingestedAt" IS NOT NULL),
           (SELECT count(*) FROM "DocumentChunk"),
           (SELECT count(*) FROM "ChunkEmbedding" WHERE "model" = $1),
           (SELECT count(*) FROM "DocumentChunk" c WHERE NOT EXISTS (
                SELECT 1 FROM "ChunkVector" v WHERE v."tenantId" = c."tenantId"
                    AND v."model" = $1 AND v."chunkId" = c."id")),
           (SELECT count(*) FROM "DocumentChunk" c JOIN "Document" d ON d."id" = c."documentId"
            WHERE substr(d."content", c."startOffset" + 1, c."endOffset" - c."startOffset")
                  <> c."content")

-- statement: holds.SELECT_HOLDS
SELECT "queue", "tenantId", "job" FROM "JobHold"

-- statement: holds.LIST_HOLDS
SELECT h."queue", t."slug", h."job", h."heldBy", h."heldAt"
    FROM "JobHold" h LEFT JOIN "Tenant" t ON t."id" = h."tenantId" ORDER BY h."heldAt", h."id"

-- statement: holds.PUT
INSERT INTO "JobHold" ("queue", "tenantId", "job", "heldBy")
    VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- statement: holds.DELETE
WITH gone AS (
        DELETE FROM "JobHold"
        WHERE "queue" IS NOT DISTINCT FROM $1
          AND "tenantId" IS NOT DISTINCT FROM $2
          AND "job" IS NOT DISTINCT FROM $3
        RETURNING 1
    )
    SELECT count(*), pg_notify('ailydian_outbox', '') FROM gone

-- statement: holds.WITHDRAW
WITH held AS (
        SELECT j."id" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE j."state" = 'PENDING' AND EXISTS (
            SELECT FROM "JobHold" h
            WHERE (h."queue" IS NULL OR h."queue" = f."queue")
              AND (h."tenantId" IS NULL OR h."tenantId" = f."tenantId")
              AND (h."job" IS NULL OR h."job" = f."job"))
        ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    ), landed AS (
        DELETE FROM "JobFlight" f USING held WHERE f."jobId" = held."id" RETURNING f."jobId"
    )
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT j."queue", j."tenantId", j."job", j."limitKey", j."priority", j."dueAt", j."id",
           j."attempt", j."cost"
    FROM landed l JOIN "Job" j ON j."id" = l."jobId"

-- statement: holds.COUNT_LEFT
WITH waiting AS (
        SELECT o."dueAt" <= now() AS "due" FROM "JobOutbox" o
        WHERE ($1::text IS NULL OR o."queue" = $1)
          AND ($2::text IS NULL OR o."tenantId" = $2)
          AND ($3::text IS NULL OR o."job" = $3)
        LIMIT $4
    ), flying AS (
        SELECT j."state" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE ($1::text IS NULL OR f."queue" = $1)
          AND ($2::text IS NULL OR f."tenantId" = $2)
          AND ($3::text IS NULL OR f."job" = $3)
    )
    SELECT (SELECT count(*) FROM waiting WHERE "due")
               + (SELECT count(*) FROM flying WHERE "state" = 'PENDING'),
           (SELECT count(*) FROM waiting WHERE NOT "due"),
           (SELECT count(*) FROM flying WHERE "state" = 'RUNNING')

-- statement: incident_notices.CLAIM_NEXT
UPDATE "IncidentNotice" n
    SET "attempts" = n."attempts" + 1, "nextAt" = now() + $1::float8 * interval '1 second'
    FROM (
        SELECT w."id" FROM "IncidentNotice" w
        WHERE w."nextAt" <= now() AND w."sentAt" IS NULL AND NOT EXISTS (
            SELECT FROM "IncidentNotice" e
            WHERE e."incidentId" = w."incidentId" AND e."sentAt" IS NULL
              AND e."nextAt" < 'infinity' AND (e."createdAt", e."id") < (w."createdAt", w."id"))
        ORDER BY w."nextAt", w."id" LIMIT 1 FOR UPDATE SKIP LOCKED
    ) c
    WHERE n."id" = c."id"
    RETURNING n."id", n."event", n."body", n."attempts"

-- statement: incident_notices.MARK_SENT
UPDATE "IncidentNotice" SET "sentAt" = now(), "nextAt" = 'infinity', "error" = NULL
    WHERE "id" = $1

-- statement: incident_notices.MARK_FAILED
UPDATE "IncidentNotice" SET "error" = $1, "nextAt" = CASE
        WHEN "createdAt" + $2::float8 * interval '1 second'
             <= now() + $3::float8 * interval '1 second' THEN 'infinity'
        ELSE now() + $3::float8 * interval '1 second' END
    WHERE "id" = $4 AND "sentAt" IS NULL RETURNING "nextAt" = 'infinity'

-- statement: incident_notices.PRUNE
DELETE FROM "IncidentNotice"
    WHERE "createdAt" < now() - CASE WHEN "nextAt" = 'infinity' THEN $1::float8
                                     ELSE $2::float8 END * interval '1 second'

-- statement: incident_notices.SELECT_NOTICES
SELECT "id", "event", "createdAt", "attempts", "sentAt",
           nullif("nextAt", 'infinity'), "error"
    FROM "IncidentNotice" WHERE "incidentId" = $1
    ORDER BY "createdAt", "id" LIMIT $2

-- statement: incidents.SELECT_DEAD_SPIKES
SELECT d."job" || ':' || d."fingerprint", d."job",
           count(*) FILTER (WHERE d."diedAt" >= now() - interval '10 minutes'),
           count(*) FILTER (WHERE d."diedAt" < now() - interval '10 minutes')
    FROM (SELECT "id" FROM "Tenant") t CROSS JOIN LATERAL (
        SELECT x."job", x."fingerprint", x."diedAt" FROM "DeadLetter" x
        WHERE x."tenantId" = t."id" AND x."diedAt" >= now() - interval '70 minutes' OFFSET 0
    ) d
    GROUP BY 1, 2 HAVING count(*) FILTER (WHERE d."diedAt" >= now() - interval '10 minutes') > 0
    ORDER BY 1

-- statement: incidents.SELECT_QUARANTINE_SPIKES
SELECT q."queue", q."queue",
           count(*) FILTER (WHERE q."receivedAt" >= now() - interval '10 minutes'),
           count(*) FILTER (WHERE q."receivedAt" < now() - interval '10 minutes')
    FROM "Quarantine" q WHERE q."receivedAt" >= now() - interval '70 minutes'
    GROUP BY 1 HAVING count(*) FILTER (WHERE q."receivedAt" >= now() - interval '10 minutes') > 0
    ORDER BY 1

-- statement: incidents.SELECT_UNTAKEN
SELECT f."queue", extract(epoch FROM now() - min(j."dueAt"))::float8
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."state" = 'PENDING' AND NOT EXISTS (
        SELECT FROM "JobHold" h WHERE coalesce(h."queue", f."queue") = f."queue"
          AND coalesce(h."tenantId", f."tenantId") = f."tenantId"
          AND coalesce(h."job", f."job") = f."job")
    GROUP BY f."queue"

-- statement: incidents.SELECT_FAILING_PROVIDERS
SELECT "slug", "failures", "openedAt" FROM ailydian_failing_providers() ORDER BY "slug"

-- statement: incidents.SELECT_CALIBRATION_ERRORS
SELECT "tenantId", "version", "promised", "found", "pairs"
    FROM ailydian_calibration_errors($1::int) ORDER BY "tenantId"

-- statement: incidents.SELECT_FLAGGED_SHARES
SELECT "tenantId", "flagged", "judged", "flaggedBefore", "judgedBefore"
    FROM ailydian_flagged_shares(interval '15 minutes', $1::int) ORDER BY "tenantId"

-- statement: incidents.SELECT_SPENT_BUDGETS
SELECT "tenantId", "id", "name", "spentUsd", "limitUsd", "resetAt"
    FROM ailydian_spent_budgets() ORDER BY "id"

-- statement: incidents.RAISE_INCIDENT
SELECT ailydian_raise_incident($1::text, $2, $3, $4,
                                   $5::"IncidentSeverity", $6::float8)

-- statement: incidents.SETTLE_INCIDENTS
SELECT ailydian_settle_incidents($1::text[], $2::float8 * interval '1 second')

-- statement: incidents.SELECT_INCIDENTS
SELECT i."id", t."slug", i."cause", i."title", i."description", i."severity"::text,
           i."status"::text, i."escalations", i."detectedAt" AT TIME ZONE 'UTC', i."lastSeenAt",
           i."resolvedAt" AT TIME ZONE 'UTC', i."handledBy", i."reason"
    FROM ailydian_list_incidents($1::text, $2::text, $3::boolean,
                                 $4::boolean, $5::int) i
    LEFT JOIN "Tenant" t ON t."id" = i."tenantId"
    ORDER BY i."detectedAt" DESC, i."id" DESC

-- statement: incidents.COUNT_OPEN
SELECT "severity", "incidents" FROM ailydian_count_incidents()

-- statement: incidents.SELECT_OPEN_CAUSES
SELECT coalesce(i."tenantId", ''), i."cause"
    FROM ailydian_list_incidents(NULL, NULL, false, true, $1::int) i
    WHERE i."cause" IS NOT NULL

-- statement: incidents.ANSWER
SELECT "tenantId", "status"
    FROM ailydian_answer_incident($1, $2::"IncidentStatus", $3, $4::text)

-- statement: jobs.SELECT_JOBS
SELECT j."id", j."job", j."queue", t."slug", j."seen", j."attempt", j."attemptsMax",
           j."payload", j."key", j."error", j."outcome", j."parentId", j."waitingFor", j."dueAt",
           j."createdAt", j."startedAt", j."finishedAt", j."worker"
    FROM (SELECT "id", "slug" FROM "Tenant"
          WHERE $1::text IS NULL OR "id" = $1) t
    CROSS JOIN LATERAL (
        SELECT j.*, s."seen" FROM "Job" j CROSS JOIN LATERAL (
            SELECT CASE WHEN j."state" = 'PENDING' AND EXISTS (
                SELECT FROM "JobFlight" f WHERE f."jobId" = j."id") THEN 'QUEUED'
                ELSE j."state" END AS "seen") s
        WHERE j."tenantId" = t."id"
          AND ($2::text IS NULL OR j."queue" = $2)
          AND ($3::text IS NULL OR j."job" = $3)
          AND ($4::timestamptz IS NULL OR j."createdAt" >= $4)
          AND ($5::text IS NULL OR s."seen" = $5)
        ORDER BY j."createdAt" DESC LIMIT $6
    ) j
    ORDER BY j."createdAt" DESC, j."id" DESC LIMIT $6

-- statement: jobs.SELECT_BY_IDS
SELECT j."id", j."job", j."queue", t."slug",
           CASE WHEN j."state" = 'PENDING' AND EXISTS (
               SELECT FROM "JobFlight" f WHERE f."jobId" = j."id") THEN 'QUEUED'
               ELSE j."state" END,
           j."attempt", j."attemptsMax", j."payload", j."key", j."error", j."outcome",
           j."parentId", j."waitingFor", j."dueAt", j."createdAt", j."startedAt", j."finishedAt",
           j."worker"
    FROM "Job" j LEFT JOIN "Tenant" t ON t."id" = j."tenantId"
    WHERE j."id" = ANY($1::text[]) ORDER BY j."createdAt", j."id"

-- statement: jobs.SELECT_PROGRESS
WITH awaited AS (
        SELECT j."id", j."tenantId", j."createdAt", j."job", j."state", j."error", j."outcome"
        FROM "Job" j WHERE j."id" = ANY($1::text[])
    ), followed AS (
        SELECT c."id", c."parentId", c."job", c."state", c."error", c."outcome" FROM "Job" c
        WHERE c."tenantId" = (SELECT a."tenantId" FROM awaited a LIMIT 1)
          AND c."createdAt" >= (SELECT min(a."createdAt") FROM awaited a)
          AND c."parentId" = ANY($1::text[])
    ), seen AS (
        SELECT "id", "id" AS "rootId", "job", "state", "error", "outcome" FROM awaited
        UNION ALL SELECT * FROM followed
    )
    SELECT s."id", s."rootId", s."job", s."state", s."error", s."outcome",
           CASE WHEN s."state" = 'DEAD' THEN (
               SELECT a."errorType" FROM "JobAttempt" a WHERE a."jobId" = s."id"
               ORDER BY a."fence" DESC LIMIT 1) END
    FROM seen s

-- statement: jobs.CANCEL
WITH found AS (
        SELECT "id", "state", "fence", "leaseUntil" FROM "Job"
        WHERE "id" = ANY($1::text[]) AND "state" IN ('PENDING', 'RUNNING')
        ORDER BY "id" FOR UPDATE
    ), ended AS (
        UPDATE "Job" j
        SET "state" = 'CANCELLED', "finishedAt" = clock_timestamp(), "leaseUntil" = NULL,
            "waitingFor" = NULL, "fence" = j."fence" + 1
        FROM found WHERE j."id" = found."id"
        RETURNING j.*, found."state" AS "was", found."fence" AS "held"
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended e WHERE f."jobId" = e."id"
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'CANCELLED', "batchId" FROM ended
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error")
        SELECT "tenantId", "id", "held", "attempt", "worker", "startedAt", 'lapsed', 'Cancelled',
               'An operator cancelled the job while it ran.'
        FROM ended WHERE "was" = 'RUNNING'
    )
    SELECT "id", "tenantId", "was", "queue", "job", "limitKey", "priority", "dueAt"
    FROM ended ORDER BY "id"

-- statement: jobs.UNQUEUE
DELETE FROM "JobOutbox" o
    USING unnest($1::text[], $2::text[], $3::text[], $4::text[],
                 $5::int[], $6::timestamptz[])
          AS p("queue", "tenantId", "job", "limitKey", "priority", "dueAt")
    WHERE o."queue" = p."queue" AND o."tenantId" = p."tenantId" AND o."job" = p."job"
      AND o."limitKey" = p."limitKey" AND o."priority" = p."priority"
      AND o."dueAt" = p."dueAt" AND o."jobId" = ANY($7::text[])

-- statement: jobs.PLAN_FOR_VALUES
SELECT set_config('plan_cache_mode', 'force_custom_plan', true)

-- statement: limits.SELECT_LIMITS
SELECT "id", "tenantId", "tier", "job", "perKey", "concurrencyMax", "ratePerS", "burst", "unit"
    FROM "JobLimit" ORDER BY "id"

-- statement: limits.PUT
INSERT INTO "JobLimit" ("tenantId", "tier", "job", "perKey", "concurrencyMax", "ratePerS",
                            "burst", "unit")
    VALUES ($1, $2, $3, $4, $5, $6,
            $7, $8)
    ON CONFLICT (coalesce("tenantId", ''), coalesce("tier", ''), coalesce("job", ''), "perKey")
    DO UPDATE SET "concurrencyMax" = excluded."concurrencyMax", "ratePerS" = excluded."ratePerS",
        "burst" = excluded."burst", "unit" = excluded."unit", "setAt" = now()
    RETURNING "id"

-- statement: limits.DELETE
DELETE FROM "JobLimit" WHERE "id" = $1

-- statement: limits.COUNT_FLYING
SELECT f."tenantId", f."job", f."limitKey", count(*),
           count(*) FILTER (WHERE j."state" = 'PENDING')
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    GROUP BY 1, 2, 3

-- statement: limits.SELECT_SPENT
SELECT "limitId", "tenantId", "limitKey", extract(epoch FROM "spentUntil" - now())::float8
    FROM "JobLimitUse" WHERE "limitId" = ANY($1::text[]) AND "spentUntil" > now()

-- statement: limits.SPEND
INSERT INTO "JobLimitUse" ("limitId", "tenantId", "limitKey", "spentUntil")
    SELECT u."limitId", u."tenantId", u."limitKey", now() + u."seconds" * interval '1 second'
    FROM unnest($1::text[], $2::text[], $3::text[],
                $4::float8[]) AS u("limitId", "tenantId", "limitKey", "seconds")
    ON CONFLICT ("limitId", "tenantId", "limitKey") DO UPDATE
    SET "spentUntil" = greatest("JobLimitUse"."spentUntil", now())
                       + (excluded."spentUntil" - now())

-- statement: limits.DELETE_UNSPENT
DELETE FROM "JobLimitUse" WHERE "spentUntil" < now() - interval '1 minute'

-- statement: live_models.SELECT_LIVE
SELECT "model" FROM "LiveModel" WHERE "tenantId" = current_setting('app.tenant_id')

-- statement: live_models.FLIP
INSERT INTO "LiveModel" ("model") VALUES ($1)
    ON CONFLICT ("tenantId") DO UPDATE SET "model" = excluded."model", "flippedAt" = now()

-- statement: live_models.SELECT_SAMPLE
SELECT c."id", left(c."content", $1) FROM (
        SELECT v."chunkId" FROM "ChunkVector" v
        WHERE v."tenantId" = current_setting('app.tenant_id') AND v."model" = $2
        ORDER BY md5(v."chunkId") LIMIT $3
    ) s
    JOIN "DocumentChunk" c ON c."id" = s."chunkId"

-- statement: live_models.SELECT_NEAREST
SELECT v."chunkId" FROM "ChunkVector" v
    WHERE v."tenantId" = current_setting('app.tenant_id') AND v."model" = $1
    ORDER BY v."embedding" <=> $2::vector::halfvec(1536), v."chunkId" LIMIT $3

-- statement: live_models.FOLLOW
WITH behind AS (
        SELECT v."chunkId", v."embedding" FROM "ChunkVector" v
        LEFT JOIN "ChunkEmbedding" e ON e."chunkId" = v."chunkId"
        WHERE v."tenantId" = current_setting('app.tenant_id') AND v."model" = $1
          AND e."model" IS DISTINCT FROM $1
        ORDER BY v."chunkId" LIMIT $2
    )
    INSERT INTO "ChunkEmbedding" ("chunkId", "embedding", "model")
    SELECT b."chunkId", b."embedding"::vector(1536), $1 FROM behind b
    ON CONFLICT ("chunkId") DO UPDATE
    SET "embedding" = excluded."embedding", "model" = excluded."model"

-- statement: lives.SELECT_ORIGIN
SELECT j."tenantId", t."tier"::text, j."producer", j."traceparent", j."batchId", b."name",
           j."priority", j."limitKey", j."cost", j."schemaVersion", j."crashes"
    FROM "Job" j LEFT JOIN "Tenant" t ON t."id" = j."tenantId"
    LEFT JOIN "JobBatch" b ON b."tenantId" = j."tenantId" AND b."id" = j."batchId"
    WHERE j."id" = $1

-- statement: lives.SELECT_ACTS
SELECT a."createdAt", a."userId", a."action", a."metadata" FROM "AuditLog" a
    WHERE a."tenantId" = $1 AND a."resource" = 'Job'
      AND a."createdAt" >= ($2::timestamptz AT TIME ZONE 'UTC') - interval '1 second'
      AND (a."resourceId" = $3 OR a."metadata" -> 'jobs' ? $3)
    ORDER BY a."createdAt", a."id" LIMIT $4

-- statement: lives.SELECT_DESCENDANTS
WITH RECURSIVE tree AS (
        SELECT j."id", j."tenantId", j."createdAt", j."startedAt", j."finishedAt", j."batchId",
               0 AS "depth", NULL::text AS "parentId"
        FROM "Job" j WHERE j."id" = $1
        UNION ALL
        SELECT c."id", c."tenantId", c."createdAt", c."startedAt", c."finishedAt", c."batchId",
               t."depth" + 1, t."id"
        FROM tree t CROSS JOIN LATERAL (
            SELECT c.* FROM "Job" c
            WHERE c."tenantId" = t."tenantId" AND c."parentId" = t."id"
              AND c."createdAt" >= coalesce((
                  SELECT min(a."startedAt") FROM "JobAttempt" a WHERE a."jobId" = t."id"),
                  t."startedAt", t."createdAt")
              AND c."createdAt" <= coalesce(t."finishedAt", now())
            UNION
            SELECT c.* FROM "JobBatch" b JOIN "Job" c ON c."id" = b."thenId"
            WHERE b."tenantId" = t."tenantId" AND b."id" = t."batchId" AND c."parentId" = t."id"
        ) c
        WHERE t."depth" < $2
    )
    SELECT t."id", t."parentId", t."depth", j."job", j."queue", j."state", j."error"
    FROM tree t JOIN "Job" j ON j."id" = t."id" WHERE t."depth" > 0
    ORDER BY t."depth", t."createdAt", t."id" LIMIT $3

-- statement: lives.SELECT_UNENDED
WITH near AS (
        SELECT o."jobId" FROM "JobOutbox" o
        WHERE ($1::text IS NULL OR o."queue" = $1)
          AND ($2::text IS NULL OR o."tenantId" = $2)
          AND ($3::text IS NULL OR o."job" = $3)
        UNION ALL
        SELECT f."jobId" FROM "JobFlight" f
        WHERE ($1::text IS NULL OR f."queue" = $1)
          AND ($2::text IS NULL OR f."tenantId" = $2)
          AND ($3::text IS NULL OR f."job" = $3)
    )
    SELECT j."id" FROM near n JOIN "Job" j ON j."id" = n."jobId"
    WHERE j."state" IN ('PENDING', 'RUNNING')
      AND ($4::text IS NULL OR j."batchId" = $4)
    LIMIT $5

-- statement: message_lists.SELECT_CONVERSATIONS
SELECT c."id", u."email", c."title",
           (SELECT count(*) FROM "Message" m WHERE m."conversationId" = c."id"),
           a."sentiment", a."topic", a."tags", c."updatedAt" AT TIME ZONE 'UTC'
    FROM "Conversation" c JOIN "User" u ON u."id" = c."userId"
    LEFT JOIN "ConversationMetadata" a ON a."conversationId" = c."id"
    WHERE $1::text IS NULL OR c."userId" = $1::text
    ORDER BY c."updatedAt" DESC, c."id" DESC LIMIT $2

-- statement: message_lists.SELECT_MESSAGES
SELECT m."id", m."conversationId", m."role"::text, m."content",
           coalesce(a."slug", p."modelId"), m."intent", m."tokensIn", m."tokensOut", m."cost",
           m."latencyMs",
           (SELECT jsonb_build_object('id', r."id", 'action', r."action", 'flagged', r."flagged",
                                      'categories', r."categories", 'engine', r."engine")
            FROM "ModerationResult" r
            WHERE r."tenantId" = current_setting('app.tenant_id') AND r."contentId" = m."id"
              AND NOT r."superseded"
            ORDER BY r."createdAt" DESC, r."id" DESC LIMIT 1),
           (SELECT jsonb_build_object('estimated', q."estimatedScore", 'actual', q."actualScore",
                                      'metrics', q."metrics")
            FROM "QualityScore" q WHERE q."messageId" = m."id"),
           CASE WHEN p."id" IS NOT NULL THEN jsonb_build_object(
               'id', p."id", 'inputHash', p."inputHash", 'outputHash', p."outputHash",
               'citations', p."citations", 'watermark', p."watermark") END,
           (SELECT jsonb_build_object('ratings', count(*), 'mean', avg(l."rating"))
            FROM (SELECT DISTINCT ON (f."userId") f."rating" FROM "Feedback" f
                  WHERE f."messageId" = m."id"
                  ORDER BY f."userId", f."createdAt" DESC, f."id" DESC) l HAVING count(*) > 0),
           (SELECT e."model" FROM "MessageEmbedding" e WHERE e."messageId" = m."id"),
           m."createdAt" AT TIME ZONE 'UTC'
    FROM "Message" m LEFT JOIN "AIModel" a ON a."id" = m."modelId"
    LEFT JOIN "Provenance" p ON p."messageId" = m."id"
    WHERE m."id" = $1::text OR m."conversationId" = $2::text
    ORDER BY m."createdAt", m."id" LIMIT $3

-- statement: messages.OPEN_CONVERSATIONS
WITH ask AS MATERIALIZED (
        SELECT a."at", a."conversationId", a."title", w."userId",
               CASE WHEN a."conversationId" IS NULL THEN public.ailydian_new_id() END AS "fresh"
        FROM unnest($1::text[], $2::text[], $3::text[])
             WITH ORDINALITY AS a("conversationId", "userId", "title", "at")
        LEFT JOIN LATERAL (
            SELECT u."id" AS "userId" FROM "User" u
            WHERE a."conversationId" IS NULL
              AND (a."userId" IS NULL OR u."id" = a."userId")
            ORDER BY u."createdAt", u."id" LIMIT 1
        ) w ON true
    ), made AS (
        INSERT INTO "Conversation" ("id", "userId", "title")
        SELECT a."fresh", a."userId", left(a."title", 100) FROM ask a
        WHERE a."fresh" IS NOT NULL AND a."userId" IS NOT NULL
    ), held AS (
        SELECT c."id", c."userId", c."analysis", c."updatedAt" FROM "Conversation" c
        WHERE c."id" = ANY($1::text[])
        ORDER BY c."id" FOR NO KEY UPDATE
    )
    SELECT coalesce(a."fresh", h."id"), coalesce(h."analysis", 0), h."updatedAt"
    FROM ask a
    LEFT JOIN held h ON h."id" = a."conversationId"
        AND (h."userId" = ($2::text[])[a."at"] OR ($2::text[])[a."at"] IS NULL)
    WHERE h."id" IS NOT NULL OR (a."fresh" IS NOT NULL AND a."userId" IS NOT NULL)
    ORDER BY a."at"

-- statement: messages.INSERT_MESSAGES
WITH given AS MATERIALIZED (
        SELECT public.ailydian_new_id() AS "id", g.*,
               row_number() OVER (PARTITION BY g."conversationId" ORDER BY g."at") AS "nth"
        FROM unnest($1::text[], $2::text[], $3::text[],
                    $4::text[], $5::int[], $6::int[],
                    $7::numeric[], $8::int[], $9::text[])
             WITH ORDINALITY AS g("conversationId", "role", "content", "model", "tokensIn",
                                  "tokensOut", "cost", "latencyMs", "intent", "at")
    ), priced AS MATERIALIZED (
        SELECT g.*, m."id" AS "modelId", greatest(now() AT TIME ZONE 'UTC', CASE
                   WHEN c."updatedAt" < now() AT TIME ZONE 'UTC' + interval '1 minute'
                   THEN c."updatedAt" + interval '1 ms' END)
               + (g."nth" - 1) * interval '1 ms' AS "createdAt",
               coalesce(g."cost", round((g."tokensIn" * m."costPer1kIn"
                                         + g."tokensOut" * m."costPer1kOut") / 1000, 8)) AS "price"
        FROM given g
        LEFT JOIN "Conversation" c ON c."id" = g."conversationId"
        LEFT JOIN "AIModel" m ON m."slug" = g."model"
    ), moved AS (
        UPDATE "Conversation" c SET "updatedAt" = n."newest"
        FROM (SELECT p."conversationId", max(p."createdAt") AS "newest" FROM priced p
              GROUP BY p."conversationId") n
        WHERE c."id" = n."conversationId"
    ), made AS (
        INSERT INTO "Message" ("id", "conversationId", "role", "content", "modelId", "tokensIn",
                               "tokensOut", "cost", "latencyMs", "createdAt", "intent")
        SELECT p."id", p."conversationId", p."role"::"MessageRole", p."content", p."modelId",
               p."tokensIn", p."tokensOut", p."price", p."latencyMs", p."createdAt", p."intent"
        FROM priced p
    )
    SELECT p."id", p."price" FROM priced p ORDER BY p."at"

-- statement: messages.INSERT_PROVENANCES
WITH given AS MATERIALIZED (
        SELECT public.ailydian_new_id() AS "id", g.*
        FROM unnest($1::text[], $2::text[], $3::text[],
                    $4::text[], $5::text[], $6::jsonb[],
                    $7::jsonb[], $8::text[], $9::text[],
                    $10::text[])
             WITH ORDINALITY AS g("messageId", "questionId", "modelId", "inputHash", "outputHash",
                                  "citations", "inputs", "watermark", "keyId",
                                  "questionSha256", "at")
    ), made AS (
        INSERT INTO "Provenance" ("id", "messageId", "questionId", "modelId", "inputHash",
                                  "outputHash", "citations", "inputs", "watermark", "keyId",
                                  "questionSha256")
        SELECT g."id", g."messageId", g."questionId", g."modelId", g."inputHash", g."outputHash",
               g."citations", g."inputs", g."watermark", g."keyId", g."questionSha256"
        FROM given g
    )
    SELECT g."id" FROM given g ORDER BY g."at"

-- statement: messages.SELECT_PASSAGES
SELECT c."id", c."content" FROM "DocumentChunk" c WHERE c."id" = ANY($1::text[])

-- statement: migrations.LOCK
SELECT pg_advisory_xact_lock(hashtext('ailydian'), hashtext('migrate'))

-- statement: migrations.EXISTS
SELECT to_regclass('public."SchemaMigration"') IS NOT NULL

-- statement: migrations.SELECT_APPLIED
SELECT "version", "sha256" FROM "SchemaMigration" ORDER BY "version"

-- statement: migrations.NOTE
INSERT INTO "SchemaMigration" ("version", "sha256") VALUES ($1, $2)
    ON CONFLICT ("version") DO UPDATE SET "sha256" = excluded."sha256", "appliedAt" = now()

-- statement: migrations.PUT_JOB_KIND
INSERT INTO "JobKind" ("job", "queue", "schemaVersion", "attemptsMax")
    VALUES ($1, $2, $3, $4)
    ON CONFLICT ("job") DO UPDATE
    SET "queue" = excluded."queue", "schemaVersion" = excluded."schemaVersion",
        "attemptsMax" = excluded."attemptsMax"

-- statement: migrations.SET_OWNER
SET LOCAL ROLE ailydian_owner

-- statement: migrations.RESET_ROLE
RESET ROLE

-- statement: model_routes.REWARD
SELECT ailydian_reward($1::text[], $2::float8[], $3::float8[],
                           $4::float8, $5::float8)

-- statement: model_routes.SELECT_CANDIDATES
SELECT m."slug",
           1 + coalesce(ailydian_faded(t."alpha" - 1, t."updatedAt", $1::float8),
                        g."won" * g."share", 0),
           1 + coalesce(ailydian_faded(t."beta" - 1, t."updatedAt", $1::float8),
                        g."lost" * g."share", 0),
           m."costPer1kIn", m."costPer1kOut", m."contextWindow",
           coalesce(m."latencyEwmaMs", m."avgLatencyMs"), m."successRate",
           coalesce(h."state" <> 'closed', false)
    FROM "AIModel" m JOIN "AIProvider" p ON p."id" = m."providerId" AND p."enabled"
    LEFT JOIN "ProviderHealth" h ON h."providerId" = p."id"
    LEFT JOIN "TenantArm" t ON t."tenantId" = current_setting('app.tenant_id')
        AND t."modelId" = m."id" AND t."intent" = $2
    LEFT JOIN LATERAL (
        SELECT f.*, least(1, $3::float8 / nullif(f."won" + f."lost", 0)) AS "share"
        FROM "BanditArm" b, LATERAL (
            SELECT greatest(ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                           $1::float8), 0) AS "won",
                   greatest(ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                           $1::float8), 0) AS "lost"
        ) f
        WHERE b."modelId" = m."id" AND b."intent" = $2
    ) g ON true
    WHERE m."enabled" AND $4 = ANY(m."capabilities")
      AND (h."state" IS NULL OR h."state" = 'closed' OR h."openUntil" <= now())
    ORDER BY m."slug"

-- statement: model_routes.SELECT_GLOBAL
SELECT m."id", i."intent",
           1 + coalesce(ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                       $1::float8), 0),
           1 + coalesce(ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                       $1::float8), 0),
           m."costPer1kIn", m."costPer1kOut", coalesce(m."latencyEwmaMs", m."avgLatencyMs"),
           m."successRate"
    FROM "AIModel" m JOIN "AIProvider" p ON p."id" = m."providerId"
    CROSS JOIN unnest($2::text[]) AS i("intent")
    LEFT JOIN "BanditArm" b ON b."modelId" = m."id" AND b."intent" = i."intent"
    WHERE m."enabled" AND p."enabled" AND $3 = ANY(m."capabilities")
    ORDER BY m."id", i."intent"

-- statement: model_routes.UPSERT_SCORES
INSERT INTO "RoutingScore" ("modelId", "intent", "score", "factors")
    SELECT n."modelId", n."intent", n."score", n."factors"
    FROM unnest($1::text[], $2::text[], $3::float8[],
                $4::jsonb[]) AS n("modelId", "intent", "score", "factors")
    ORDER BY n."modelId", n."intent"
    ON CONFLICT ("modelId", "intent") DO UPDATE
    SET "score" = excluded."score", "factors" = excluded."factors",
        "updatedAt" = now() AT TIME ZONE 'UTC'

-- statement: model_routes.SELECT_ROUTES
SELECT m."slug", r."intent", r."score", r."factors", r."pulls", r."wins"
    FROM "RoutingScore" r JOIN "AIModel" m ON m."id" = r."modelId"
    WHERE r."intent" = coalesce($1::text, r."intent")
    ORDER BY r."intent", r."score" DESC, m."slug"

-- statement: model_uses.ADD
INSERT INTO "ModelUse" AS m ("model", "hour", "requests", "tokens", "costUsd")
    SELECT u."model", date_trunc('hour', now(), 'UTC'), u."requests", u."tokens", u."costUsd"
    FROM unnest($1::text[], $2::bigint[], $3::bigint[],
                $4::numeric[]) AS u("model", "requests", "tokens", "costUsd")
    ORDER BY u."model"
    ON CONFLICT ("model", "hour") DO UPDATE
    SET "requests" = m."requests" + excluded."requests",
        "tokens" = m."tokens" + excluded."tokens", "costUsd" = m."costUsd" + excluded."costUsd"

-- statement: model_uses.SELECT_TOTALS
SELECT "model", sum("requests")::bigint, sum("tokens")::bigint, sum("costUsd")
    FROM "ModelUse" GROUP BY "model" ORDER BY "model"

-- statement: models.SEED_PROVIDERS
INSERT INTO "AIProvider" ("slug", "name")
    SELECT n."slug", n."name" FROM unnest($1::text[], $2::text[]) AS n("slug", "name")
    ON CONFLICT DO NOTHING

-- statement: models.SEED_MODELS
INSERT INTO "AIModel" ("slug", "providerId", "name", "contextWindow", "costPer1kIn",
                           "costPer1kOut", "capabilities", "enabled")
    SELECT n."slug", p."id", n."name", n."window", n."costIn", n."costOut",
           string_to_array(n."capabilities", ','), n."enabled"
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int[],
                $5::numeric[], $6::numeric[], $7::text[],
                $8::bool[])
         AS n("slug", "provider", "name", "window", "costIn", "costOut", "capabilities", "enabled")
    JOIN "AIProvider" p ON p."slug" = n."provider"
    ON CONFLICT DO NOTHING

-- statement: models.PUT_PROVIDER
INSERT INTO "AIProvider" ("slug", "name", "baseUrl", "enabled")
    VALUES ($1, $2, $3::text, $4)
    ON CONFLICT ("slug") DO UPDATE
    SET "name" = excluded."name", "baseUrl" = excluded."baseUrl", "enabled" = excluded."enabled"

-- statement: models.SELECT_PROVIDER
SELECT "slug", "name", "baseUrl", "enabled" FROM "AIProvider" WHERE "slug" = $1

-- statement: models.PUT_MODEL
INSERT INTO "AIModel" ("slug", "providerId", "name", "contextWindow", "costPer1kIn",
                           "costPer1kOut", "capabilities", "enabled")
    SELECT $1, p."id", $2, $3, $4::numeric, $5::numeric,
           $6::text[], $7
    FROM "AIProvider" p WHERE p."slug" = $8
    ON CONFLICT ("slug") DO UPDATE
    SET "providerId" = excluded."providerId", "name" = excluded."name",
        "contextWindow" = excluded."contextWindow", "costPer1kIn" = excluded."costPer1kIn",
        "costPer1kOut" = excluded."costPer1kOut", "capabilities" = excluded."capabilities",
        "enabled" = excluded."enabled"

-- statement: models.SELECT_MODELS
SELECT m."id", m."slug", m."name", p."slug", m."contextWindow", m."costPer1kIn",
           m."costPer1kOut", coalesce(m."capabilities", '{}'), m."enabled", p."enabled",
           m."calls", m."avgLatencyMs", m."successRate",
           CASE WHEN h."state" = 'open' AND h."openUntil" <= now() THEN 'half_open'
                ELSE coalesce(h."state", 'closed') END
    FROM "AIModel" m JOIN "AIProvider" p ON p."id" = m."providerId"
    LEFT JOIN "ProviderHealth" h ON h."providerId" = p."id"
    WHERE $1::text IS NULL OR m."slug" = $1 ORDER BY p."slug", m."slug"

-- statement: models.NOTE_CALL
UPDATE "AIModel" m
    SET "calls" = m."calls" + 1,
        "successRate" = coalesce(m."successRate" + $1::float8
            * ($2::float8 - m."successRate"), $2::float8),
        "latencyEwmaMs" = CASE WHEN $2::float8 = 1 THEN coalesce(m."latencyEwmaMs"
            + $1::float8 * ($3::float8 - m."latencyEwmaMs"),
            $3::float8) ELSE m."latencyEwmaMs" END,
        "avgLatencyMs" = CASE WHEN $2::float8 = 1 THEN round(coalesce(m."latencyEwmaMs"
            + $1::float8 * ($3::float8 - m."latencyEwmaMs"),
            $3::float8)) ELSE m."avgLatencyMs" END
    WHERE m."slug" = $4

-- statement: models.NOTE_FAULT
INSERT INTO "ProviderHealth" AS h ("providerId", "failures")
    SELECT m."providerId", 1 FROM "AIModel" m WHERE m."slug" = $1
    ON CONFLICT ("providerId") DO UPDATE
    SET "failures" = h."failures" + (h."state" <> 'open')::int, "updatedAt" = now(),
        "state" = CASE WHEN h."state" = 'half_open' OR h."failures" + 1 >= $2
                       THEN 'open' ELSE h."state" END,
        "openedAt" = CASE WHEN h."state" = 'closed' AND h."failures" + 1 >= $2
                          THEN now() ELSE h."openedAt" END,
        "openUntil" = CASE
            WHEN h."state" = 'half_open' OR (h."state" = 'closed'
                                             AND h."failures" + 1 >= $2)
            THEN now() + interval '1 second' * least($3::float8, $4::float8
                * power(2.0, least(greatest(h."failures" + 1 - $2, 0), 10)))
            ELSE h."openUntil" END

-- statement: models.NOTE_ANSWER
UPDATE "ProviderHealth" h
    SET "state" = 'closed', "failures" = 0, "openedAt" = NULL, "openUntil" = NULL,
        "updatedAt" = now()
    FROM "AIModel" m
    WHERE m."slug" = $1 AND h."providerId" = m."providerId"
      AND (h."state" <> 'closed' OR h."failures" > 0)

-- statement: models.TAKE_PROBE
UPDATE "ProviderHealth" h
    SET "state" = 'half_open', "openUntil" = now() + $1::float8 * interval '1 second',
        "updatedAt" = now()
    FROM "AIModel" m
    WHERE m."slug" = $2 AND h."providerId" = m."providerId" AND h."state" <> 'closed'
      AND h."openUntil" <= now()

-- statement: moderations.SELECT_CONTENTS
SELECT n."type", n."id", c."text", c."userId", c."createdAt" AT TIME ZONE 'UTC'
    FROM unnest($1::text[], $2::text[]) AS n("type", "id")
    CROSS JOIN LATERAL (
        SELECT m."content" AS "text", v."userId", m."createdAt"
        FROM "Message" m JOIN "Conversation" v ON v."id" = m."conversationId"
        WHERE n."type" = 'message' AND m."id" = n."id"
        UNION ALL
        SELECT d."content", NULL, d."createdAt" FROM "Document" d
        WHERE n."type" = 'document' AND d."id" = n."id"
        UNION ALL
        SELECT coalesce(f."comment", ''), f."userId", f."createdAt" FROM "Feedback" f
        WHERE n."type" = 'feedback' AND f."id" = n."id"
    ) c

-- statement: moderations.SELECT_PRESENT
SELECT n."type", n."id", c."sha256", c."createdAt" AT TIME ZONE 'UTC'
    FROM unnest($1::text[], $2::text[]) AS n("type", "id")
    CROSS JOIN LATERAL (
        SELECT encode(sha256(convert_to(m."content", 'UTF8')), 'hex') AS "sha256", m."createdAt"
        FROM "Message" m WHERE n."type" = 'message' AND m."id" = n."id"
        UNION ALL
        SELECT encode(sha256(convert_to(d."content", 'UTF8')), 'hex'), d."createdAt"
        FROM "Document" d WHERE n."type" = 'document' AND d."id" = n."id"
        UNION ALL
        SELECT encode(sha256(convert_to(coalesce(f."comment", ''), 'UTF8')), 'hex'), f."createdAt"
        FROM "Feedback" f WHERE n."type" = 'feedback' AND f."id" = n."id"
    ) c

-- statement: moderations.HOLD
WITH policy AS MATERIALIZED (
        SELECT pg_advisory_xact_lock_shared(
            hashtextextended('moderation policy ' || current_setting('app.tenant_id'), 0))
    ), content AS MATERIALIZED (
        SELECT DISTINCT hashtextextended(
            'moderated ' || current_setting('app.tenant_id') || ' ' || n."id", 0) AS "lock"
        FROM policy, unnest($1::text[]) AS n("id") ORDER BY 1
    )
    SELECT pg_advisory_xact_lock(c."lock") FROM content c

-- statement: moderations.SELECT_STANDING
SELECT n."id", r."id", r."action", ARRAY(
               SELECT x."contentSha256" FROM "ModerationResult" x
               JOIN "ModerationAppeal" a ON a."resultId" = x."id"
               WHERE x."tenantId" = current_setting('app.tenant_id') AND x."contentId" = n."id"
                 AND x."contentSha256" IS NOT NULL
                 AND a."tenantId" = current_setting('app.tenant_id') AND a."state" = 'granted')
    FROM (SELECT DISTINCT unnest($1::text[])) AS n("id")
    LEFT JOIN LATERAL (
        SELECT r."id", r."action" FROM "ModerationResult" r
        WHERE r."tenantId" = current_setting('app.tenant_id') AND r."contentId" = n."id"
          AND NOT r."superseded"
        ORDER BY r."createdAt" DESC, r."id" DESC LIMIT 1
    ) r ON true

-- statement: moderations.INSERT_RESULTS
WITH new AS MATERIALIZED (
        SELECT public.ailydian_new_id() AS "id", n.*
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[],
                    $5::bool[], $6::text[], $7::jsonb[],
                    $8::text[], $9::text[], $10::int[])
             WITH ORDINALITY AS n("type", "contentId", "sha256", "userId", "flagged", "categories",
                                  "scores", "action", "engine", "version", "at")
    ), old AS (
        UPDATE "ModerationResult" r SET "superseded" = true
        WHERE r."tenantId" = current_setting('app.tenant_id')
          AND r."contentId" = ANY($2::text[]) AND NOT r."superseded"
    ), made AS (
        INSERT INTO "ModerationResult" ("id", "contentType", "contentId", "contentSha256", "userId",
                                        "flagged", "categories", "scores", "action", "engine",
                                        "policyVersion")
        SELECT n."id", n."type", n."contentId", n."sha256", n."userId", n."flagged",
               coalesce(string_to_array(nullif(n."categories", ''), ','), '{}'), n."scores",
               n."action", n."engine", n."version"
        FROM new n
    )
    SELECT n."id" FROM new n ORDER BY n."at"

-- statement: moderations.SELECT_POLICY
SELECT p."version", p."policy" FROM "ModerationPolicy" p
    WHERE p."tenantId" = current_setting('app.tenant_id') ORDER BY p."version" DESC LIMIT 1

-- statement: moderations.LOCK_POLICY
SELECT pg_advisory_xact_lock(
        hashtextextended('moderation policy ' || current_setting('app.tenant_id'), 0))

-- statement: moderations.INSERT_POLICY
INSERT INTO "ModerationPolicy" ("version", "policy", "createdBy")
    SELECT 1 + coalesce(max(p."version"), 0), $1::jsonb, $2
    FROM "ModerationPolicy" p WHERE p."tenantId" = current_setting('app.tenant_id')
    RETURNING "version"

-- statement: moderations.SELECT_POLICIES
SELECT p."version", p."policy", p."createdBy", p."createdAt" FROM "ModerationPolicy" p
    WHERE p."tenantId" = current_setting('app.tenant_id') ORDER BY p."version" DESC LIMIT $1

-- statement: outbox.INSERT_JOBS
INSERT INTO "Job" ("job", "queue", "payload", "schemaVersion", "key", "attemptsMax",
                       "limitKey", "cost", "priority", "parentId", "batchId", "producer",
                       "traceparent", "dueAt", "waitingFor")
    SELECT a."job", a."queue", a."payload"::jsonb, a."version", a."key", a."attemptsMax",
           a."limitKey", a."cost", $1::int, $2::text, $3::text,
           $4::text, $5::text,
           now() + $6::float8 * interval '1 second',
           CASE WHEN $6::float8 > 0 THEN 'delay' END
    FROM unnest($7::text[], $8::text[], $9::text[], $10::int[],
                $11::text[], $12::int[], $13::text[],
                $14::int[])
         AS a("job", "queue", "payload", "version", "key", "attemptsMax", "limitKey", "cost")
    ON CONFLICT ("tenantId", "job", "key") WHERE "key" IS NOT NULL DO NOTHING
    RETURNING "job", "key", "id", "state"

-- statement: outbox.SELECT_BY_KEY
SELECT j."job", j."key", j."id", j."state"
    FROM unnest($1::text[], $2::text[]) AS a("job", "key")
    CROSS JOIN LATERAL (
        SELECT * FROM "Job" j
        WHERE j."tenantId" = current_setting('app.tenant_id') AND j."job" = a."job"
          AND j."key" = a."key" LIMIT 1
    ) j

-- statement: outbox.CLAIM
WITH mine AS (
        SELECT j."id" FROM unnest($1::text[], $2::int[]) AS m("id", "attempt")
        JOIN "Job" j ON j."id" = m."id" JOIN "JobFlight" f ON f."jobId" = j."id"
        WHERE j."state" = 'PENDING' AND j."attempt" = m."attempt" AND NOT EXISTS (
            SELECT FROM "JobHold" h
            WHERE (h."queue" IS NULL OR h."queue" = j."queue")
              AND (h."tenantId" IS NULL OR h."tenantId" = j."tenantId")
              AND (h."job" IS NULL OR h."job" = j."job"))
        ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE "Job" j
    SET "state" = 'RUNNING', "attempt" = j."attempt" + 1, "fence" = j."fence" + 1,
        "leaseUntil" = now() + $3::float8 * interval '1 second',
        "startedAt" = clock_timestamp(), "worker" = $4::text, "waitingFor" = NULL
    FROM mine WHERE j."id" = mine."id"
    RETURNING j."id", j."tenantId", j."job", j."queue", j."payload", j."schemaVersion",
              j."attempt", j."attemptsMax", j."crashes", j."fence", j."stepId", j."createdAt",
              j."traceparent", j."timeLimitS", j."backoffS"

-- statement: outbox.SELECT_UNKNOWN
SELECT m."id" FROM unnest($1::text[]) AS m("id")
    WHERE NOT EXISTS (SELECT 1 FROM "Job" j WHERE j."id" = m."id")

-- statement: outbox.RENEW
UPDATE "Job" j SET "leaseUntil" = now() + $1::float8 * interval '1 second'
    FROM unnest($2::text[], $3::bigint[]) AS m("id", "fence")
    WHERE j."id" = m."id" AND j."fence" = m."fence" AND j."state" = 'RUNNING'

-- statement: outbox.SELECT_CANCELLED
SELECT j."id" FROM "Job" j WHERE j."id" = ANY($1::text[]) AND j."state" = 'CANCELLED'

-- statement: outbox.SET_OUTCOME
UPDATE "Job" SET "outcome" = $1::jsonb WHERE "id" = $2 AND "fence" = $3

-- statement: outbox.SET_OUTCOMES
UPDATE "Job" j SET "outcome" = m."outcome"
    FROM unnest($1::text[], $2::bigint[], $3::jsonb[])
         AS m("id", "fence", "outcome")
    WHERE j."id" = m."id" AND j."fence" = m."fence"

-- statement: platform_changes.SELECT_TENANTS
SELECT DISTINCT "tenantId" FROM (
        SELECT "tenantId" FROM "PlatformChange" ORDER BY "changedAt" LIMIT 10000
    ) oldest

-- statement: platform_changes.TAKE
DELETE FROM "PlatformChange" WHERE "id" IN (
        SELECT "id" FROM "PlatformChange"
        WHERE "tenantId" = current_setting('app.tenant_id') ORDER BY "changedAt" LIMIT $1
    ) AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tableName", "rowId", "changedAt"

-- statement: platform_changes.SELECT_UNINGESTED
SELECT "id", "ingestVersion", encode(sha256(convert_to("content", 'UTF8')), 'hex')
    FROM "Document" WHERE "id" = ANY($1::text[])
      AND "ingestedSha256" IS DISTINCT FROM encode(sha256(convert_to("content", 'UTF8')), 'hex')

-- statement: platform_changes.SELECT_MESSAGES
SELECT m."id", m."role"::text, encode(sha256(convert_to(m."content", 'UTF8')), 'hex'),
           m."conversationId", c."analysis",
           coalesce((SELECT left(q."content", $1) FROM "Message" q
                     WHERE m."role" = 'ASSISTANT' AND q."conversationId" = m."conversationId"
                       AND q."role" = 'USER' AND q."createdAt" <= m."createdAt"
                     ORDER BY q."createdAt" DESC, q."id" DESC LIMIT 1), '')
    FROM "Message" m JOIN "Conversation" c ON c."id" = m."conversationId"
    WHERE m."id" = ANY($2::text[]) ORDER BY m."id"

-- statement: platform_changes.SELECT_FEEDBACK
SELECT f."id", f."messageId",
           encode(sha256(convert_to(nullif(f."comment", ''), 'UTF8')), 'hex')
    FROM "Feedback" f WHERE f."id" = ANY($1::text[])

-- statement: preferences.SELECT_PREFERENCE
SELECT p."preferredModel", p."temperature", p."maxTokens", p."customSettings"
    FROM "UserPreference" p WHERE p."userId" = $1

-- statement: preferences.UPSERT_PREFERENCE
INSERT INTO "UserPreference" ("userId", "preferredModel", "temperature", "maxTokens",
                                  "customSettings")
    VALUES ($1, $2::text, $3::float8, $4::int,
            $5::jsonb)
    ON CONFLICT ("userId") DO UPDATE
    SET "preferredModel" = excluded."preferredModel", "temperature" = excluded."temperature",
        "maxTokens" = excluded."maxTokens", "customSettings" = excluded."customSettings"

-- statement: probes.INSERT_ENTRY
INSERT INTO "ProbeEntry" ("jobId", "n") VALUES ($1, $2)

-- statement: probes.INSERT_ENTRIES
INSERT INTO "ProbeEntry" ("jobId", "n")
    SELECT * FROM unnest($1::text[], $2::int[])

-- statement: provenance_records.SELECT_RECORD
SELECT p."messageId", p."modelId", p."inputHash", p."outputHash", p."watermark", p."keyId",
           coalesce(p."citations", '[]'), p."inputs", p."questionId", p."questionSha256",
           m."content", a."slug",
           EXISTS (SELECT FROM "AIModel" o WHERE o."slug" = p."modelId"), q."content"
    FROM "Provenance" p JOIN "Message" m ON m."id" = p."messageId"
    LEFT JOIN "AIModel" a ON a."id" = m."modelId"
    LEFT JOIN "Message" q ON q."id" = p."questionId"
    WHERE p."messageId" = $1

-- statement: provenance_records.SELECT_CITED
SELECT c."id", c."documentId", c."content" FROM "DocumentChunk" c
    WHERE c."id" = ANY($1::text[])

-- statement: quarantines.INSERT_QUARANTINED
INSERT INTO "Quarantine" ("queue", "reason", "message", "bytes", "sha256", "seen")
    SELECT $1, q."reason", q."message", q."bytes", q."sha256", q."seen"
    FROM unnest($2::text[], $3::bytea[], $4::bigint[],
                $5::text[], $6::bigint[])
         AS q("reason", "message", "bytes", "sha256", "seen")
    ORDER BY q."sha256"
    ON CONFLICT ("queue", "sha256") DO UPDATE
    SET "seen" = "Quarantine"."seen" + excluded."seen", "seenAt" = now()

-- statement: quarantines.TRIM
WITH gone AS (
        DELETE FROM "Quarantine" q WHERE q."id" = ANY(ARRAY(
            SELECT o."id" FROM "Quarantine" o
            WHERE EXISTS (SELECT FROM "Quarantine" x
                          ORDER BY x."receivedAt" DESC OFFSET $1 LIMIT 1)
              AND o."receivedAt" <= (SELECT x."receivedAt" FROM "Quarantine" x
                                     ORDER BY x."receivedAt" DESC OFFSET $2 LIMIT 1)
            ORDER BY o."receivedAt" LIMIT $3 FOR UPDATE SKIP LOCKED
        ))
        RETURNING q."queue"
    ), counted AS (
        SELECT g."queue", count(*) AS "count" FROM gone g GROUP BY g."queue"
    ), noted AS (
        INSERT INTO "AuditLog" ("userId", "action", "resource", "metadata")
        SELECT 'platform', 'quarantine.trim', 'Quarantine',
               jsonb_build_object('count', sum(c."count"),
                                  'queues', jsonb_object_agg(c."queue", c."count"))
        FROM counted c HAVING count(*) > 0
    )
    SELECT coalesce(sum(c."count"), 0)::bigint FROM counted c

-- statement: quarantines.SELECT_QUARANTINED
SELECT q."id", q."queue", q."reason", q."bytes", q."sha256", q."receivedAt", q."source",
           q."seen", q."seenAt", q."edits", q."message"
    FROM "Quarantine" q
    WHERE ($1::text[] IS NULL OR q."id" = ANY($1))
      AND ($2::text IS NULL OR q."queue" = $2)
      AND ($3::text IS NULL OR q."reason" ~ $3)
      AND ($4::timestamptz IS NULL OR q."receivedAt" >= $4)
      AND ($5::timestamptz IS NULL OR q."receivedAt" <= $5)
    ORDER BY q."receivedAt" DESC, q."id" DESC LIMIT $6

-- statement: quarantines.COUNT_QUARANTINED
SELECT count(*) FROM "Quarantine" q
    WHERE ($1::text[] IS NULL OR q."id" = ANY($1))
      AND ($2::text IS NULL OR q."queue" = $2)
      AND ($3::text IS NULL OR q."reason" ~ $3)
      AND ($4::timestamptz IS NULL OR q."receivedAt" >= $4)
      AND ($5::timestamptz IS NULL OR q."receivedAt" <= $5)

-- statement: quarantines.SELECT_IDS
SELECT q."id" FROM "Quarantine" q
    WHERE q."id" > $1
      AND ($2::text[] IS NULL OR q."id" = ANY($2))
      AND ($3::text IS NULL OR q."queue" = $3)
      AND ($4::text IS NULL OR q."reason" ~ $4)
      AND ($5::timestamptz IS NULL OR q."receivedAt" >= $5)
      AND ($6::timestamptz IS NULL OR q."receivedAt" <= $6)
    ORDER BY q."id" LIMIT $7

-- statement: quarantines.DISCARD
DELETE FROM "Quarantine" WHERE "id" = ANY($1::text[])
    RETURNING "id", "queue", "bytes", ''::bytea

-- statement: quarantines.TAKE_WHOLE
DELETE FROM "Quarantine"
    WHERE "id" = ANY($1::text[]) AND "bytes" = octet_length("message")
      AND "source" = 'wakeup'
    RETURNING "id", "queue", "bytes", "message"

-- statement: quarantines.EDIT
UPDATE "Quarantine"
    SET "message" = $1, "bytes" = octet_length($1::bytea),
        "sha256" = $2, "edits" = "edits" || $3::jsonb
    WHERE "id" = $4 AND "sha256" = $5

-- statement: recollections.SELECT_NEAREST
WITH near AS MATERIALIZED (
        SELECT e."messageId", e."embedding" FROM "MessageEmbedding" e
        WHERE e."tenantId" = current_setting('app.tenant_id') AND e."model" = $1
          AND e."bits" IS NOT NULL
          AND ($2::text IS NULL OR EXISTS (
              SELECT FROM "Message" m JOIN "Conversation" c ON c."id" = m."conversationId"
              WHERE m."id" = e."messageId" AND c."userId" = $2::text))
        ORDER BY e."bits" <~> $3::bit(1536) LIMIT $4
    )
    SELECT m."id", m."conversationId", m."role"::text, m."content",
           m."createdAt" AT TIME ZONE 'UTC', 1 - (n."embedding" <=> $5::vector)
    FROM near n JOIN "Message" m ON m."id" = n."messageId"
    WHERE NOT EXISTS (SELECT FROM "ModerationResult" r
                      WHERE r."tenantId" = current_setting('app.tenant_id')
                        AND r."contentId" = m."id" AND NOT r."superseded" AND r."action" = 'block')
    ORDER BY n."embedding" <=> $5::vector, m."id" LIMIT $6

-- statement: replays.SELECT_UNBEGUN
SELECT j."id" FROM (
        SELECT o."jobId" FROM "JobOutbox" o
        WHERE ($1::text IS NULL OR o."queue" = $1)
          AND ($2::text IS NULL OR o."job" = $2)
          AND ($3::text IS NULL OR o."tenantId" = $3)
        UNION ALL
        SELECT f."jobId" FROM "JobFlight" f
        WHERE ($1::text IS NULL OR f."queue" = $1)
          AND ($2::text IS NULL OR f."job" = $2)
          AND ($3::text IS NULL OR f."tenantId" = $3)
    ) AS w
    JOIN "Job" j ON j."id" = w."jobId"
    WHERE j."state" = 'PENDING' AND j."waitingFor" = 'replay'
    ORDER BY j."id"

-- statement: replays.UNDO
WITH mine AS (
        SELECT j."id" FROM "Job" j
        WHERE j."id" = ANY($1::text[]) AND j."state" = 'PENDING'
          AND j."waitingFor" = 'replay'
        ORDER BY j."id" FOR UPDATE
    ), ended AS (
        UPDATE "Job" j
        SET "state" = 'DEAD', "finishedAt" = clock_timestamp(), "waitingFor" = NULL,
            "fence" = j."fence" + 1
        FROM mine WHERE j."id" = mine."id" AND j."state" = 'PENDING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended e WHERE f."jobId" = e."id"
    ), buried AS (
        INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason",
                                  "error", "fingerprint")
        SELECT e."tenantId", e."id", e."job", e."queue", coalesce(a."attempt", 0),
               CASE a."verdict" WHEN 'refused' THEN 'permanent' WHEN 'crashed' THEN 'poison'
                                ELSE 'exhausted' END,
               coalesce(a."error", e."error", ''), coalesce(a."fingerprint", '')
        FROM ended e LEFT JOIN LATERAL (
            SELECT * FROM "JobAttempt" l WHERE l."jobId" = e."id" ORDER BY l."fence" DESC LIMIT 1
        ) AS a ON true
        ORDER BY e."id"
    ), unqueued AS (
        DELETE FROM "JobOutbox" o USING ended e
        WHERE o."queue" = e."queue" AND o."tenantId" = e."tenantId" AND o."job" = e."job"
          AND o."limitKey" = e."limitKey" AND o."priority" = e."priority"
          AND o."dueAt" = e."dueAt" AND o."jobId" = e."id"
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'DEAD', "batchId" FROM ended
    )
    SELECT e."id", e."tenantId" FROM ended e ORDER BY e."id"

-- statement: replays.SELECT_OUTCOME
SELECT count(*) FILTER (WHERE j."state" IN ('COMPLETED', 'CANCELLED')),
           count(*) FILTER (WHERE j."state" = 'DEAD'
                            OR j."state" = 'PENDING' AND j."waitingFor" = 'retry')
    FROM "Job" j WHERE j."id" = ANY($1::text[])

-- statement: retentions.TAKE_TURNS
SELECT pg_advisory_xact_lock(hashtext('ailydian'), hashtext('retention'))

-- statement: retentions.INSERT_QUEUES
INSERT INTO "QueueState" ("queue") SELECT unnest($1::text[])
    ON CONFLICT ("queue") DO NOTHING

-- statement: retentions.SELECT_KEEPS
SELECT q."queue", q."keepDone", q."keepDead", q."keepQuarantined" FROM "QueueState" q
    WHERE q."queue" = ANY($1::text[])
    ORDER BY array_position($1::text[], q."queue")

-- statement: retentions.UPDATE_KEEP
UPDATE "QueueState" SET "keepDone" = coalesce($1::interval, "keepDone"),
        "keepDead" = coalesce($2::interval, "keepDead"),
        "keepQuarantined" = coalesce($3::interval, "keepQuarantined")
    WHERE "queue" = $4

-- statement: retentions.SELECT_PLACE
SELECT "xid"::text, "position" FROM "EventCursor" WHERE "reader" = 'retention:' || $1

-- statement: retentions.SELECT_EVENTS
WITH read AS (
        SELECT c."xid", c."position" FROM "EventCursor" c
        WHERE c."reader" NOT LIKE 'retention:%' ORDER BY c."xid", c."position" LIMIT 1
    )
    SELECT e."xid"::text, e."position", e."jobId", e."queue",
           e."what" IN ('COMPLETED', 'CANCELLED', 'DISCARDED'), e."at" < now() - $1::interval
    FROM "JobEvent" e
    WHERE (e."xid", e."position") > ($2::text::xid8, $3::bigint)
      AND e."xid" < pg_snapshot_xmin(pg_current_snapshot())
      AND NOT EXISTS (
          SELECT FROM read r WHERE (r."xid", r."position") < (e."xid", e."position"))
    ORDER BY e."xid", e."position" LIMIT $4

-- statement: retentions.LOCK_DONE
SELECT j."id" FROM "Job" j
    WHERE j."id" = ANY($1::text[]) AND j."state" IN ('COMPLETED', 'CANCELLED')
      AND j."finishedAt" < now() - $2::interval
    ORDER BY j."id" FOR UPDATE

-- statement: retentions.LOCK_DEAD
WITH ripe AS (
        SELECT r."jobId" FROM (SELECT "id" FROM "Tenant") t
        CROSS JOIN LATERAL (
            SELECT d."jobId" FROM "DeadLetter" d
            JOIN unnest($1::text[], $2::interval[]) AS k("queue", "age")
              ON k."queue" = d."queue"
            WHERE d."tenantId" = t."id" AND d."diedAt" < now() - $3::interval
              AND d."diedAt" < now() - k."age"
            ORDER BY d."diedAt" LIMIT $4
        ) r
    )
    SELECT j."id" FROM "Job" j
    WHERE j."id" = ANY(ARRAY(SELECT "jobId" FROM ripe)) AND j."state" = 'DEAD'
    ORDER BY j."id" LIMIT $4 FOR UPDATE SKIP LOCKED

-- statement: retentions.LOCK_QUARANTINED
SELECT q."id" FROM "Quarantine" q
    JOIN unnest($1::text[], $2::interval[]) AS k("queue", "age")
      ON k."queue" = q."queue"
    WHERE q."receivedAt" < now() - $3::interval
      AND q."receivedAt" < now() - k."age" AND q."seenAt" < now() - k."age"
    ORDER BY q."receivedAt" LIMIT $4 FOR UPDATE OF q SKIP LOCKED

-- statement: retentions.SELECT_JOB_LINES
SELECT jsonb_build_object(
        'kind', CASE WHEN j."state" = 'DEAD' THEN 'dead' ELSE 'done' END,
        'archivedAt', now(),
        'tenant', (SELECT t."slug" FROM "Tenant" t WHERE t."id" = j."tenantId"),
        'job', to_jsonb(j),
        'letter', (SELECT to_jsonb(d) FROM "DeadLetter" d
                   WHERE d."tenantId" = j."tenantId" AND d."jobId" = j."id"),
        'attempts', (SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY a."fence"), '[]')
                     FROM "JobAttempt" a WHERE a."jobId" = j."id"))::text
    FROM "Job" j WHERE j."id" = ANY($1::text[]) ORDER BY j."id"

-- statement: retentions.SELECT_QUARANTINED_LINES
SELECT jsonb_build_object('kind', 'quarantined', 'archivedAt', now(),
        'message', (to_jsonb(q) - 'message')
                   || jsonb_build_object('base64', encode(q."message", 'base64')))::text
    FROM "Quarantine" q WHERE q."id" = ANY($1::text[]) ORDER BY q."id"

-- statement: retentions.DELETE_JOBS
WITH gone AS (DELETE FROM "Job" WHERE "id" = ANY($1::text[]) RETURNING "queue")
    SELECT "queue", count(*) FROM gone GROUP BY 1

-- statement: retentions.DELETE_QUARANTINED
WITH gone AS (DELETE FROM "Quarantine" WHERE "id" = ANY($1::text[]) RETURNING "queue")
    SELECT "queue", count(*) FROM gone GROUP BY 1

-- statement: retentions.COUNT_DONE
SELECT "queue", count(*) FROM "Job"
    WHERE "id" = ANY($1::text[]) AND "state" IN ('COMPLETED', 'CANCELLED')
      AND "finishedAt" < now() - $2::interval
    GROUP BY 1

-- statement: retentions.COUNT_DEAD
SELECT d."queue", count(*) FROM "DeadLetter" d
    JOIN "Job" j ON j."id" = d."jobId" AND j."state" = 'DEAD'
    JOIN unnest($1::text[], $2::interval[]) AS k("queue", "age")
      ON k."queue" = d."queue"
    WHERE d."diedAt" < now() - k."age" GROUP BY 1

-- statement: retentions.COUNT_QUARANTINED
SELECT q."queue", count(*) FROM "Quarantine" q
    JOIN unnest($1::text[], $2::interval[]) AS k("queue", "age")
      ON k."queue" = q."queue"
    WHERE q."receivedAt" < now() - k."age" AND q."seenAt" < now() - k."age" GROUP BY 1

-- statement: retentions.DELETE_EVENTS
DELETE FROM "JobEvent" e
    WHERE (e."xid", e."position") > ($1::text::xid8, $2::bigint)
      AND (e."xid", e."position") <= ($3::text::xid8, $4::bigint)
      AND e."queue" = ANY($5::text[])

-- statement: retentions.MOVE
INSERT INTO "EventCursor" ("reader", "xid", "position")
    VALUES ('retention:' || $1, $2::text::xid8, $3::bigint)
    ON CONFLICT ("reader") DO UPDATE
    SET "xid" = excluded."xid", "position" = excluded."position", "movedAt" = now()

-- statement: retentions.DELETE_OTHER_WALKS
DELETE FROM "EventCursor"
    WHERE "reader" LIKE 'retention:%' AND "reader" <> ALL($1::text[])

-- statement: retrieval.SELECT_NEAREST
SELECT n."chunkId", t."language", n."cosine" FROM (
        SELECT s."chunkId", 1 - (s."embedding" <=> $1::halfvec(1536)) AS "cosine" FROM (
            SELECT "chunkId", "embedding" FROM "ChunkVector"
            WHERE "tenantId" = $2 AND "model" = $3
            ORDER BY "bits" <~> $4::bit(1536) LIMIT $5
        ) s
        ORDER BY 2 DESC, 1 LIMIT $6 OFFSET 0
    ) n
    LEFT JOIN "ChunkText" t ON t."tenantId" = $2 AND t."chunkId" = n."chunkId"
    ORDER BY n."cosine" DESC, n."chunkId"

-- statement: retrieval.SELECT_BY_WORDS
SELECT "chunkId", "share"
    FROM ailydian_search_text($1::text[], $2::text, $3::int)

-- statement: retrieval.SELECT_CANDIDATES
SELECT t."chunkId", t."language", 1 - (v."embedding" <=> $1::halfvec(1536))
    FROM "ChunkText" t
    LEFT JOIN "ChunkVector" v ON v."tenantId" = $2 AND v."model" = $3
                             AND v."chunkId" = t."chunkId"
    WHERE t."tenantId" = $2 AND t."chunkId" = ANY($4::text[])

-- statement: retrieval.SELECT_PASSAGES
SELECT c."id", c."documentId", d."title", d."source", c."content", c."startOffset",
           c."endOffset", coalesce(c."headings", '{}')
    FROM "DocumentChunk" c
    JOIN "Document" d ON d."id" = c."documentId"
    WHERE c."id" = ANY($1::text[])

-- statement: roles.SELECT_BYPASSES
SELECT r.rolname,
           CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolbypassrls THEN 'has BYPASSRLS'
                ELSE 'owns the tables' END
    FROM pg_roles r
    WHERE r.rolname IN ('ailydian_app', 'ailydian_relay')
      AND (r.rolsuper OR r.rolbypassrls
           OR pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c
                                  WHERE c.oid = '"Document"'::regclass), 'MEMBER'))

-- statement: roles.SELECT_UNPROTECTED
SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND c.relname IN ('Document', 'DocumentChunk', 'ChunkEmbedding', 'ChunkVector', 'ChunkText',
                        'Message', 'MessageEmbedding', 'Job', 'Upload')
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    ORDER BY 1

-- statement: schedules.LOCK
SELECT s."id", NULL, s."name", s."cron", s."timeZone", s."jitterS", s."missed", s."job",
           s."payload", s."sweep", s."enabled", s."slotAt", s."nextAt", s."ranSlotAt", s."ranAt",
           s."lastJobId", s."error"
    FROM "Schedule" s
    WHERE coalesce(s."tenantId", '') = current_setting('app.tenant_id') AND s."name" = $1
    FOR UPDATE

-- statement: schedules.SELECT_NOW
SELECT clock_timestamp()

-- statement: schedules.INSERT_DRAFT
INSERT INTO "Schedule" ("name", "cron", "timeZone", "job", "enabled", "slotAt", "nextAt")
    VALUES ($1, '', '', $2, false, now(), now())
    ON CONFLICT (coalesce("tenantId", ''), "name") DO NOTHING

-- statement: schedules.UPDATE
UPDATE "Schedule"
    SET "cron" = $1, "timeZone" = $2, "jitterS" = $3,
        "missed" = $4, "job" = $5, "payload" = $6::jsonb,
        "enabled" = $7, "slotAt" = $8, "nextAt" = $9, "error" = NULL
    WHERE "id" = $10

-- statement: schedules.DELETE
DELETE FROM "Schedule"
    WHERE coalesce("tenantId", '') = current_setting('app.tenant_id') AND "name" = $1
    RETURNING "id"

-- statement: schedules.SELECT_SCHEDULES
SELECT s."id", t."slug", s."name", s."cron", s."timeZone", s."jitterS", s."missed", s."job",
           s."payload", s."sweep", s."enabled", s."slotAt", s."nextAt", s."ranSlotAt", s."ranAt",
           s."lastJobId", s."error"
    FROM "Schedule" s LEFT JOIN "Tenant" t ON t."id" = s."tenantId"
    WHERE $1::text IS NULL OR s."tenantId" = $1
    ORDER BY t."slug" NULLS FIRST, s."name" LIMIT $2

-- statement: schedules.SELECT_DUE
SELECT "tenantId", "id" FROM "Schedule"
    WHERE "enabled" AND "nextAt" <= now() AND "tenantId" IS NOT NULL
    ORDER BY "nextAt" LIMIT $1

-- statement: schedules.CLAIM
SELECT "id", "name", "cron", "timeZone", "jitterS", "missed", "job", "payload", "slotAt", now()
    FROM "Schedule"
    WHERE "id" = ANY($1::text[]) AND "enabled" AND "nextAt" <= now()
    FOR UPDATE SKIP LOCKED

-- statement: schedules.CLAIM_SWEEP
SELECT "id", "name", "cron", "timeZone", "jitterS", "missed", "job", "payload", "slotAt", now()
    FROM "Schedule"
    WHERE "sweep" = $1 AND "tenantId" IS NULL AND "enabled" AND "nextAt" <= now()
    LIMIT 1 FOR UPDATE SKIP LOCKED

-- statement: schedules.ADVANCE
UPDATE "Schedule" s
    SET "slotAt" = a."slotAt", "nextAt" = a."nextAt", "error" = a."error",
        "ranSlotAt" = coalesce(a."ranSlotAt", s."ranSlotAt"),
        "ranAt" = CASE WHEN a."ranSlotAt" IS NULL THEN s."ranAt" ELSE now() END,
        "lastJobId" = coalesce(a."jobId", s."lastJobId")
    FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[],
                $4::timestamptz[], $5::text[], $6::text[])
         AS a("id", "slotAt", "nextAt", "ranSlotAt", "jobId", "error")
    WHERE s."id" = a."id"

-- statement: schedules.POSTPONE
UPDATE "Schedule" SET "nextAt" = now() + $1::float8 * interval '1 second',
        "error" = $2
    WHERE "id" = $3

-- statement: schedules.DISABLE
UPDATE "Schedule" SET "enabled" = false, "error" = $1 WHERE "id" = $2

-- statement: schedules.NOTE
UPDATE "Schedule" SET "error" = $1::text
    WHERE "id" = $2 AND "error" IS DISTINCT FROM $1::text

-- statement: schedules.SELECT_WAIT
SELECT extract(epoch FROM "nextAt" - clock_timestamp())::float8 FROM "Schedule"
    WHERE "enabled" AND "tenantId" IS NOT NULL ORDER BY "nextAt" LIMIT 1

-- statement: schedules.PUT_SWEEP
INSERT INTO "Schedule" ("tenantId", "name", "cron", "sweep", "slotAt", "nextAt")
    VALUES (NULL, $1, $2, $1, now(), now())
    ON CONFLICT (coalesce("tenantId", ''), "name") DO UPDATE SET "slotAt" = now(), "nextAt" = now()
    WHERE $3::bool AND "Schedule"."nextAt" > now()

-- statement: schema_facts.SELECT_EXTENSION_VERSION
SELECT extversion FROM pg_extension WHERE extname = 'vector'

-- statement: schema_facts.SELECT_TABLES
SELECT relname, relowner::regrole::text, relrowsecurity AND relforcerowsecurity,
           obj_description(oid, 'pg_class')
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    ORDER BY relname

-- statement: schema_facts.SELECT_COLUMNS
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY c.relname, a.attnum

-- statement: schema_facts.SELECT_ENUMS
SELECT t.typname, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
    FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
    WHERE t.typnamespace = 'public'::regnamespace
    GROUP BY t.typname

-- statement: schema_facts.SELECT_INDEXES
SELECT t.relname, c.relname, i.indisunique,
           (SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number)
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = 'public'::regnamespace AND i.indisvalid
    ORDER BY t.relname, c.relname

-- statement: schema_facts.SELECT_FOREIGN_KEYS
SELECT f.conname, c.relname,
           (SELECT array_agg(a.attname::text ORDER BY k.place)
            FROM unnest(f.conkey) WITH ORDINALITY AS k(number, place)
            JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
           p.relname, f.confdeltype::text, f.confupdtype::text
    FROM pg_constraint f
    JOIN pg_class c ON c.oid = f.conrelid
    JOIN pg_class p ON p.oid = f.confrelid
    WHERE f.contype = 'f' AND c.relnamespace = 'public'::regnamespace AND f.conparentid = 0
    ORDER BY c.relname, f.conname

-- statement: schema_facts.SELECT_POLICIES
SELECT c.relname, r.rolname, p.polcmd::text, pg_get_expr(p.polqual, p.polrelid),
           pg_get_expr(p.polwithcheck, p.polrelid)
    FROM pg_policy p
    JOIN pg_class c ON c.oid = p.polrelid
    CROSS JOIN LATERAL unnest(p.polroles) AS holder(id)
    LEFT JOIN pg_roles r ON r.oid = holder.id
    WHERE c.relnamespace = 'public'::regnamespace
    ORDER BY c.relname, r.rolname

-- statement: schema_facts.SELECT_ROLES
SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls,
           pg_has_role(current_setting('session_authorization'), oid, 'MEMBER')
    FROM pg_roles WHERE starts_with(rolname, 'ailydian_') ORDER BY rolname

-- statement: schema_facts.SELECT_TRIGGERS
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgenabled = 'O'

-- statement: schema_facts.SELECT_LOOSE_FUNCTIONS
SELECT proname FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND prosecdef
      AND proowner = 'ailydian_owner'::regrole
      AND NOT EXISTS (SELECT 1 FROM unnest(proconfig) AS setting
                      WHERE starts_with(setting, 'search_path='))
    ORDER BY proname

-- statement: scores.SELECT_ANSWERS
SELECT "id", "content", "intent" FROM "Message" WHERE "id" = ANY($1::text[])

-- statement: scores.UPSERT_ESTIMATES
WITH new AS MATERIALIZED (
        SELECT n.* FROM unnest($1::text[], $2::float8[], $3::jsonb[],
                               $4::text[]) AS n("id", "score", "metrics", "intent")
        JOIN "Message" m ON m."id" = n."id"
    ), told AS (
        UPDATE "Message" m SET "intent" = n."intent" FROM new n
        WHERE m."id" = n."id" AND m."intent" IS NULL
    )
    INSERT INTO "QualityScore" ("messageId", "estimatedScore", "metrics")
    SELECT n."id", n."score", n."metrics" FROM new n ORDER BY n."id"
    ON CONFLICT ("messageId") DO UPDATE
    SET "estimatedScore" = excluded."estimatedScore", "metrics" = excluded."metrics"

-- statement: scores.APPLY_RATINGS
WITH last AS (
        SELECT DISTINCT ON (f."userId") f."userId", f."rating", f."createdAt" FROM "Feedback" f
        WHERE f."messageId" = $1
        ORDER BY f."userId", f."createdAt" DESC, f."id" DESC
    ), valued AS (
        SELECT l."userId", CASE WHEN l."rating" <= 0 THEN 0.0
                                WHEN l."rating" = 1 AND (SELECT min(x."rating") FROM last x) < 1
                                THEN 1.0
                                ELSE (least(l."rating", 5) - 1) / 4.0 END AS "value"
        FROM last l
    ), kept AS (
        UPDATE "QualityScore" q SET "actualScore" = (SELECT avg(v."value") FROM valued v)
        WHERE q."messageId" = $1
    )
    SELECT v."userId", v."value"::float8 FROM valued v ORDER BY v."userId"

-- statement: scores.SELECT_RATED
SELECT DISTINCT f."messageId" FROM "Feedback" f WHERE f."messageId" = ANY($1::text[])

-- statement: scores.SELECT_PAIRS
SELECT (q."metrics" ->> 'raw')::float8, q."actualScore" FROM "QualityScore" q
    WHERE q."tenantId" = current_setting('app.tenant_id') AND q."actualScore" IS NOT NULL
      AND jsonb_typeof(q."metrics" -> 'raw') = 'number'
    ORDER BY q."createdAt" DESC, q."id" DESC LIMIT $1

-- statement: scores.SELECT_CALIBRATION
SELECT c."version", c."method", c."curve", c."pairs", c."errorRaw", c."error"
    FROM "QualityCalibration" c WHERE c."tenantId" = current_setting('app.tenant_id')
    ORDER BY c."version" DESC LIMIT 1

-- statement: scores.INSERT_CALIBRATION
INSERT INTO "QualityCalibration" ("version", "method", "curve", "pairs", "errorRaw", "error")
    SELECT 1 + coalesce(max(c."version"), 0), $1, $2::jsonb, $3,
           $4, $5
    FROM "QualityCalibration" c WHERE c."tenantId" = current_setting('app.tenant_id')
    RETURNING "version"

-- statement: semantic_entries.TOUCH
WITH found AS MATERIALIZED (
        SELECT coalesce((SELECT h."id" FROM "SemanticCache" h
                         WHERE h."queryHash" = $1), $2::text) AS "id"
    )
    UPDATE "SemanticCache" s
    SET "hitCount" = s."hitCount" + 1, "lastAccessedAt" = now() AT TIME ZONE 'UTC'
    FROM found f
    WHERE s."id" = f."id" AND s."tenantId" || '' = $3
      AND (s."queryHash" || '' = $1
           OR (s."scope" || '' = $4 AND s."guard" || '' = $5))
      AND s."expiresAt" - now() AT TIME ZONE 'UTC' > interval '0'
    RETURNING s."id", coalesce(s."question", ''), s."response", s."modelId",
              coalesce(s."citations", '[]'), coalesce(s."tokensIn", 0), coalesce(s."tokensOut", 0),
              coalesce(s."costUsd", 0), s."queryHash" = $1

-- statement: semantic_entries.SELECT_NEAR
SELECT n."id", n."question", 1 - (n."queryEmbedding" <=> $1::vector(1536)) FROM (
        SELECT a."id", a."question", a."queryEmbedding" FROM (
            SELECT "id", "question", "queryEmbedding", "bits" FROM "SemanticCache"
            WHERE "tenantId" = $2 AND "scope" = $3 AND "guard" = $4
              AND "bits" IS NOT NULL AND "expiresAt" - now() AT TIME ZONE 'UTC' > interval '0'
            LIMIT $5
        ) a
        ORDER BY a."bits" <~> $6::bit(1536) LIMIT $7 OFFSET 0
    ) n
    ORDER BY 3 DESC, 1

-- statement: semantic_entries.LOCK_DOCUMENTS
SELECT FROM "Document" WHERE "id" = ANY($1::text[]) ORDER BY "id" FOR SHARE

-- statement: semantic_entries.STORE
WITH given AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
            AS g("chunkId", "documentId", "sha256")
    ), made AS (
        INSERT INTO "SemanticCache" AS s
            ("tenantId", "queryHash", "scope", "guard", "question", "queryEmbedding", "bits",
             "response", "modelId", "citations", "tokensIn", "tokensOut", "costUsd", "expiresAt")
        SELECT $4, $5, $6, $7, $8,
               $9::vector(1536), $10::bit(1536), $11, $12,
               $13::jsonb, $14, $15, $16,
               now() AT TIME ZONE 'UTC' + $17::float8 * interval '1 second'
        WHERE NOT EXISTS (
            SELECT FROM given g WHERE NOT EXISTS (
                SELECT FROM "DocumentChunk" c
                WHERE c."id" = g."chunkId" AND c."documentId" = g."documentId"
                  AND encode(sha256(convert_to(c."content", 'UTF8')), 'hex') = g."sha256"))
        ON CONFLICT ("queryHash") DO UPDATE
        SET "response" = excluded."response", "citations" = excluded."citations",
            "queryEmbedding" = excluded."queryEmbedding", "bits" = excluded."bits",
            "tokensIn" = excluded."tokensIn", "tokensOut" = excluded."tokensOut",
            "costUsd" = excluded."costUsd", "expiresAt" = excluded."expiresAt",
            "scope" = excluded."scope", "guard" = excluded."guard"
        RETURNING s."id"
    ), cited AS (
        INSERT INTO "CacheSource" ("tenantId", "entryId", "documentId")
        SELECT DISTINCT $4, m."id", g."documentId" FROM made m CROSS JOIN given g
        ON CONFLICT DO NOTHING
    )
    SELECT "id" FROM made

-- statement: semantic_entries.FORGET_DOCUMENTS
DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT "entryId" FROM "CacheSource"
        WHERE "tenantId" = current_setting('app.tenant_id')
          AND "documentId" = ANY($1::text[]))

-- statement: semantic_entries.FORGET_ANSWERS
DELETE FROM "SemanticCache"
    WHERE "tenantId" = current_setting('app.tenant_id')
      AND md5("response") = ANY(SELECT md5(r) FROM unnest($1::text[]) r)
      AND "response" = ANY($1::text[])

-- statement: semantic_entries.CLEAR
DELETE FROM "SemanticCache" WHERE "tenantId" = current_setting('app.tenant_id')

-- statement: semantic_entries.PRUNE_EXPIRED
DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT "id" FROM "SemanticCache"
        WHERE "tenantId" = current_setting('app.tenant_id')
          AND "expiresAt" <= now() AT TIME ZONE 'UTC'
        LIMIT $1)

-- statement: semantic_entries.PRUNE_UNUSED
DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT "id" FROM "SemanticCache" WHERE "tenantId" = current_setting('app.tenant_id')
        ORDER BY "lastAccessedAt" DESC, "id" OFFSET $1 LIMIT $2)

-- statement: semantic_entries.SELECT_FIGURES
SELECT "modelId", count(*), count(*) FILTER (WHERE "expiresAt" <= now() AT TIME ZONE 'UTC'),
           coalesce(sum("hitCount"), 0), coalesce(sum("costUsd"), 0),
           coalesce(sum("hitCount" * "costUsd"), 0)
    FROM "SemanticCache" WHERE "tenantId" = current_setting('app.tenant_id')
    GROUP BY "modelId" ORDER BY "modelId"

-- statement: stats.SELECT_JOB_STATS
SELECT "job", "queue", "completed", "dead", "cancelled", "retried", "tookS", "waitedS",
           "tookBuckets", "waitedBuckets"
    FROM "JobStat" ORDER BY "job"

-- statement: stats.SELECT_LEASES
SELECT count(*), count(*) FILTER (WHERE j."leaseUntil" < now())
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId" WHERE j."state" = 'RUNNING'

-- statement: stats.COUNT_DEAD
SELECT d."queue", d."reason", count(*)
    FROM unnest($1::text[]) AS q("queue") CROSS JOIN LATERAL (
        SELECT d."queue", d."reason" FROM "DeadLetter" d WHERE d."queue" = q."queue"
        LIMIT $2) d
    GROUP BY 1, 2

-- statement: stats.COUNT_QUARANTINED
SELECT q."queue", (SELECT count(*) FROM (
        SELECT FROM "Quarantine" m WHERE m."queue" = q."queue" LIMIT $1) m)
    FROM unnest($2::text[]) AS q("queue")

-- statement: stats.SELECT_DEPTHS_MAX
SELECT "queue", "depthMax" FROM "QueueState"

-- statement: stats.SELECT_TABLES
SELECT s.relname, pg_total_relation_size(s.relid), s.n_live_tup, s.n_dead_tup
    FROM pg_stat_user_tables s
    WHERE s.schemaname = 'public' AND s.relname = ANY($1::text[]) ORDER BY 1

-- statement: stats.SELECT_OPEN
SELECT (SELECT count(*) FROM (SELECT FROM "JobBatch" b WHERE b."finishedAt" IS NULL
                                  LIMIT 10000) b),
           (SELECT count(*) FROM "Schedule" s WHERE s."error" IS NOT NULL)

-- statement: stats.SELECT_FAILING
SELECT s."name", t."slug", s."error" FROM "Schedule" s
    LEFT JOIN "Tenant" t ON t."id" = s."tenantId"
    WHERE s."error" IS NOT NULL ORDER BY s."name" LIMIT $1

-- statement: stats.SELECT_KINDS
SELECT "job", "queue", "schemaVersion" FROM "JobKind"

-- statement: training_examples.LOCK_QUESTION
SELECT pg_advisory_xact_lock(hashtextextended(
        'question' || current_setting('app.tenant_id') || coalesce((
            SELECT p."questionSha256" FROM "Provenance" p WHERE p."messageId" = $1
        ), $1), 0))

-- statement: training_examples.SELECT_ANSWERS
WITH asked AS (
        SELECT p."questionSha256" FROM "Provenance" p
        WHERE p."messageId" = $1 AND p."questionId" IS NOT NULL
    ), answer AS (
        SELECT $1::text AS "id"
        UNION
        SELECT * FROM (
            SELECT p."messageId" FROM asked a JOIN "Provenance" p
            ON p."tenantId" = current_setting('app.tenant_id')
               AND p."questionSha256" = a."questionSha256"
            WHERE EXISTS (SELECT FROM "Feedback" f WHERE f."messageId" = p."messageId")
            ORDER BY p."createdAt" DESC, p."id" DESC LIMIT $2
        ) newest
    )
    SELECT m."id", m."role"::text, m."content", c."userId", q."content",
           (SELECT avg(CASE WHEN l."rating" <= 0 THEN 0.0
                            WHEN l."rating" = 1 AND l."least" < 1 THEN 1.0
                            ELSE (least(l."rating", 5) - 1) / 4.0 END)
            FROM (SELECT f."rating", min(f."rating") OVER () AS "least" FROM (
                      SELECT DISTINCT ON (f."userId") f."rating" FROM "Feedback" f
                      WHERE f."messageId" = m."id"
                      ORDER BY f."userId", f."createdAt" DESC, f."id" DESC) f) l)::float8,
           NOT EXISTS (SELECT FROM "ModerationResult" r
                       WHERE r."tenantId" = current_setting('app.tenant_id')
                         AND r."contentId" IN (m."id", p."questionId")
                         AND r."flagged" AND NOT r."superseded")
           AND NOT EXISTS (SELECT FROM "DSARRequest" d
                           WHERE d."userId" = c."userId" AND d."type" = 'DELETION'
                             AND d."status" <> 'REJECTED')
    FROM answer a JOIN "Message" m ON m."id" = a."id"
    JOIN "Conversation" c ON c."id" = m."conversationId"
    LEFT JOIN "Provenance" p ON p."messageId" = m."id"
    LEFT JOIN "Message" q ON q."id" = p."questionId"
    ORDER BY m."id"

-- statement: training_examples.REPLACE
WITH kept AS (
        INSERT INTO "TrainingExample" AS t ("prompt", "completion", "rating", "source", "digest",
                                            "messageId", "userId", "rejected", "rejectedId")
        SELECT * FROM unnest($1::text[], $2::text[], $3::float8[],
                             $4::text[], $5::text[], $6::text[],
                             $7::text[], $8::text[], $9::text[])
        ON CONFLICT ("tenantId", "digest") DO UPDATE
        SET "rating" = excluded."rating", "withdrawnAt" = NULL
        RETURNING t."digest"
    )
    UPDATE "TrainingExample" t SET "withdrawnAt" = now()
    WHERE (t."messageId" = $10 OR t."rejectedId" = $10)
      AND t."withdrawnAt" IS NULL AND t."digest" <> ALL($5::text[])

-- statement: training_examples.SELECT_EXAMPLES
SELECT t."id", t."prompt", t."completion", t."rejected", t."rating", t."source",
           t."createdAt" AT TIME ZONE 'UTC'
    FROM "TrainingExample" t
    CROSS JOIN LATERAL (SELECT ARRAY[t."messageId", t."rejectedId"] AS "answers") a
    WHERE t."tenantId" = current_setting('app.tenant_id') AND t."withdrawnAt" IS NULL
      AND t."id" > $1 AND ($2::text IS NULL OR t."source" = $2::text)
      AND NOT EXISTS (SELECT FROM "ModerationResult" r
                      WHERE r."tenantId" = current_setting('app.tenant_id')
                        AND r."contentId" IN (
                            SELECT unnest(a."answers")
                            UNION ALL
                            SELECT p."questionId" FROM "Provenance" p
                            WHERE p."messageId" = ANY(a."answers"))
                        AND r."flagged" AND NOT r."superseded")
      AND NOT EXISTS (SELECT FROM "DSARRequest" d
                      WHERE d."type" = 'DELETION' AND d."status" <> 'REJECTED'
                        AND d."userId" IN (
                            SELECT t."userId"
                            UNION ALL
                            SELECT c."userId" FROM "Message" m
                            JOIN "Conversation" c ON c."id" = m."conversationId"
                            WHERE m."id" = ANY(a."answers")))
    ORDER BY t."id" LIMIT $3

-- statement: trust_scores.UPDATE
SELECT "userId", "score" FROM ailydian_update_trust(
        $1::text[], $2::text[], $3::text[], $4::float8[],
        $5::timestamptz[], $6::timestamptz[], $7::bool[],
        $8::text[], $9::float8[], $10::float8[],
        $11::float8[], $12::float8[], $13::float8,
        coalesce($14::timestamptz, now()))

-- statement: trust_scores.SELECT_SCORES
SELECT t."userId", t."score" FROM "TrustScore" t WHERE t."userId" = ANY($1::text[])

-- statement: trust_scores.SELECT_PEOPLE
SELECT u."id" FROM "User" u WHERE u."id" > $1 ORDER BY u."id" LIMIT $2

-- statement: trust_scores.SELECT_TRUST
SELECT t."userId", u."email", t."score", t."factors", t."updatedAt" AT TIME ZONE 'UTC'
    FROM "TrustScore" t LEFT JOIN "User" u ON u."id" = t."userId"
    WHERE t."tenantId" = current_setting('app.tenant_id')
      AND ($1::text IS NULL OR t."userId" = $1::text)
      AND t."score" < $2
    ORDER BY t."score", t."userId" LIMIT $3

-- statement: trust_scores.SELECT_EVENTS
SELECT e."kind", e."sourceId", e."value", e."occurredAt", e."withdrawn" FROM "TrustEvent" e
    WHERE e."tenantId" = current_setting('app.tenant_id') AND e."userId" = $1
    ORDER BY e."occurredAt" DESC, e."kind", e."sourceId" LIMIT $2

-- statement: trust_scores.SELECT_SIGNALS
SELECT s."userId", 'session', s."id", s."createdAt" AT TIME ZONE 'UTC', s."ipAddress",
           s."userAgent"
    FROM "Session" s
    WHERE s."createdAt" > (now() - interval '3 days') AT TIME ZONE 'UTC'
      AND s."userId" = ANY($1::text[])
      AND EXISTS (SELECT FROM "Session" o
                  WHERE o."userId" = s."userId" AND o."createdAt" < s."createdAt")
      AND ((s."ipAddress" IS NOT NULL AND NOT EXISTS (
                SELECT FROM "Session" o WHERE o."userId" = s."userId"
                  AND o."createdAt" < s."createdAt" AND o."ipAddress" = s."ipAddress"))
        OR (s."userAgent" IS NOT NULL AND NOT EXISTS (
                SELECT FROM "Session" o WHERE o."userId" = s."userId"
                  AND o."createdAt" < s."createdAt" AND o."userAgent" = s."userAgent")))
      AND NOT EXISTS (SELECT FROM "TrustEvent" e
                      WHERE e."tenantId" = current_setting('app.tenant_id')
                        AND e."userId" = s."userId" AND e."kind" = 'session'
                        AND e."sourceId" = s."id")
    UNION ALL
    SELECT w."userId", 'payment', t."id", t."createdAt" AT TIME ZONE 'UTC', NULL, NULL
    FROM "WalletTransaction" t JOIN "Wallet" w ON w."id" = t."walletId"
    WHERE t."type" = 'CREDIT' AND t."amount" > 0
      AND t."createdAt" > (now() - interval '3 days') AT TIME ZONE 'UTC'
      AND w."userId" = ANY($1::text[])
      AND NOT EXISTS (SELECT FROM "TrustEvent" e
                      WHERE e."tenantId" = current_setting('app.tenant_id')
                        AND e."userId" = w."userId" AND e."kind" = 'payment'
                        AND e."sourceId" = t."id")
    ORDER BY 1, 2, 3 LIMIT $2

-- statement: verdicts.SELECT
SELECT r."id", r."contentType", r."contentId", r."contentSha256", r."userId", r."flagged",
           coalesce(r."categories", '{}'), r."scores", r."action", r."engine", r."policyVersion",
           r."superseded", r."createdAt" AT TIME ZONE 'UTC'
    FROM "ModerationResult" r
    WHERE r."tenantId" = current_setting('app.tenant_id')
      AND ($1::text IS NULL OR r."id" = $1::text)
      AND ($2::text IS NULL OR r."action" = $2::text)
      AND (NOT $3::bool OR NOT r."superseded")
    ORDER BY r."createdAt" DESC, r."id" DESC LIMIT $4

-- statement: verdicts.SELECT_OLDER
SELECT r."id", r."contentType", r."contentId", r."contentSha256", r."userId", r."flagged",
           coalesce(r."categories", '{}'), r."scores", r."action", r."engine", r."policyVersion",
           r."superseded", r."createdAt" AT TIME ZONE 'UTC'
    FROM "ModerationResult" r
    WHERE r."tenantId" = current_setting('app.tenant_id') AND r."id" > $1
      AND NOT r."superseded" AND coalesce(r."policyVersion", 0) < $2
    ORDER BY r."id" LIMIT $3

-- statement: verdicts.CONFIRM
UPDATE "ModerationResult" SET "policyVersion" = $1 WHERE "id" = ANY($2::text[])

-- statement: verdicts.OPEN_APPEAL
INSERT INTO "ModerationAppeal" ("resultId", "reason", "openedBy")
    VALUES ($1, $2, $3)
    ON CONFLICT ("tenantId", "resultId") DO NOTHING RETURNING "id"

-- statement: verdicts.DECIDE_APPEAL
UPDATE "ModerationAppeal" a
    SET "state" = $1, "decidedBy" = $2, "decidedAt" = now()
    WHERE a."tenantId" = current_setting('app.tenant_id') AND a."id" = $3
      AND a."state" = 'open'
    RETURNING a."resultId"

-- statement: verdicts.SELECT_APPEALS
SELECT a."id", a."resultId", a."reason", a."state", a."openedBy", a."openedAt", a."decidedBy",
           a."decidedAt"
    FROM "ModerationAppeal" a
    WHERE a."tenantId" = current_setting('app.tenant_id')
      AND ($1::text IS NULL OR a."id" = $1::text)
      AND ($2::text IS NULL OR a."state" = $2::text)
    ORDER BY a."openedAt" DESC, a."id" DESC LIMIT $3

-- statement: workers.UPSERT_PROCESS
INSERT INTO "WorkerProcess" ("id", "host", "pid", "role", "queues", "threads", "figures")
    VALUES ($1, $2, $3, $4, $5::text[], $6, $7)
    ON CONFLICT ("id") DO UPDATE SET "seenAt" = now(), "figures" = excluded."figures"

-- statement: workers.DELETE_PROCESS
DELETE FROM "WorkerProcess" WHERE "id" = $1

-- statement: workers.DELETE_SILENT
DELETE FROM "WorkerProcess" WHERE "seenAt" < now() - $1::float8 * interval '1 second'

-- statement: workers.SELECT_LOADS
WITH RECURSIVE lane AS (
        (SELECT q."queue", h."tenantId", h."job", h."limitKey", h."priority", h."dueAt", 1 AS "n"
         FROM unnest($1::text[]) AS q("queue")
         CROSS JOIN LATERAL (
             SELECT o.* FROM "JobOutbox" o WHERE o."queue" = q."queue"
             ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1) h)
        UNION ALL
        SELECT l."queue", h."tenantId", h."job", h."limitKey", h."priority", h."dueAt", l."n" + 1
        FROM lane l CROSS JOIN LATERAL (
            SELECT o.* FROM "JobOutbox" o
            WHERE o."queue" = l."queue"
              AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (l."tenantId", l."job", l."limitKey", l."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1) h
        WHERE l."n" < $2
    ), free AS (
        SELECT l.* FROM lane l WHERE l."dueAt" <= now() AND NOT EXISTS (
            SELECT FROM "JobHold" h WHERE coalesce(h."queue", l."queue") = l."queue"
              AND coalesce(h."tenantId", l."tenantId") = l."tenantId"
              AND coalesce(h."job", l."job") = l."job")
    ), waiting AS (
        SELECT f."queue", sum(c."ready") AS "ready", min(f."dueAt") AS "oldest"
        FROM free f CROSS JOIN LATERAL (
            SELECT count(*) AS "ready" FROM (
                SELECT FROM "JobOutbox" o
                WHERE o."queue" = f."queue" AND o."tenantId" = f."tenantId"
                  AND o."job" = f."job" AND o."limitKey" = f."limitKey"
                  AND o."priority" = f."priority" AND o."dueAt" <= now()
                LIMIT $3) counted) c
        GROUP BY 1
    ), flying AS (
        SELECT f."queue", count(*) FILTER (WHERE j."state" = 'PENDING') AS "queued",
               count(*) FILTER (WHERE j."state" = 'RUNNING') AS "running",
               min(j."dueAt") FILTER (WHERE j."state" = 'PENDING') AS "oldest"
        FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE f."queue" = ANY($1::text[]) GROUP BY 1
    ), serving AS (
        SELECT s."queue", count(*) AS "processes", sum(p."threads") AS "threads"
        FROM "WorkerProcess" p CROSS JOIN LATERAL unnest(p."queues") AS s("queue")
        WHERE p."role" = 'worker' AND p."seenAt" > now() - interval '20 seconds' GROUP BY 1
    )
    SELECT q."queue", (coalesce(w."ready", 0) + coalesce(f."queued", 0))::bigint,
           coalesce(f."running", 0),
           coalesce(extract(epoch FROM now() - least(w."oldest", f."oldest")), 0)::float8,
           coalesce(s."processes", 0), coalesce(s."threads", 0)
    FROM unnest($1::text[]) WITH ORDINALITY AS q("queue", "place")
    LEFT JOIN waiting w USING ("queue") LEFT JOIN flying f USING ("queue")
    LEFT JOIN serving s USING ("queue")
    ORDER BY q."place"

-- statement: workflow_acts.CANCEL
SELECT ailydian_cancel_run($1::text, $2::text)

-- statement: workflow_acts.PAUSE
SELECT ailydian_pause_run($1::text)

-- statement: workflow_acts.RESUME
SELECT ailydian_resume_run($1::text)

-- statement: workflow_acts.SIGNAL
SELECT ailydian_signal_run($1::text, $2::text, $3::text, $4::int,
                               $5::jsonb, $6::text)

-- statement: workflow_acts.SKIP
SELECT ailydian_skip_step($1::text, $2::text)

-- statement: workflow_acts.RETRY
SELECT ailydian_retry_run($1::text)

-- statement: workflow_acts.FORK
SELECT ailydian_fork_run($1::text, $2::text, $3::text)

-- statement: workflow_acts.MEND
SELECT "id", "tenantId", "lost", "mended", "last"
    FROM ailydian_mend_runs($1::text, $2::int)

-- statement: workflow_acts.OPEN_INCIDENT
SELECT ailydian_note_stuck_run($1::text, $2::text)

-- statement: workflow_acts.RESOLVE_INCIDENTS
SELECT ailydian_resolve_stuck_runs()

-- statement: workflow_lists.SELECT_RUNS
SELECT r."id", w."name", r."version", r."status"::text, r."state", r."key", r."error",
           r."fingerprint", r."startedAt" AT TIME ZONE 'UTC', r."completedAt" AT TIME ZONE 'UTC'
    FROM (SELECT "id", "name" FROM "Workflow"
          WHERE "tenantId" = $1
            AND ($2::text IS NULL OR "name" = $2)) w
    CROSS JOIN LATERAL (
        SELECT r.*, v."version" FROM "WorkflowRun" r
        JOIN "WorkflowVersion" v ON v."id" = r."versionId"
        WHERE r."workflowId" = w."id"
          AND ($3::text IS NULL OR r."state" = $3)
          AND ($4::text IS NULL OR r."fingerprint" = $4)
          AND ($5::timestamptz IS NULL
               OR r."startedAt" >= $5::timestamptz AT TIME ZONE 'UTC')
          AND ($6::timestamptz IS NULL
               OR r."startedAt" < $6::timestamptz AT TIME ZONE 'UTC')
          AND ($7::text[] IS NULL OR NOT EXISTS (
              SELECT FROM unnest($7::text[], $8::text[]) AS f("path", "value")
              WHERE r."input" #>> string_to_array(f."path", '.') IS DISTINCT FROM f."value"))
        ORDER BY r."startedAt" DESC LIMIT $9
    ) r
    ORDER BY r."startedAt" DESC, r."id" DESC LIMIT $9

-- statement: workflow_lists.SELECT_DEFINITIONS
SELECT w."name", v."version", w."description", v."steps", v."digest", v."createdAt",
           v."createdBy"
    FROM "Workflow" w JOIN "WorkflowVersion" v ON v."workflowId" = w."id"
    WHERE w."tenantId" = $1 AND ($2::text IS NULL OR w."name" = $2)
      AND ($2::text IS NOT NULL OR v."version" = w."version")
    ORDER BY w."name", v."version" DESC LIMIT $3

-- statement: workflow_lists.COUNT_RUNS
SELECT "state", "runs" FROM ailydian_count_runs($1::int)

-- statement: workflow_runs.SELECT_RUN
SELECT r."id", w."name", v."version", v."id", r."status"::text, r."state", r."key", r."input",
           r."output", r."error", r."fingerprint", r."failedStepId", r."parentStepId", r."forkOf",
           r."producer", v."steps", r."startedAt" AT TIME ZONE 'UTC',
           r."completedAt" AT TIME ZONE 'UTC',
           (SELECT x."dueAt" FROM "WorkflowWait" x WHERE x."id" = r."id"),
           CASE WHEN r."state" = 'queued' THEN (
               SELECT s."runId" FROM "WorkflowSlot" s
               WHERE s."tenantId" = r."tenantId" AND s."key" = r."concurrencyKey"
               ORDER BY s."seq" LIMIT 1) END,
           clock_timestamp()
    FROM "WorkflowRun" r JOIN "Workflow" w ON w."id" = r."workflowId"
    JOIN "WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = $1

-- statement: workflow_runs.SELECT_STEPS
SELECT s."id", s."position", nullif(s."itemIndex", -1), s."stepName", n."uses",
           s."status"::text, s."state", coalesce(j."attempt", s."attempt"),
           coalesce(j."attemptsMax", n."attemptsMax"), s."input", s."output",
           s."error", s."fingerprint", s."jobId", s."items", s."progress", s."note",
           CASE WHEN s."attempt" > 0 THEN s."startedAt" AT TIME ZONE 'UTC' END,
           s."completedAt" AT TIME ZONE 'UTC', n."dependents", n."compensates", x."what",
           x."name", x."dueAt", j."queue", j."state"
    FROM unnest($1::text[]) WITH ORDINALITY AS i("id", "n")
    JOIN "WorkflowStep" s ON s."id" = i."id"
    JOIN "WorkflowNode" n ON n."versionId" = $2 AND n."position" = s."position"
    LEFT JOIN "WorkflowWait" x ON x."id" = s."id"
    LEFT JOIN "Job" j ON j."id" = s."jobId" AND j."job" <> 'run_step'
    ORDER BY i."n"

-- statement: workflow_runs.SELECT_NOTABLE
SELECT s."id" FROM "WorkflowStep" s
    WHERE s."runId" = $1 AND s."state" = ANY($2::text[])
      AND (s."itemIndex" >= 0 OR s."position" >= $3)
    ORDER BY array_position($2::text[], s."state"), s."position", s."itemIndex"
    LIMIT $4

-- statement: workflow_runs.SELECT_ITEMS
SELECT s."id" FROM "WorkflowStep" s WHERE s."runId" = $1 AND s."itemIndex" >= 0
    ORDER BY s."position", s."itemIndex" LIMIT $2

-- statement: workflow_runs.SELECT_NAMED
SELECT s."id", o."output" FROM "WorkflowStep" s
    LEFT JOIN "WorkflowOutput" o ON o."stepId" = s."id"
    WHERE s."runId" = $1 AND s."stepName" = $2 ORDER BY s."itemIndex" LIMIT 1

-- statement: workflow_runs.COUNT_STATES
SELECT CASE WHEN s."itemIndex" >= 0 THEN s."position" END, s."state", count(*),
           sum(CASE WHEN s."state" IN ('completed', 'skipped', 'failed') THEN 1
                    WHEN s."state" = 'cancelled' THEN 0 ELSE coalesce(s."progress", 0) END)::float8
    FROM "WorkflowStep" s JOIN "WorkflowRun" r ON r."id" = s."runId"
    JOIN "WorkflowVersion" v ON v."id" = r."versionId"
    WHERE s."runId" = $1 AND s."position" < v."steps"
    GROUP BY 1, 2

-- statement: workflow_runs.SELECT_ATTEMPTS
SELECT s."id", a."attempt", a."verdict", a."errorType", a."error", a."fingerprint",
           a."worker", a."startedAt", a."endedAt"
    FROM unnest($1::text[], $2::text[]) AS s("id", "jobId")
    JOIN "JobAttempt" a ON a."jobId" = s."jobId" AND coalesce(a."stepId", s."id") = s."id"
    ORDER BY s."id", a."fence" LIMIT $3

-- statement: workflow_runs.SELECT_CHILDREN
SELECT r."parentStepId", r."id", w."name", r."state"
    FROM "WorkflowRun" r JOIN "Workflow" w ON w."id" = r."workflowId"
    WHERE r."parentStepId" = ANY($1::text[]) ORDER BY r."startedAt"

-- statement: workflow_runs.SELECT_STATES
SELECT s."stepName", s."state" FROM "WorkflowStep" s
    WHERE s."runId" = $1 AND s."itemIndex" = -1 LIMIT $2

-- statement: workflow_steps.BEGIN
SELECT ailydian_begin_step($1::text, $2::bigint)

-- statement: workflow_steps.SELECT_FENCE
SELECT j."fence"::text FROM "Job" j
    WHERE j."id" = $1::text AND j."state" = 'RUNNING' AND j."worker" = $2::text
      AND j."fence" <= $3::bigint
    UNION ALL SELECT NULL LIMIT 1

-- statement: workflow_steps.FINISH
SELECT ailydian_finish_step($1::text, $2::bigint, $3::text,
        $4::text, $5::jsonb, $6::jsonb, $7::text, NULL::text,
        $8::float8)

-- statement: workflow_steps.EXPAND
SELECT ailydian_expand_step($1::text, $2::bigint, $3::text,
        $4::jsonb, $5::int, $6::float8)

-- statement: workflow_steps.DELEGATE
SELECT ailydian_delegate_step($1::text, $2::bigint, $3::text,
        $4::jsonb, $5::text, $6::text, $7::int, $8::int,
        $9::text, $10::int, 0::float8)

-- statement: workflow_steps.SUSPEND
SELECT ailydian_suspend_step($1::text, $2::bigint, $3::text,
        $4::text, $5::text, $6::float8, $7::timestamptz,
        $8::jsonb, $9::float8)

-- statement: workflow_steps.QUEUE
SELECT ailydian_queue_step($1::text, $2::bigint, $3::text,
                               $4::text)

-- statement: workflow_steps.HOLD
SELECT ailydian_hold_step($1::text, $2::bigint, $3::text)

-- statement: workflow_steps.PROGRESS
WITH told AS (
        UPDATE "WorkflowStep" s SET "progress" = $1::real, "note" = $2::text
        WHERE s."id" = $3::text AND s."jobId" = $4::text
          AND s."state" = 'running' RETURNING s."id"
    )
    SELECT count(*)::text FROM told

-- statement: workflow_steps.FIRE
SELECT ailydian_fire_waits($1::int)

-- statement: workflow_steps.SELECT_NEXT_DUE
SELECT extract(epoch FROM min("dueAt") - now())::float8 FROM "WorkflowWait"
    WHERE "dueAt" IS NOT NULL

-- statement: workflows.LOCK
SELECT pg_advisory_xact_lock(
        hashtextextended('workflow/' || current_setting('app.tenant_id') || '/' || $1, 0))

-- statement: workflows.UPSERT_WORKFLOW
WITH found AS (
        SELECT w."id" FROM "Workflow" w WHERE w."name" = $1
        ORDER BY w."createdAt", w."id" LIMIT 1
    ), made AS (
        INSERT INTO "Workflow" ("name", "description", "dag")
        SELECT $1, $2, $3::jsonb WHERE NOT EXISTS (SELECT FROM found)
        RETURNING "id"
    )
    SELECT "id" FROM found UNION ALL SELECT "id" FROM made

-- statement: workflows.SELECT_NEWEST
SELECT v."id", v."workflowId", v."version", v."digest", v."definition"
    FROM "Workflow" w JOIN "WorkflowVersion" v ON v."workflowId" = w."id"
    WHERE w."name" = $1 ORDER BY w."createdAt", w."id", v."version" DESC LIMIT 1

-- statement: workflows.SELECT_VERSION
SELECT v."id", v."workflowId", v."version", v."digest", v."definition"
    FROM "Workflow" w JOIN "WorkflowVersion" v ON v."workflowId" = w."id"
    WHERE w."name" = $1 AND v."version" = $2 ORDER BY w."createdAt" LIMIT 1

-- statement: workflows.SELECT_UNREAD
SELECT w."id", w."dag" FROM "Workflow" w
    WHERE w."name" = $1 AND NOT EXISTS (
        SELECT FROM "WorkflowVersion" v WHERE v."workflowId" = w."id" AND v."definition" = w."dag")
    ORDER BY w."createdAt", w."id" LIMIT 1

-- statement: workflows.INSERT_VERSION
WITH changed AS (
        UPDATE "Workflow" w SET "version" = w."version" + 1, "dag" = $1::jsonb,
            "description" = $2
        WHERE w."id" = $3 RETURNING w."id", w."version", w."tenantId"
    )
    INSERT INTO "WorkflowVersion" ("tenantId", "workflowId", "version", "definition", "digest",
                                   "steps", "ends", "timeoutS", "createdBy")
    SELECT "tenantId", "id", "version", $1::jsonb, $4, $5, $6,
           $7, $8 FROM changed
    RETURNING "id", "version"

-- statement: workflows.INSERT_NODES
INSERT INTO "WorkflowNode" ("tenantId", "versionId", "position", "name", "uses", "spec",
        "needs", "dependents", "reads", "listReads", "compensates", "mapped", "onError",
        "attemptsMax", "backoffS", "timeoutS")
    SELECT current_setting('app.tenant_id'), $1, n."position", n."name", n."uses",
           n."spec"::jsonb, n."needs", n."dependents"::int[], n."reads"::int[],
           n."listReads"::int[], n."compensates", n."mapped", n."onError", n."attemptsMax",
           n."backoffS", n."timeoutS"
    FROM unnest($2::int[], $3::text[], $4::text[], $5::text[],
                $6::int[], $7::text[], $8::text[],
                $9::text[], $10::int[], $11::bool[],
                $12::text[], $13::int[], $14::float8[],
                $15::float8[])
         AS n("position", "name", "uses", "spec", "needs", "dependents", "reads", "listReads",
              "compensates", "mapped", "onError", "attemptsMax", "backoffS", "timeoutS")

-- statement: workflows.START
SELECT "id", "state", "duplicate" FROM ailydian_start_run(
        NULL, $1::text, $2::jsonb, $3::text,
        $4::text, $5::text, $6::text, $7::int,
        $8::text, $9::text)

-- statement: workflows.SELECT_WORKFLOWS
SELECT w."name", w."version", w."description", v."steps", v."createdAt", v."createdBy"
    FROM "Workflow" w LEFT JOIN "WorkflowVersion" v
      ON v."workflowId" = w."id" AND v."version" = w."version"
    WHERE w."tenantId" = $1 ORDER BY w."name", w."createdAt"

-- statement: outbox.receipt
SELECT ailydian_claim_receipt($1, $2)

-- statement: outbox.receipts
SELECT ailydian_claim_receipts($1, $2::bigint[])
