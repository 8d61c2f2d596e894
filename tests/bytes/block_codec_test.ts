import { assert, suite } from "../support/harness.ts";
import { BlockCodecs, CODEC_LZ4, CODEC_NONE, CODEC_ZSTD, codecName } from "../../src/bytes/block_codec.ts";
import { UnsupportedError } from "../../src/errors.ts";

const test = suite("bytes/block_codec");
const codec = (id: number) => ({
  id,
  compress: (bytes: Uint8Array) => bytes,
  decompress: (bytes: Uint8Array) => bytes,
});

test("BlockCodecs.get() finds a codec by number and names the one that is missing", () => {
  const zstd = codec(CODEC_ZSTD);
  const codecs = new BlockCodecs([zstd]);
  assert.is(codecs.get(CODEC_ZSTD), zstd);
  assert.ok(codecs.has(CODEC_ZSTD) && codecs.has(CODEC_NONE) && !codecs.has(CODEC_LZ4));
  assert.match(assert.raises(() => codecs.get(CODEC_LZ4), UnsupportedError).message, "lz4");
  assert.raises(() => BlockCodecs.NONE.get(CODEC_ZSTD), UnsupportedError);
  assert.raises(() => codecs.get(63), UnsupportedError);
  assert.is(codecName(63), "codec 63");
});

test("BlockCodecs refuses a number out of range or taken", () => {
  for (const id of [0, -1, 64, 1.5, NaN]) assert.raises(() => new BlockCodecs([codec(id)]), RangeError);
  assert.raises(() => new BlockCodecs([codec(3), codec(3)]), RangeError);
});

test.run();
