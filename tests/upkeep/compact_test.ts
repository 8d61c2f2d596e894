/** Compaction and images: what they do to layers, and that reads notice nothing but fewer layers. */
import { FAMILY_RELATION, type KeySpace } from "../../src/layer/key.ts";
import type { Lsn } from "../../src/lsn.ts";
import { readManifest } from "../../src/timeline/manifest_store.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, SPC } from "../support/made_wal.ts";
import { SeededRandom, seededRandom } from "../support/random.ts";
import { RELS, Twins } from "./twins.ts";

const test = suite("upkeep/compact", { timeoutMs: 120_000 });

test("compact() and makeImages(): after any of them, in any order, every read at every LSN is as without", async () => {
  const random = seededRandom("upkeep/compact");
  for (let round = 0; round < 12; round++) {
    const twins = await Twins.open(random.fork());
    for (let step = 0; step < 14; step++) {
      await twins.writeRandom(random.int(1, 25));
      if (random.chance(0.8)) await twins.flush();
      if (random.chance(0.5)) {
        await twins.compact({ runsMax: random.int(1, 3), everything: random.chance(0.3) });
      }
      if (random.chance(0.3)) await twins.makeImages({ everything: random.chance(0.5) });
      if (random.chance(0.3)) await twins.check(2);
    }
    await twins.check(8);
    await twins.close();
  }
});

test("compact() keeps the runs that a read visits few, however many flushes there were", async () => {
  const twins = await Twins.open(new SeededRandom(1));
  for (let flush = 0; flush < 30; flush++) {
    await twins.writeRandom(20);
    await twins.flush();
    await twins.compact({ runsMax: 3 });
    const { layers } = twins.kept.timeline;
    const lsn = twins.lsns.at(-1)!;
    for (const rel of RELS) {
      const space: KeySpace = { family: FAMILY_RELATION, a: SPC, b: DB, c: rel, d: 0 };
      assert.ok([...layers.search(space, 0, lsn)].length <= 3);
    }
  }
  await twins.check();
  await twins.close();
});

test("compact() names its outputs instead of its inputs, which it hands to collection", async () => {
  const twins = await Twins.open(new SeededRandom(2));
  for (let flush = 0; flush < 5; flush++) {
    await twins.writeRandom(30);
    await twins.flush();
  }
  const before = twins.kept.timeline.layers.layers();
  const done = await twins.compact({ everything: true });
  assert.is(done!.runs, 5);
  assert.is(done!.inputs, before.length);
  assert.ok(done!.outputs > 1);
  const { manifest } = (await readManifest(twins.kept.store, "main"))!;
  assert.equal(
    manifest.removed.map(({ name }) => name).sort(),
    before.map(({ name }) => name).sort(),
  );
  const layers = twins.kept.timeline.layers.layers();
  assert.equal(manifest.layers.map(({ name }) => name).sort(), layers.map(({ name }) => name).sort());
  assert.ok(
    layers.every(({ level, lsnStart, lsnEnd }) =>
      level === 1 && lsnStart === done!.lsnStart && lsnEnd === done!.lsnEnd
    ),
  );
  assert.is(await twins.compact({ everything: true }), undefined);
  await twins.check();
  await twins.close();
});

test("makeImages() ends reads of the newest at the image, and leaves the past as it was", async () => {
  const twins = await Twins.open(new SeededRandom(3));
  for (let flush = 0; flush < 4; flush++) {
    await twins.writeRandom(40);
    await twins.flush();
  }
  const done = await twins.makeImages({ everything: true });
  const lsn = twins.lsns.at(-1)!;
  assert.is(done!.lsn, lsn);
  const { layers } = twins.kept.timeline;
  for (const rel of RELS) {
    const visits = [...layers.search({ family: FAMILY_RELATION, a: SPC, b: DB, c: rel, d: 0 }, 0, lsn)];
    assert.equal(visits.map(({ layer }) => [layer.kind, layer.complete]), [["image", true]]);
    const past = [
      ...layers.search({ family: FAMILY_RELATION, a: SPC, b: DB, c: rel, d: 0 }, 0, lsn - 1 as Lsn),
    ];
    assert.is(past.length, 4);
  }
  assert.is(await twins.makeImages({ everything: true }), undefined);
  // All is settled: there is nothing to compact.
  assert.is(await twins.compact({ everything: true }), undefined);
  await twins.check(8);
  await twins.writeRandom(30);
  await twins.flush();
  await twins.check(8);
  await twins.close();
});

test.run();
