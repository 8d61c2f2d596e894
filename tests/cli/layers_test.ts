/** `varve layers`: list, download, evict, dump. */
import { WrittenTimeline } from "../support/written_timeline.ts";
import { FilesStore } from "../../src/store/files.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { varve } from "./varve_process.ts";

const test = suite("cli/layers", { timeoutMs: 240_000, sanitize: false });

let directory: TemporaryDirectory;
let names: string[];
let total: number;

test.before(async () => {
  directory = await temporaryDirectory("cli-layers");
  const store = await FilesStore.open({ path: directory.join("store"), fsync: false });
  const written = await WrittenTimeline.open({ store });
  for (let n = 0; n < 4; n++) {
    await written.write(...[0, 1, 2].map((block) => imageRecord({ block, image: filledPage(n + 1) })));
    written.timeline.freeze();
  }
  await written.flush();
  names = written.timeline.layers.layers().map(({ name }) => name);
  total = written.timeline.layers.totalBytes;
  await written.close();
  await store.close();
});
test.after(() => directory?.remove());

const layers = (...args: string[]) =>
  varve(["layers", "--store", `file://${directory.path}/store`, "--cache", directory.join("cache"), ...args]);

/** Files in the cache, with what else may lie there. */
const cached = () => [...Deno.readDirSync(directory.join("cache/main"))].map(({ name }) => name).sort();

test("layers lists what there is, and what of it is local; downloads and evicts by name and all", async () => {
  const empty = JSON.parse((await layers("--json")).stdout);
  assert.equal([empty.residentPhysicalSize, empty.currentPhysicalSize], [0, total]);
  assert.equal(empty.layers.map(({ name }: { name: string }) => name).sort(), [...names].sort());
  // Of a follower, perhaps: not ours to remove.
  await Deno.writeTextFile(directory.join("cache/main/other.1.temporary"), "x");

  const one = await layers("--download", names[1]);
  assert.is(one.code, 0, one.stderr);
  assert.match(one.stdout, "1 of 1 layer resident");
  assert.equal(cached(), [names[1], "other.1.temporary"].sort());
  const listed = await layers();
  assert.match(listed.stdout, new RegExp(`resident  ${names[1]}\n`));
  assert.match(listed.stdout, new RegExp(`remote    ${names[0]}\n`));
  assert.match(listed.stdout, /4 layers, .*; 1 resident/);

  assert.is((await layers("--download", "--all")).code, 0);
  const all = JSON.parse((await layers("--json")).stdout);
  assert.is(all.residentPhysicalSize, total);
  assert.equal(JSON.parse((await layers("--evict", "--json", names[0])).stdout).evicted, 1);
  assert.match((await layers("--evict", "--all")).stdout, "3 layers evicted");
  assert.equal(cached(), ["other.1.temporary"]);
});

test("layers dumps a layer of the store or a file, and tells damage by the exit code", async () => {
  const fromStore = await layers("--dump", names[0]);
  assert.is(fromStore.code, 0, fromStore.stderr);
  assert.match(fromStore.stdout, "VARVELYR");
  await layers("--download", names[0]);
  const file = directory.join(`cache/main/${names[0]}`);
  const fromFile = await varve(["layers", "--dump", file]);
  assert.is(fromFile.stdout, fromStore.stdout);
  const bytes = await Deno.readFile(file);
  bytes[100] ^= 0xff;
  await Deno.writeFile(directory.join("damaged"), bytes);
  const damaged = await varve(["layers", "--dump", directory.join("damaged")]);
  assert.is(damaged.code, 6);
  assert.match(damaged.stdout, /^!/m);
});

test("layers refuses what makes no sense", async () => {
  for (
    const args of [
      ["--download", "--evict", "--all"],
      ["--download"],
      ["--evict", "--all", names[0]],
      ["--dump", names[0], "--evict"],
    ]
  ) {
    assert.is((await layers(...args)).code, 2, args.join(" "));
  }
  assert.is((await varve(["layers"])).code, 2);
  assert.is((await layers("--dump", "nothing")).code, 5);
  assert.is((await layers("--timeline", "other")).code, 5);
  assert.is((await layers("--evict", names[0].replace(/.$/, "x"))).code, 5);
});

test.run();
