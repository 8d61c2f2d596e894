/** Layers over HTTP: listed, downloaded one and all, evicted; who may, and what goes wrong. */
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import { attachReader } from "../../src/read/attach.ts";
import { createStatusApp } from "../../src/status/app.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { waitFor } from "../support/wait.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";
import { someTimeline } from "./status_support.ts";

const test = suite("status/layers", { timeoutMs: 20_000 });
const TOKEN = "a-token";

/** An attached timeline of some layers, and the app that shows it. */
async function someLayers(count = 6, token?: string) {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  for (let n = 0; n < count; n++) {
    await written.write(imageRecord({ block: n, image: filledPage(n + 1) }));
    written.timeline.freeze();
  }
  await written.flush();
  await written.close();
  const local = new MemoryLocalLayers();
  const clock = new ManualClock();
  clock.autoAdvance = false;
  const attached = await attachReader({ store, clock, local });
  const board = new StatusBoard({ clock });
  board.add(attached);
  const app = createStatusApp({ board, token });
  // deno-lint-ignore no-explicit-any -- bodies of any shape
  const ask = async (method: string, path: string, headers: Record<string, string> = {}): Promise<any> => {
    const answer = await app.request(`/v1/timelines/main/${path}`, { method, headers });
    return { status: answer.status, ...await answer.json() };
  };
  const layers: LayerDescriptor[] = attached.timeline.layers.layers();
  return { store, local, clock, attached, ask, layers, total: attached.timeline.layers.totalBytes };
}

test("a layer is downloaded and evicted by name, and the list says where it is and when it was read", async () => {
  const { ask, attached, layers: [layer], total, clock } = await someLayers();
  const listed = async () => (await ask("GET", "layers")).layers[0];
  assert.equal([(await listed()).location, (await listed()).lastAccess], ["remote", null]);
  const downloaded = await ask("POST", `layers/${layer.name}/download`);
  assert.equal([downloaded.status, downloaded.layer.location], [200, "resident"]);
  assert.is(attached.files.residentBytes, layer.size);
  assert.is(attached.timeline.layers.totalBytes, total, "the timeline is as large as it was");
  await attached.files.source(layer).readRange(0, 10);
  assert.is((await listed()).lastAccess, new Date(clock.now()).toISOString());
  const evicted = await ask("POST", `layers/${layer.name}/evict`);
  assert.equal([evicted.status, evicted.outcome, evicted.layer.location], [200, "evicted", "remote"]);
  assert.is((await ask("POST", `layers/${layer.name}/evict`)).outcome, "not resident");
  assert.is((await ask("POST", "layers/nothing/evict")).error.code, "NOT_FOUND");
  assert.is((await ask("POST", `layers/${layer.name}x/download`)).status, 404);
  await attached.close();
});

test("all layers are downloaded by one task; a second start answers with the one that runs", async () => {
  const { ask, attached, store, layers, total } = await someLayers();
  assert.is((await ask("GET", "download")).status, 404);
  const answer = deferred();
  store.before = () => answer.promise;
  const first = await ask("POST", "download");
  assert.equal([first.status, first.state, first.totalLayers, first.totalBytes], [202, "running", 6, total]);
  const second = await ask("POST", "download");
  assert.equal([second.status, second.state, second.doneLayers], [200, "running", 0]);
  answer.resolve();
  await waitFor(async () => (await ask("GET", "download")).state === "completed", { what: "it is done" });
  const done = await ask("GET", "download");
  assert.equal([done.doneLayers, done.failedLayers, done.doneBytes, done.failure], [6, 0, total, null]);
  assert.is(attached.files.residentBytes, total);
  assert.is(store.keysOf("getStream").length, layers.length, "each once");
  const requests = store.calls.length;
  assert.is((await ask("POST", "download")).status, 202);
  await waitFor(async () => (await ask("GET", "download")).state === "completed", {
    what: "it is done again",
  });
  assert.is(store.calls.length, requests, "there was nothing to do");
  const evicted = await ask("POST", "evict");
  assert.equal([evicted.evictedLayers, evicted.residentPhysicalSizeBytes], [6, 0]);
  await attached.close();
});

test("while the disk or the store fails every download is counted as failed; later all succeed", async () => {
  const { ask, attached, local, layers, total } = await someLayers();
  local.before = (method) => {
    if (method === "commit") throw new TypeError("No space left on device");
  };
  await ask("POST", "download");
  await waitFor(async () => (await ask("GET", "download")).state === "completed", { what: "it is over" });
  const failed = await ask("GET", "download");
  assert.equal([failed.doneLayers, failed.failedLayers], [0, layers.length]);
  assert.match(failed.failure.message, /No space left/);
  assert.equal([attached.files.residentBytes, local.files.size, local.temporary.size], [0, 0, 0]);
  local.before = () => {};
  await ask("POST", "download");
  await waitFor(async () => (await ask("GET", "download")).state === "completed", { what: "it is over" });
  const done = await ask("GET", "download");
  assert.equal([done.doneLayers, done.failedLayers], [layers.length, 0]);
  assert.is(attached.files.residentBytes, total);
  await attached.close();
});

test("a download of all can be ended", async () => {
  const { ask, attached, store } = await someLayers();
  store.before = (_method, _key, signal) =>
    new Promise((_, reject) => signal!.addEventListener("abort", () => reject(signal!.reason)));
  await ask("POST", "download");
  const ended = await ask("DELETE", "download");
  assert.equal([ended.state, ended.doneLayers, ended.failedLayers], ["cancelled", 0, 0]);
  await attached.close();
});

test("changing anything needs the token, and is refused to pages of other sites", async () => {
  const { ask, attached, layers: [{ name }] } = await someLayers(1, TOKEN);
  const mutations: [string, string][] = [
    ["POST", "download"],
    ["DELETE", "download"],
    ["POST", "evict"],
    ["POST", `layers/${name}/download`],
    ["POST", `layers/${name}/evict`],
  ];
  const authorization = `Bearer ${TOKEN}`;
  for (const [method, path] of mutations) {
    assert.is((await ask(method, path)).status, 401, path);
    assert.is((await ask(method, path, { authorization: "Bearer other" })).status, 401, path);
    const foreign = await ask(method, path, { authorization, "sec-fetch-site": "cross-site" });
    assert.equal([foreign.status, foreign.error.code], [403, "FORBIDDEN"], path);
  }
  assert.is(attached.files.residentBytes, 0);
  assert.is((await ask("POST", "download", { authorization, "sec-fetch-site": "same-origin" })).status, 202);
  await waitFor(() => attached.files.residentCount === 1, { what: "it is there" });
  assert.is((await ask("PUT", "download", { authorization })).status, 405);
  await attached.close();
});

test("without a place for copies, or without files at all, downloading is refused by name", async () => {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  await written.write(imageRecord({ block: 0, image: filledPage(1) }));
  await written.flush();
  await written.close();
  const board = new StatusBoard({ clock: new ManualClock() });
  const attached = await attachReader({ store, clock: new ManualClock() });
  board.add(attached);
  board.add({ timeline: someTimeline("bare") });
  const app = createStatusApp({ board });
  const [{ name }] = attached.timeline.layers.layers();
  for (const path of [`main/layers/${name}/download`, "bare/download", "bare/evict"]) {
    const answer = await app.request(`/v1/timelines/${path}`, { method: "POST" });
    assert.is(answer.status, 409, path);
    assert.is((await answer.json()).error.code, "NO_LOCAL_COPIES");
  }
  await attached.close();
});

test.run();
