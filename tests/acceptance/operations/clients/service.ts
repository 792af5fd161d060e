// A service in TypeScript: what service.py beside it does.
import assert from "node:assert/strict";
import {
  cancelJob,
  listJobs,
  publishJobs,
  publishJobsAsNdjson,
  putWorkflowAsYaml,
  showJob,
  streamEvents,
  submitDocumentAsForm,
} from "ailydian-client";
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
const following = new AbortController();
const { stream } = await streamEvents({
  client,
  query: { id: first.data.id, after: "0" },
  signal: following.signal,
});
for await (const event of stream) {
  const told = event as { what?: string; jobId?: string };
  if (told.what === undefined) continue; // where the stream begins
  assert.deepEqual([told.what, told.jobId], ["CANCELLED", first.data.id]);
  break;
}
following.abort();

const file = new File(["# Tides\n\nThe sea rises."], "tides-ts.md");
const uploaded = await submitDocumentAsForm({ client, body: { file }, throwOnError: true });
assert.equal(uploaded.data.state, "PUBLISHED");

const lines = new Blob([2, 3].map((n) => `${JSON.stringify(probe(n))}\n`));
const many = await publishJobsAsNdjson({ client, body: lines, throwOnError: true });
assert("items" in many.data && many.data.items.length === 2);

const yaml = "name: ask\nsteps: {review: {uses: approval, with: {prompt: 'ship?'}}}";
const put = await putWorkflowAsYaml({ client, body: yaml, throwOnError: true });
assert.deepEqual([put.data.name, put.data.steps], ["ask", 1]);

const refused = await publishJobs({ client, body: { job: "prob" } });
console.log(refused.error?.code);
