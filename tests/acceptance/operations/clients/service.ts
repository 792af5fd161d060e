// A service in TypeScript: what service.py beside it does.
import assert from "node:assert/strict";
import { cancelJob, listJobs, publishJobs, showJob } from "ailydian-client";
import { createClient } from "ailydian-client/client";

const client = createClient({
  baseUrl: process.env.AILYDIAN_URL,
  auth: () => process.env.AILYDIAN_KEY,
});
const probe = (n: number) => ({ job: "probe", payload: { n } });

const headers = { "Idempotency-Key": "order-1" };
const first = await publishJobs({ client, body: probe(1), headers, throwOnError: true });
const again = await publishJobs({ client, body: probe(1), headers, throwOnError: true });
assert.deepEqual(first.data, again.data);
assert("id" in first.data);
const path = { job_id: first.data.id };
assert.equal((await showJob({ client, path })).data?.payload?.n, 1);

assert.equal((await listJobs({ client, query: { job: "probe" } })).data?.items.length, 1);

assert.equal((await cancelJob({ client, path })).data?.state, "CANCELLED");
const refused = await publishJobs({ client, body: { job: "prob" } });
console.log(refused.error?.code);
