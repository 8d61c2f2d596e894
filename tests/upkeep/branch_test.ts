/** Branches that are written to: reads of a branch are as if its parent's history had been copied. */
import { FAMILY_CLUSTER_STATE } from "../../src/layer/key.ts";
import type { Lsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { createBranch } from "../../src/upkeep/branch.ts";
import { collect, planCollection } from "../../src/upkeep/gc.ts";
import { assert, suite } from "../support/harness.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";
import { Twins } from "./twins.ts";

const test = suite("upkeep/branch", { timeoutMs: 240_000 });

/** A branch of a timeline at some durable record, open for writing. */
async function branchOff(parent: Twins, name: string, random: SeededRandom): Promise<Twins> {
  const { store, clock, reader } = parent.kept;
  const { manifest } = (await readManifest(store, parent.kept.timeline.name))!;
  const floor = Math.max(manifest.cutoffLsn, manifest.consistentLsn);
  const readable = parent.lsns.filter((lsn) => lsn >= floor && lsn <= manifest.diskConsistentLsn);
  const lsn = random.pick(readable);
  await createBranch({ store, clock, parent: reader, lsn, name });
  return await parent.branched(name, parent.numberOf(lsn), random.fork());
}

/** Some of all that may happen to a timeline. */
async function live(twins: Twins, random: SeededRandom): Promise<void> {
  // Others have collected without a grace time.
  await twins.kept.attached.refresh();
  await twins.writeRandom(random.int(1, 25));
  if (random.chance(0.8)) await twins.flush();
  if (random.chance(0.3)) await twins.compact({ runsMax: random.int(1, 3), everything: random.chance(0.3) });
  if (random.chance(0.4)) await twins.makeImages({ everything: random.chance(0.7) });
  if (random.chance(0.3)) await collectOne(twins, random.int(0, 4000));
}

async function collectOne(twins: Twins, keepWalBytes: number): Promise<void> {
  const { store, clock, reader, timeline } = twins.kept;
  const { manifest } = (await readManifest(store, timeline.name))!;
  const options = { store, clock, reader, policy: { keepWalBytes }, graceMs: 0 };
  const plan = await planCollection(manifest, options);
  await collect(plan, (edit, signal) => updateManifest(store, clock, timeline.name, edit, signal), options);
  await twins.kept.attached.refresh();
}

/** The newest, the cut-off and some in between, in this process and by a new reader. */
async function checkReads(twins: Twins, random: SeededRandom): Promise<void> {
  const { store, clock, timeline, reader } = twins.kept;
  const { floorLsn, remoteConsistentLsn } = timeline;
  const readable = twins.lsns.filter((lsn) => lsn >= floorLsn);
  const chosen = [readable[0], readable.at(-1)!, random.pick(readable)];
  for (const lsn of chosen) await twins.checkAt(reader, lsn);
  const attached = await attachReader({ store, clock, timeline: timeline.name });
  for (const lsn of chosen) if (lsn <= remoteConsistentLsn) await twins.checkAt(attached.reader, lsn);
  await attached.close();
}

test("a branch and a branch of it, written, compacted, imaged and collected like their parent, read right", async () => {
  const random = seededRandom("upkeep/branch");
  for (let round = 0; round < 2; round++) {
    const main = await Twins.open(random.fork());
    for (let step = 0; step < 4; step++) await live(main, random);
    await main.flush();
    const branch = await branchOff(main, "branch", random);
    await checkReads(branch, random);
    for (let step = 0; step < 4; step++) {
      await live(main, random);
      await live(branch, random);
      await branch.kept.attached.refresh();
      await checkReads(branch, random);
    }
    await branch.flush();
    const twig = await branchOff(branch, "twig", random);
    for (let step = 0; step < 4; step++) {
      for (const each of [main, branch, twig]) await live(each, random);
      for (const each of [branch, twig]) await each.kept.attached.refresh();
      for (const each of [main, branch, twig]) await checkReads(each, random);
    }
    for (const each of [twig, branch, main]) await each.close();
  }
});

test("a branch begins with its parent's cluster state, and where its parent is fenced goes on", async () => {
  const random = seededRandom("upkeep/branch: state");
  const main = await Twins.open(random.fork());
  await main.writeRandom(30);
  await main.flush();
  const branch = await branchOff(main, "branch", random);
  const stateOf = (twins: Twins, lsn: Lsn) =>
    twins.kept.reader.getValue({ family: FAMILY_CLUSTER_STATE, a: 0, b: 0, c: 0, d: 0 }, 0, lsn);
  const [lsn] = branch.lsns;
  assert.equal(await stateOf(branch, lsn), await stateOf(main, lsn));
  assert.is(branch.kept.manifest.manifest.epoch, 2);
  await branch.writeRandom(10);
  await branch.flush();
  assert.is((await readManifest(main.kept.store, "main"))!.manifest.epoch, 1);
  await main.writeRandom(10);
  await main.flush();
  await branch.check(0);
  await main.check(0);
  await branch.close();
  await main.close();
});

test.run();
