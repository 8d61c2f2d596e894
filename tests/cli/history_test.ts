/** `varve gc`, `branch` and `pin` as processes, on a directory. */
import { formatLsn } from "../../src/lsn.ts";
import { FilesStore } from "../../src/store/files.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { assert, suite } from "../support/harness.ts";
import { SeededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { Twins } from "../upkeep/twins.ts";
import { varve } from "./varve_process.ts";

const test = suite("cli/history", { timeoutMs: 240_000, sanitize: false });

/** A timeline in a directory, flushed and with images, and the ends of its records. */
async function written(path: string) {
  const store = await FilesStore.open({ path, fsync: false });
  const twins = await Twins.open(new SeededRandom(7), { store });
  for (let flush = 0; flush < 3; flush++) {
    await twins.writeRandom(30);
    await twins.flush();
  }
  await twins.makeImages({ everything: true });
  await twins.writeRandom(10);
  await twins.flush();
  await twins.close();
  return { store, lsns: twins.lsns.map(formatLsn) };
}

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await varve(args);
  return { code, out: stdout, err: stderr };
}

async function ok(...args: string[]): Promise<string> {
  const { code, out, err } = await run(...args);
  assert.is(code, 0, err);
  return out;
}

test("varve gc tells what it would do, does it with --confirm, and what is pinned or branched stays", async () => {
  await using directory = await temporaryDirectory("history");
  const { store, lsns } = await written(directory.path);
  const where = ["--store", `file://${directory.path}`];
  assert.is(await ok("gc", ...where), "Nothing to collect.\n");
  assert.match(
    await ok("pin", ...where, "--at", lsns[20], "--for", "30d", "audit"),
    new RegExp(`^audit: ${lsns[20]} until 20`),
  );
  assert.match(await ok("branch", ...where, "--at", lsns[10], "before"), new RegExp(`at ${lsns[10]}`));
  const plan = JSON.parse(await ok("gc", ...where, "--keep-wal", "8", "--json")).timelines[0];
  assert.ok(plan.removed.count > 0 && plan.cutoffLsn > plan.previousCutoffLsn);
  assert.match(await ok("gc", ...where, "--keep-wal", "8"), /run it again with --confirm/);
  await store.put(
    layerKey("main", "0".repeat(36) + "-" + "0".repeat(36) + "__0000000000000008-00000000-00000001"),
    new Uint8Array(5),
  );
  assert.match(await ok("gc", ...where, "--keep-wal", "8", "--confirm"), /orphans +1 object/);
  assert.match(
    await ok("gc", ...where, "--grace", "1ms", "--confirm"),
    /removed +\d+ objects.*grace time is over/,
  );
  assert.is(await ok("gc", ...where, "--all"), "Nothing to collect.\n");
  const info = await ok("info", ...where);
  assert.match(info, new RegExp(`main at ${lsns[10]}`));
  assert.match(info, new RegExp(`audit at ${lsns[20]}`));
  const page = ["page", ...where, "--rel", "1663/5/16384", "--block", "0", "--format", "json", "--at"];
  assert.is(JSON.parse(await ok(...page, lsns[20])).lsn, lsns[20]);
  assert.is(JSON.parse(await ok(...page, lsns[10], "--timeline", "before")).lsn, lsns[10]);
  const late = await run(...page, lsns[21]);
  assert.is(late.code, 5);
  assert.match(late.err, /history starts at/);
  await store.close();
});

test("varve branch lists and deletes; a parent that is needed stays", async () => {
  await using directory = await temporaryDirectory("history");
  const { store, lsns } = await written(directory.path);
  const where = ["--store", `file://${directory.path}`];
  await ok("branch", ...where, "--at", lsns[10], "a");
  await ok("branch", ...where, "--from", "a", "b");
  assert.match(
    await ok("branch", ...where, "--list"),
    /^main: .*\n {2}a: .*a branch of main.*\n {4}b: .*a branch of a/,
  );
  const needed = await run("branch", ...where, "--delete", "a");
  assert.is(needed.code, 1);
  assert.match(needed.err, /"b" is a branch of it/);
  assert.is((await run("branch", ...where, "--delete", "main")).code, 2);
  assert.is((await run("branch", ...where, "--at", lsns[10], "a")).code, 1);
  assert.is((await run("branch", ...where)).code, 2);
  await ok("branch", ...where, "--delete", "b");
  await ok("branch", ...where, "--delete", "a");
  assert.is(JSON.parse(await ok("branch", ...where, "--list", "--json")).length, 1);
  assert.is((await run("branch", ...where, "--delete", "a")).code, 5);
  assert.is(await ok("pin", ...where), "There are no pins.\n");
  assert.is((await run("pin", ...where, "--remove", "none")).code, 5);
  await store.close();
});

test.run();
