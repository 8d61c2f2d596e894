/** `varve compact`: dry run, text and JSON, beside a writer. */
import { formatLsn } from "../../src/lsn.ts";
import { readManifest } from "../../src/timeline/manifest_store.ts";
import { testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, filledPage, imageRecord, pageRecord, SPC } from "../support/made_wal.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";
import { varve } from "./varve_process.ts";

const test = suite("cli/compact", { timeoutMs: 240_000, sanitize: false });
const FLUSHES = 6;

test("compact tells what it would do, does it beside a writer, and finds nothing left", async () => {
  await using directory = await temporaryDirectory("cli-compact");
  const store = await testStore(directory.join("store"));
  const url = `file://${directory.path}/store`;
  const written = await WrittenTimeline.open({ store });
  for (let flush = 0; flush < FLUSHES; flush++) {
    for (let block = 0; block < 4; block++) {
      await written.write(imageRecord({ block, image: filledPage(flush * 4 + block + 1) }));
    }
    await written.write(pageRecord({ block: 1, put: [flush] }));
    await written.flush();
  }
  const durable = written.timeline.remoteConsistentLsn;
  const compact = (...args: string[]) => varve(["compact", "--store", url, ...args]);
  const manifest = async () => (await readManifest(store, "main"))!.manifest;

  const before = await manifest();
  const dry = await compact("--dry-run", "--images", "all", "--json");
  assert.is(dry.code, 0, dry.stderr);
  const plan = JSON.parse(dry.stdout);
  assert.is(plan.compaction.runs, FLUSHES);
  assert.equal(plan.compaction.layers.sort(), before.layers.map(({ name }) => name).sort());
  assert.is(plan.images.lsn, formatLsn(durable));
  assert.match(
    (await compact("--dry-run", "--images", "none")).stdout,
    /^Would merge 6 layers of 6 runs, .*\nNo images/,
  );
  assert.equal(await manifest(), before);

  const done = JSON.parse((await compact("--images", "all", "--json")).stdout);
  assert.equal([done.compactions, done.layersMerged, done.layersMade], [1, FLUSHES, 1]);
  assert.ok(done.images > 0 && done.writeAmplification > 1);
  const after = await manifest();
  assert.is(after.epoch, before.epoch);
  assert.is(after.removed.length, FLUSHES);

  assert.match((await compact("--all")).stdout, /^Nothing to merge, no images made, in /);
  assert.is((await compact("--timeline", "none")).code, 5);
  // The writer goes on with what was done.
  await written.write(pageRecord({ block: 2, put: [99] }));
  await written.flush();
  const args = ["--rel", `${SPC}/${DB}/16384`, "--block", "2", "--format", "raw"];
  const page = await varve(["page", "--store", url, ...args]);
  assert.is(page.code, 0, page.stderr);
  assert.is(page.bytes[100], 99);
  assert.equal(page.bytes.slice(0, 8192), await written.page(16384, 2));
  const past = await varve(["page", "--store", url, ...args, "--at", formatLsn(durable)]);
  assert.equal(past.bytes.slice(0, 8192), await written.page(16384, 2, durable));
  await written.close();
  await store.close();
});

test.run();
