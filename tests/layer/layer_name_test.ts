import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";
import { randomKeys } from "../support/layers.ts";
import { compareKeys } from "../../src/layer/key.ts";
import { formatLayerName, type LayerName, parseLayerName } from "../../src/layer/layer_name.ts";
import { lsn } from "../../src/lsn.ts";

const test = suite("layer/layer_name");

const DELTA: LayerName = {
  kind: "delta",
  keyMin: { family: 0, a: 1663, b: 5, c: 16384, d: 0, block: 0 },
  keyMax: { family: 1, a: 1663, b: 5, c: 16384, d: 2, block: 0xffffffff },
  lsnStart: lsn(0x16B3748),
  lsnEnd: lsn(0x1_0000_0001),
  epoch: 3,
  unique: 0xabcdef01,
};
const DELTA_TEXT = "000000067F000000050000400000" + "00000000" + "-010000067F000000050000400002" +
  "FFFFFFFF" +
  "__00000000016B3748-0000000100000001-00000003-abcdef01";

test("formatLayerName() spells both kinds", () => {
  assert.is(formatLayerName(DELTA), DELTA_TEXT);
  const image: LayerName = { ...DELTA, kind: "image", lsnEnd: lsn(DELTA.lsnStart + 1) };
  assert.is(formatLayerName(image), DELTA_TEXT.replace("-0000000100000001", ""));
  assert.equal(parseLayerName(DELTA_TEXT), DELTA);
  assert.equal(parseLayerName(formatLayerName(image)), image);
});

test("parseLayerName() gives back what formatLayerName() was given, and names sort by key", () => {
  const random = seededRandom("layer_name");
  for (let round = 0; round < 500; round++) {
    const keys = randomKeys(random, 2);
    const [keyMin, keyMax] = [keys[0], keys[keys.length - 1]];
    const lsnStart = lsn(random.pick([0, 8, random.uint32(), random.uint32() * 0x10_0000, 2 ** 53 - 2]));
    const kind = random.pick(["delta", "image"] as const);
    const width = kind === "image"
      ? 1
      : Math.min(random.int(1, 1_000_000), Number.MAX_SAFE_INTEGER - lsnStart);
    const unique = random.uint32();
    const name: LayerName = {
      kind,
      keyMin,
      keyMax,
      lsnStart,
      lsnEnd: lsn(lsnStart + width),
      epoch: random.uint32(),
      unique,
    };
    const text = formatLayerName(name);
    assert.equal(parseLayerName(text), name);
    assert.match(text, /^[A-Za-z0-9._-]{1,200}$/, "fit for object keys and file names");
    const other = formatLayerName({ ...name, keyMin: keyMax });
    assert.is(Math.sign(compareKeys(keyMin, keyMax)), text < other ? -1 : text > other ? 1 : 0);
  }
});

test("parseLayerName() refuses whatever is not a name", () => {
  const random = seededRandom("layer_name damage");
  const bad = [
    "",
    "manifest.json",
    `${DELTA_TEXT}.tmp`,
    ` ${DELTA_TEXT}`,
    `${DELTA_TEXT}\n`,
    DELTA_TEXT.toLowerCase(),
    DELTA_TEXT.replace("-abcdef01", ""),
    DELTA_TEXT.replace("abcdef01", "ABCDEF01"),
    DELTA_TEXT.replace("__", "_"),
    // The LSN range ends before it starts; the key range, too; the LSN is beyond 2^53.
    DELTA_TEXT.replace("0000000100000001", "00000000016B3748"),
    `${DELTA_TEXT.slice(37, 73)}-${DELTA_TEXT.slice(0, 36)}${DELTA_TEXT.slice(73)}`,
    DELTA_TEXT.replace("0000000100000001", "0020000000000001"),
  ];
  for (const text of bad) assert.is(parseLayerName(text), undefined, text);
  for (let round = 0; round < 2000; round++) {
    const at = random.int(0, DELTA_TEXT.length - 1);
    const mutated = DELTA_TEXT.slice(0, at) + String.fromCharCode(random.int(32, 126)) +
      DELTA_TEXT.slice(at + 1);
    const parsed = parseLayerName(mutated);
    if (parsed !== undefined) assert.is(formatLayerName(parsed), mutated);
  }
});

test.run();
