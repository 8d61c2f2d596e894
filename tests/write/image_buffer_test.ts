/** Values on their way into image layers: order, bounds, what is copied. */
import { UnavailableError } from "../../src/errors.ts";
import { FAMILY_RELATION, VALUE_RAW, VALUE_ZERO_PAGE } from "../../src/layer/key.ts";
import { openLayer } from "../../src/layer/layer_reader.ts";
import { SpaceTable } from "../../src/layer/space_table.ts";
import type { Lsn } from "../../src/lsn.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { ImageBuffer } from "../../src/write/image_buffer.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { type Entry, memorySource, scanEntries } from "../support/layers.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("write/image_buffer");
const AT = 0x1_0000_0028 as Lsn;

function bufferOver(store: BentStore, layerBytes?: number) {
  const spaces = new SpaceTable();
  const clock = new ManualClock();
  clock.random = Math.random;
  return {
    spaces,
    buffer: new ImageBuffer({ timeline: "main", spaces, lsn: AT, epoch: 1, store, clock, layerBytes }),
  };
}

async function entriesOf(store: BentStore, buffer: ImageBuffer): Promise<Entry[][]> {
  return await Promise.all(buffer.descriptors.map(async ({ name, checksum }) => {
    const source = memorySource((await store.get(layerKey("main", name))).bytes);
    const index = await openLayer(source, name, { expectedChecksum: checksum });
    return await scanEntries(source, index);
  }));
}

test("ImageBuffer sorts what comes in any order, and copies what it keeps", async () => {
  const random = seededRandom("image buffer");
  const store = new BentStore();
  const { spaces, buffer } = bufferOver(store);
  const keys: { rel: number; block: number }[] = [];
  for (let rel = 5; rel > 0; rel--) for (let block = 0; block < 50; block++) keys.push({ rel, block });
  keys.sort(() => random.float() - 0.5);
  const scratch = new Uint8Array(100);
  for (const { rel, block } of keys) {
    scratch.fill(rel * 50 + block);
    buffer.add(spaces.intern(FAMILY_RELATION, 1, 2, rel, 0), block, VALUE_RAW, scratch, 10, 20);
  }
  scratch.fill(0);
  await buffer.write();
  const [entries] = await entriesOf(store, buffer);
  assert.equal(
    entries.map(({ key }) => [key.c, key.block]),
    [...keys].sort((l, r) => l.rel - r.rel || l.block - r.block).map(({ rel, block }) => [rel, block]),
  );
  for (const { key, lsn, value } of entries) {
    assert.is(lsn, AT);
    assert.ok(value.length === 20 && value.every((byte) => byte === (key.c * 50 + key.block & 0xff)));
  }
});

test("ImageBuffer is full at its bound, also of values without bytes, and empty after a write", async () => {
  const store = new BentStore();
  const { spaces, buffer } = bufferOver(store, 100_000);
  const space = spaces.intern(FAMILY_RELATION, 1, 2, 3, 0);
  let added = 0;
  for (; !buffer.isFull; added++) buffer.add(space, added, VALUE_RAW | VALUE_ZERO_PAGE, new Uint8Array(0));
  assert.ok(added < 10_000, `${added} values without bytes`);
  await buffer.write();
  assert.not.ok(buffer.isFull);
  await buffer.write();
  assert.is(buffer.descriptors.length, 1, "nothing more to write");
  buffer.add(space, added, VALUE_RAW, new Uint8Array(200_000));
  assert.ok(buffer.isFull);
  await buffer.write();
  const entries = await entriesOf(store, buffer);
  assert.equal(entries.map((layer) => layer.length), [added, 1]);
  const [first, second] = buffer.descriptors;
  assert.equal([first.complete, first.lsnStart, first.lsnEnd], [false, AT, AT + 1]);
  assert.is.not(first.name, second.name);
});

test("ImageBuffer.write() that failed can be tried again", async () => {
  const store = new BentStore();
  const { spaces, buffer } = bufferOver(store);
  buffer.add(spaces.intern(FAMILY_RELATION, 1, 2, 3, 0), 7, VALUE_RAW, Uint8Array.of(1, 2, 3));
  store.goAway();
  await assert.rejects(buffer.write(), UnavailableError);
  assert.is(buffer.descriptors.length, 0);
  store.comeBack();
  await buffer.write();
  assert.equal((await entriesOf(store, buffer))[0][0].value, Uint8Array.of(1, 2, 3));
});

test.run();
