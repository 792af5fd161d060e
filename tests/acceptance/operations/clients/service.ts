// A service in TypeScript: what service.py beside it does.
import assert from "node:assert/strict";
import {
  cancelJob,
  listJobs,
  publishJobs,
  showJob,
  streamEvents,
  type Submission,
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

const form = new FormData();
form.append("file", new File(["# Tides\n\nThe sea rises."], "tides-ts.md"));
const uploaded = await client.post<{ 202: Submission }, unknown, true>({
  url: "/v1/documents",
  security: [{ scheme: "bearer", type: "http" }],
  body: form,
  bodySerializer: null,
  headers: { "Content-Type": null }, // fetch writes it, with the boundary
  throwOnError: true,
});
assert.equal(uploaded.data.state, "PUBLISHED");

const refused = await publishJobs({ client, body: { job: "prob" } });
console.log(refused.error?.code);
