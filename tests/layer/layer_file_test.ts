import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";
import { LayerWriter } from "../../src/layer/layer_writer.ts";
import { openLayer } from "../../src/layer/layer_reader.ts";
import { scanLayer } from "../../src/layer/layer_scan.ts";
import { lsn } from "../../src/lsn.ts";
const test = suite("layer/layer_file");
test("smoke", async () => {
  const random = seededRandom("x");
  const w = new LayerWriter({ kind: "delta", lsnStart: lsn(1000), blockBytes: 512 });
  const want: unknown[] = [];
  for (let r = 0; r < 5; r++) {
    const space = { family: 0, a: 1663, b: 5, c: 16384 + r * 300, d: 0 };
    for (let b = 0; b < 100; b++) {
      for (let v = random.int(0, 3), l = 1000; v > 0; v--) {
        l += random.int(1, 100000);
        const bytes = random.bytes(random.int(0, 200));
        w.add(space, b * 7, lsn(l), 1, bytes, 0, bytes.length);
        want.push([{ ...space, block: b * 7 }, l, [...bytes]]);
      }
    }
  }
  const s = w.finish();
  const parts = w.take();
  const file = new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
  assert.is(file.length, s.size);
  const source = { size: file.length, readRange: (o: number, n: number) => Promise.resolve(file.slice(o, o + n)) };
  const index = await openLayer(source, "x");
  const got: unknown[] = [];
  for await (const { block, first, end } of scanLayer(source, index)) {
    for (let e = first; e < end; e++) got.push([block.keyAt(e), block.lsns[e], [...block.valueAt(e)]]);
  }
  assert.equal(got, want);
});
test.run();
