/**
 * The annotated dump of small layers against a golden file: a change of the format is a readable difference.
 * `VARVE_REWRITE=1` writes the golden anew.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import process from "node:process";
import { assert, suite } from "../support/harness.ts";
import { type Entry, memorySource, writeEntries } from "../support/layers.ts";
import { type BlockCodec, BlockCodecs } from "../../src/bytes/block_codec.ts";
import {
  VALUE_DROPPED,
  VALUE_FROM_ZERO,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_RAW,
  VALUE_RECORD,
} from "../../src/layer/key.ts";
import { dumpLayer } from "../../src/layer/layer_dump.ts";
import { lsn } from "../../src/lsn.ts";

const test = suite("layer/layer_dump");
const GOLDEN = fileURLToPath(new URL("golden/layer_dump.txt", import.meta.url));

/** Runs of one byte as (count, byte): the same bytes on every runtime, unlike zlib's. */
const RUNS: BlockCodec = {
  id: 7,
  compress(bytes) {
    const out: number[] = [];
    for (let at = 0, end: number; at < bytes.length; at = end) {
      end = at + 1;
      while (end < bytes.length && end - at < 255 && bytes[end] === bytes[at]) end++;
      out.push(end - at, bytes[at]);
    }
    return Uint8Array.from(out);
  },
  decompress(bytes, length) {
    const out = new Uint8Array(length);
    for (let i = 0, at = 0; i < bytes.length; i += 2) out.fill(bytes[i + 1], at, at += bytes[i]);
    return out;
  },
};

async function dump(file: Uint8Array): Promise<{ lines: string[]; damages: number }> {
  const lines: string[] = [];
  const walk = dumpLayer(memorySource(file), "layer", { codecs: new BlockCodecs([RUNS]) });
  for (;;) {
    const step = await walk.next();
    if (step.done) return { lines, damages: step.value };
    lines.push(step.value);
  }
}

function deltaLayer(): Uint8Array {
  const relation = { family: 0, a: 1663, b: 5, c: 16384, d: 0 };
  const text = (value: string) => new TextEncoder().encode(value);
  const entries: Entry[] = [
    {
      key: { ...relation, block: 0 },
      lsn: lsn(0x16B3748),
      flags: VALUE_RECORD | VALUE_FROM_ZERO,
      value: text("insert"),
    },
    {
      key: { ...relation, block: 0 },
      lsn: lsn(0x16B3790),
      flags: VALUE_RECORD,
      value: text("a longer record"),
    },
    { key: { ...relation, block: 0 }, lsn: lsn(0x16B9990), flags: VALUE_RECORD, value: text("update") },
    {
      key: { ...relation, block: 1 },
      lsn: lsn(0x16B3800),
      flags: VALUE_FULL_PAGE_IMAGE,
      value: text("\0\0\0\0page"),
    },
    { key: { ...relation, family: 1, block: 0 }, lsn: lsn(0x16B3900), flags: VALUE_DROPPED, value: text("") },
  ];
  return writeEntries(entries, { kind: "delta", lsnStart: lsn(0x16B3748), blockBytes: 100 }).file;
}

function imageLayer(): Uint8Array {
  const entries: Entry[] = [0, 1].map((block) => ({
    key: { family: 2, a: 0, b: 0, c: 7, d: 0, block },
    lsn: lsn(0x2_0000_0028),
    flags: VALUE_RAW,
    value: new Uint8Array(300).fill(block),
  }));
  const lsnStart = lsn(0x2_0000_0028);
  return writeEntries(entries, { kind: "image", lsnStart, complete: true, codec: RUNS }).file;
}

test("dumpLayer() prints every byte of a delta and of a compressed image layer, as in the golden file", async () => {
  const parts: string[] = [];
  for (const [title, file] of [["delta layer", deltaLayer()], ["image layer", imageLayer()]] as const) {
    const { lines, damages } = await dump(file);
    assert.is(damages, 0);
    parts.push(`# ${title}\n${lines.map((line) => line.trimEnd()).join("\n")}\n`);
  }
  const actual = parts.join("\n");
  if (process.env.VARVE_REWRITE === "1") writeFileSync(GOLDEN, actual);
  assert.is(actual, readFileSync(GOLDEN, "utf8"));
});

test("dumpLayer() covers the file without gap or overlap", async () => {
  for (const file of [deltaLayer(), imageLayer()]) {
    let next = 0;
    for (const line of (await dump(file)).lines) {
      const [, offset, length] = /^ *(\+?\d+) +(\d+) /.exec(line)!;
      if (offset.startsWith("+")) continue;
      assert.is(Number(offset), next, line);
      next += Number(length);
    }
    assert.is(next, file.length);
  }
});

test("dumpLayer() names what is damaged and goes on", async () => {
  const file = deltaLayer();
  file[30] ^= 1;
  file[3] ^= 1;
  const { lines, damages } = await dump(file);
  const complaints = lines.filter((line) => line.startsWith("!"));
  // The header counts twice: by itself, and because opening reads it with the tail.
  assert.is(damages, complaints.length);
  assert.ok(
    complaints.every((line) => line.startsWith("! CorruptionError: Cannot read layer")),
    complaints.join("\n"),
  );
  assert.ok(lines.some((line) => line.includes("footer crc") && line.endsWith("ok")));
  const block = deltaLayer();
  block[30] ^= 1;
  const second = await dump(block);
  assert.is(second.damages, 1);
  assert.ok(
    second.lines.some((line) => line.includes("block 1 entry_count")),
    "the blocks behind it are printed",
  );
});

test.run();
