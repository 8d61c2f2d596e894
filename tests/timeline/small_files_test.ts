/** Small files as values: pieces, names, damage. */
import { CorruptionError } from "../../src/errors.ts";
import { FAMILY_FILE } from "../../src/layer/key.ts";
import { decodeFilePiece, encodeFilePieces, fileSpace } from "../../src/timeline/small_files.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("timeline/small_files");
const MIB = 1024 * 1024;

test("encodeFilePieces() cuts at each MiB, and decodeFilePiece() puts together what it wrote", () => {
  const random = seededRandom("small files");
  const path = "pg_tblspc/16500/PG_17_202406281/ähnlich.conf";
  for (const [length, pieces] of [[0, 1], [1, 1], [MIB, 1], [MIB + 1, 2], [3 * MIB, 3]]) {
    const bytes = random.bytes(length);
    const values = encodeFilePieces(path, bytes);
    assert.is(values.length, pieces);
    const read = values.map(decodeFilePiece);
    for (const piece of read) assert.equal([piece.path, piece.pieces], [path, pieces]);
    const joined = new Uint8Array(length);
    let at = 0;
    for (const piece of read) {
      joined.set(piece.bytes, at);
      at += piece.bytes.length;
    }
    assert.ok(at === length && joined.every((byte, index) => byte === bytes[index]));
  }
});

test("decodeFilePiece() refuses values that are cut off", () => {
  const [value] = encodeFilePieces("PG_VERSION", new Uint8Array(0));
  for (let length = 0; length < value.length; length++) {
    assert.raises(() => decodeFilePiece(value.subarray(0, length)), CorruptionError);
  }
  assert.is(decodeFilePiece(value).path, "PG_VERSION");
});

test("fileSpace() gives each path a space of its own", () => {
  const seen = new Set<string>();
  for (let n = 0; n < 10_000; n++) {
    const { family, a, b, c, d } = fileSpace(`base/${n % 100}/file_${n}`);
    if (family !== FAMILY_FILE || d !== 0 || [a, b, c].some((word) => word >>> 0 !== word)) {
      assert.unreachable();
    }
    seen.add(`${a}/${b}/${c}`);
  }
  assert.is(seen.size, 10_000);
});

test("decodeFilePiece() refuses paths that lead out of the data directory", () => {
  for (const path of ["/etc/passwd", "../x", "base/../../x", "base/..", "a\0b"]) {
    assert.throws(
      () => decodeFilePiece(encodeFilePieces(path, new Uint8Array(1))[0]),
      (e: unknown) => e instanceof CorruptionError,
    );
  }
  for (const path of ["PG_VERSION", "base/1/..x", "conf.d/a..b"]) {
    assert.is(decodeFilePiece(encodeFilePieces(path, new Uint8Array(1))[0]).path, path);
  }
});

test.run();
