/** Listings: what was dropped below an image stays gone, whichever older layers remain. */
import { FAMILY_FILE, type Key, VALUE_DROPPED, VALUE_RAW } from "../../src/layer/key.ts";
import { familyRange } from "../../src/layer/key_range.ts";
import { describeLayer } from "../../src/layer/layer_descriptor.ts";
import { LayerMap } from "../../src/layer/layer_map.ts";
import type { LayerWriterOptions } from "../../src/layer/layer_writer.ts";
import { SpaceTable } from "../../src/layer/space_table.ts";
import { PORTABLE_CODECS } from "../../src/bytes/portable_codecs.ts";
import type { Lsn } from "../../src/lsn.ts";
import { LayerFetcher } from "../../src/read/fetch.ts";
import { LayerFiles } from "../../src/read/layer_files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import type { TimelineView } from "../../src/timeline/timeline.ts";
import { assert, suite } from "../support/harness.ts";
import { writeEntries } from "../support/layers.ts";

const test = suite("read/listing");
const RANGE = familyRange(FAMILY_FILE);

type Change = [name: number, lsn: number, what: "set" | "drop"];

/** What a listing at LSN 250 finds, of layers with these entries. */
async function listed(layers: [LayerWriterOptions, number, Change[]][]): Promise<number[]> {
  const store = new MemoryStore();
  const described = [];
  for (const [number, [options, lsnEnd, changes]] of layers.entries()) {
    const entries = changes.map(([a, lsn, what]) => ({
      key: { ...RANGE.keyMin, a } as Key,
      lsn: lsn as Lsn,
      flags: what === "set" ? VALUE_RAW : VALUE_DROPPED,
      value: new Uint8Array(what === "set" ? 4 : 0),
    }));
    const { file, summary } = writeEntries(entries, options, { ...RANGE, lsnEnd: lsnEnd as Lsn });
    const layer = describeLayer(summary, 1, number);
    await store.put(layerKey("main", layer.name), file);
    described.push(layer);
  }
  const files = new LayerFiles({ timeline: "main", store });
  const fetcher = new LayerFetcher({ files, codecs: PORTABLE_CODECS });
  const view = { memory: [], layers: LayerMap.of(described) } as unknown as TimelineView;
  const found = await fetcher.listNewest(view, new SpaceTable(), FAMILY_FILE, 250 as Lsn);
  await files.close();
  return found.filter(({ dropped }) => !dropped).map(({ space }) => space.a);
}

const delta = (lsnStart: number): LayerWriterOptions => ({ kind: "delta", lsnStart: lsnStart as Lsn });
const image = (lsnStart: number): LayerWriterOptions => ({
  kind: "image",
  complete: true,
  lsnStart: lsnStart as Lsn,
});

test("listNewest(): an older image does not bring back what a newer one lacks", async () => {
  const found = await listed([
    [image(100), 101, [[1, 100, "set"], [2, 100, "set"]]],
    [delta(101), 160, [[1, 150, "drop"]]],
    [image(199), 200, [[2, 199, "set"]]],
    [delta(200), 240, [[3, 210, "set"]]],
  ]);
  assert.equal(found, [2, 3]);
});

test("listNewest(): nor does a delta layer that reaches from below an image to above it", async () => {
  const found = await listed([
    [delta(1), 240, [[1, 50, "set"], [3, 210, "set"]]],
    [delta(101), 160, [[1, 150, "drop"], [2, 150, "set"]]],
    [image(199), 200, [[2, 199, "set"]]],
  ]);
  assert.equal(found, [2, 3]);
});

test.run();
