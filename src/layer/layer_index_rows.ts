/**
 * The index of a layer file as bytes: one row per block, written by the writer and read back into flat columns.
 *
 * The layout is drawn in layer_format.ts. Rows are small (some 18 bytes), so that the index of a layer of a hundred
 * megabytes arrives with the first read of its tail.
 *
 * @module
 */
import { CODEC_NONE } from "../bytes/block_codec.ts";
import { getU32, setU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import { KEY_SIZE } from "./key.ts";
import { KeyTable } from "./key_table.ts";
import {
  BLOCK_HEADER_LENGTH,
  ENTRY_LENGTH_MIN,
  HEADER_LENGTH,
  type LayerFooter,
  RAW_LENGTH_MAX,
  ROW_CODEC_MASK,
  ROW_CONTINUES,
} from "./layer_format.ts";
import { setVarint, VARINT_LENGTH_MAX, VarintReader } from "./varint.ts";

/** The most bytes of a row. */
const ROW_LENGTH_MAX = 1 + KEY_SIZE + 3 * VARINT_LENGTH_MAX + 5;

/** Writes the byte `shared` and the key bytes after so many; returns where it ends. */
export function putKey(target: Uint8Array, at: number, key: Uint8Array, shared: number): number {
  target[at++] = shared;
  for (let i = shared; i < KEY_SIZE; i++) target[at++] = key[i];
  return at;
}

/** Collects rows in order of the file. */
export class IndexRowWriter {
  #bytes = new Uint8Array(4096);
  #length = 0;
  #rowCount = 0;
  readonly #previousKey = new Uint8Array(KEY_SIZE);

  get rowCount(): number {
    return this.#rowCount;
  }

  /** Adds a block's row. `firstLsn` counts from the layer's start. */
  add(
    firstKey: Uint8Array,
    firstLsn: number,
    storedLength: number,
    rawLength: number,
    codec: number,
    continues: boolean,
    crc: number,
  ): void {
    if (this.#length + ROW_LENGTH_MAX > this.#bytes.length) {
      const grown = new Uint8Array(this.#bytes.length * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    let shared = 0;
    if (this.#rowCount > 0) {
      while (shared < KEY_SIZE && firstKey[shared] === this.#previousKey[shared]) shared++;
    }
    const bytes = this.#bytes;
    let at = putKey(bytes, this.#length, firstKey, shared);
    at = setVarint(bytes, at, firstLsn);
    at = setVarint(bytes, at, storedLength);
    at = setVarint(bytes, at, rawLength);
    bytes[at] = codec | (continues ? ROW_CONTINUES : 0);
    setU32(bytes, at + 1, crc);
    this.#length = at + 5;
    this.#rowCount++;
    this.#previousKey.set(firstKey);
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

/** The index as columns, one element per block. */
export interface IndexColumns {
  readonly firstKeys: KeyTable;
  readonly firstLsns: Float64Array;
  /** Where a block starts in the file; one more element: where the last one ends. */
  readonly offsets: Float64Array;
  readonly rawLengths: Uint32Array;
  readonly codecs: Uint8Array;
  /** 1 where the first key is also the last of the block before. */
  readonly continues: Uint8Array;
  readonly crcs: Uint32Array;
}

/**
 * Reads the rows, whose checksum the caller has verified, and checks that they can be: ascending, bounded, contiguous.
 *
 * @throws {CorruptionError} If not, with the row's offset in the file.
 */
export function decodeIndexRows(bytes: Uint8Array, footer: LayerFooter, name: string): IndexColumns {
  const { blockCount: count, keyMin, keyMax } = footer;
  const columns: IndexColumns = {
    firstKeys: new KeyTable(count),
    firstLsns: new Float64Array(count),
    offsets: new Float64Array(count + 1),
    rawLengths: new Uint32Array(count),
    codecs: new Uint8Array(count),
    continues: new Uint8Array(count),
    crcs: new Uint32Array(count),
  };
  const refuse = (what: string, at: number, got?: number): never => {
    throw new CorruptionError(`Cannot read layer: ${what}`, {
      object: name,
      offset: footer.indexOffset + at,
      got,
    });
  };
  const key = new Uint8Array(KEY_SIZE);
  const reader = new VarintReader(bytes, 0);
  columns.offsets[0] = HEADER_LENGTH;
  let rawBytes = 0;
  for (let row = 0; row < count; row++) {
    const start = reader.at;
    const fault = decodeRow(reader, row, key, columns, footer);
    if (fault !== undefined) refuse(`${fault} in row ${row} of its index`, start);
    rawBytes += columns.rawLengths[row];
  }
  const { firstKeys } = columns;
  const last = count - 1;
  if (
    count > 0 &&
    (firstKeys.compare(0, keyMin, keyMin.block) < 0 || firstKeys.compare(last, keyMax, keyMax.block) > 0)
  ) {
    refuse("its index has keys beyond its key range", 0);
  }
  if (
    reader.at !== bytes.length || columns.offsets[count] !== footer.indexOffset ||
    rawBytes !== footer.rawBytes
  ) {
    refuse("its index does not add up to its blocks", 0, columns.offsets[count]);
  }
  return columns;
}

/** Reads one row into the columns; returns what is wrong with it, if anything is. `key` holds the row's before. */
function decodeRow(
  reader: VarintReader,
  row: number,
  key: Uint8Array,
  columns: IndexColumns,
  footer: LayerFooter,
): string | undefined {
  const { bytes, at: start } = reader;
  const shared = bytes[start];
  if (!(shared <= KEY_SIZE) || (row === 0 && shared > 0)) return "impossible key prefix";
  // Keys ascend exactly if the first byte that differs is greater.
  if (row > 0 && shared < KEY_SIZE && !(bytes[start + 1] > key[shared])) return "keys out of order";
  for (let i = shared, at = start + 1; i < KEY_SIZE; i++) key[i] = bytes[at++];
  reader.at = start + 1 + KEY_SIZE - shared;
  const lsnDelta = reader.next();
  const storedLength = reader.next();
  const rawLength = reader.next();
  const codecByte = bytes[reader.at];
  const crc = getU32(bytes, reader.at + 1);
  reader.at += 5;
  if (reader.at > bytes.length) return "missing bytes";
  const firstLsn = footer.lsnStart + lsnDelta;
  if (lsnDelta < 0 || firstLsn >= footer.lsnEnd) return "impossible LSN";
  const continues = (codecByte & ROW_CONTINUES) !== 0;
  if (shared === KEY_SIZE && !(continues && firstLsn > columns.firstLsns[row - 1])) {
    return "blocks out of order";
  }
  if (rawLength < BLOCK_HEADER_LENGTH + ENTRY_LENGTH_MIN || rawLength > RAW_LENGTH_MAX) {
    return "impossible raw length";
  }
  const codec = codecByte & ROW_CODEC_MASK;
  const isPossible = codec === CODEC_NONE
    ? storedLength === rawLength
    : storedLength > 0 && storedLength < rawLength;
  if (!isPossible) return "impossible stored length";
  columns.firstKeys.setBytes(row, key, 0);
  columns.firstLsns[row] = firstLsn;
  columns.offsets[row + 1] = columns.offsets[row] + storedLength;
  columns.rawLengths[row] = rawLength;
  columns.codecs[row] = codec;
  columns.continues[row] = continues ? 1 : 0;
  columns.crcs[row] = crc;
  return undefined;
}
