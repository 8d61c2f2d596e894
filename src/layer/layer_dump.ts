/**
 * Prints a layer file byte range by byte range, with labels: for people who debug storage, and for golden tests.
 *
 * A diagnostic, beside both paths. Lines are offset, length, bytes and label, in order of the file, every byte once. Of a
 * compressed block the stored bytes are one line, and the decompressed ones follow, marked `+` and counted from the
 * block's start. A damaged part gets a line that starts with `!`, and the dump goes on where it can.
 *
 * @module
 */
import { CODEC_NONE, codecName } from "../bytes/block_codec.ts";
import { crc32c } from "../bytes/crc32c.ts";
import { getU16, getU32, getU64 } from "../bytes/little_endian.ts";
import { VarveError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { decodeKey, KEY_SIZE } from "./key.ts";
import {
  decodeHeader,
  FOOTER_LENGTH,
  HEADER_LENGTH,
  type LayerFooter,
  ROW_CODEC_MASK,
  ROW_CONTINUES,
} from "./layer_format.ts";
import {
  type LayerIndex,
  type LayerSource,
  openLayer,
  type OpenLayerOptions,
  readExactly,
} from "./layer_reader.ts";
import { describeFlags, describeKey } from "./layer_text.ts";
import { VarintReader } from "./varint.ts";

/** Bytes that a line shows. */
const SHOWN_BYTES = 12;
const KIND_NAMES = ["unknown", "delta", "image"];

/**
 * Yields the lines of a dump; returns how many parts are damaged.
 *
 * @param name For messages: the file or object.
 * @throws What the source rejects with.
 */
export async function* dumpLayer(
  source: LayerSource,
  name: string,
  options: OpenLayerOptions = {},
): AsyncGenerator<string, number> {
  const { signal } = options;
  if (source.size < HEADER_LENGTH + FOOTER_LENGTH) {
    const bytes = await readExactly(source, 0, source.size, name, signal);
    yield formatLine(0, bytes, "too short for a layer");
    return 1;
  }
  let damages = 0;
  const header = await readExactly(source, 0, HEADER_LENGTH, name, signal);
  yield* dumpHeader(header);
  try {
    decodeHeader(header, name);
  } catch (error) {
    damages++;
    yield describeDamage(error);
  }
  let index: LayerIndex | undefined;
  try {
    index = await openLayer(source, name, options);
  } catch (error) {
    damages++;
    yield describeDamage(error);
  }
  if (index !== undefined) {
    for (let blockIndex = 0; blockIndex < index.blockCount; blockIndex++) {
      damages += yield* dumpBlock(source, index, blockIndex, signal);
    }
    const { indexOffset, indexLength } = index.footer;
    yield* dumpIndex(await readExactly(source, indexOffset, indexLength, name, signal), index.footer);
  }
  const footerOffset = source.size - FOOTER_LENGTH;
  yield* dumpFooter(await readExactly(source, footerOffset, FOOTER_LENGTH, name, signal), footerOffset);
  return damages;
}

function* dumpHeader(bytes: Uint8Array): Generator<string> {
  const fields = new Fields(bytes, 0, "header ");
  yield fields.line(0, 8, `magic ${ascii(bytes, 0)}`);
  yield fields.line(8, 2, `version ${getU16(bytes, 8)}`);
  yield fields.line(10, 1, `kind ${KIND_NAMES[bytes[10]] ?? "unknown"}`);
  yield fields.line(11, 1, "zero");
  yield fields.line(12, 4, `crc ${crcVerdict(getU32(bytes, 12), crc32c(bytes, 0, 12))}`);
}

/** One block; returns 1 if it is damaged. */
async function* dumpBlock(
  source: LayerSource,
  index: LayerIndex,
  blockIndex: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<string, number> {
  const offset = index.blockOffset(blockIndex);
  const raw = await readExactly(source, offset, index.blockLength(blockIndex), index.name, signal);
  const codec = index.codec(blockIndex);
  const label = `block ${blockIndex} `;
  const stored = `${label}stored with ${codecName(codec)}, before: ${index.rawLength(blockIndex)} bytes`;
  let bytes: Uint8Array;
  try {
    bytes = index.decodeBlock(raw, blockIndex).bytes;
  } catch (error) {
    yield formatLine(offset, raw, stored);
    yield describeDamage(error);
    return 1;
  }
  if (codec !== CODEC_NONE) yield formatLine(offset, raw, stored);
  const fields = new Fields(bytes, codec === CODEC_NONE ? offset : 0, label, codec === CODEC_NONE ? "" : "+");
  yield* dumpEntries(bytes, fields, index.footer.lsnStart);
  return 0;
}

/** The fields of a block that was verified. */
function* dumpEntries(bytes: Uint8Array, fields: Fields, lsnStart: Lsn): Generator<string> {
  const count = getU32(bytes, 0);
  yield fields.line(0, 4, `entry_count ${count}`);
  const reader = new VarintReader(bytes, 4);
  const key = new Uint8Array(KEY_SIZE);
  let lsn = 0;
  for (let entry = 0; entry < count; entry++) {
    const label = `entry ${entry} `;
    const shared = yield* dumpKey(reader, key, fields, label);
    let at = reader.at;
    lsn = (shared === KEY_SIZE ? lsn : lsnStart) + reader.next();
    yield fields.line(at, reader.at - at, `${label}LSN ${formatLsn(lsn as Lsn)}`);
    at = reader.at++;
    yield fields.line(at, 1, `${label}flags ${describeFlags(bytes[at])}`);
    at = reader.at;
    const length = reader.next();
    yield fields.line(at, reader.at - at, `${label}length ${length}`);
    if (length > 0) yield fields.line(reader.at, length, `${label}value`);
    reader.at += length;
  }
}

/** The byte `shared` and what follows of the key; returns `shared`. */
function* dumpKey(
  reader: VarintReader,
  key: Uint8Array,
  fields: Fields,
  label: string,
): Generator<string, number> {
  const { bytes, at } = reader;
  const shared = bytes[at];
  yield fields.line(at, 1, `${label}shared ${shared}`);
  for (let i = shared; i < KEY_SIZE; i++) key[i] = bytes[at + 1 + i - shared];
  if (shared < KEY_SIZE) {
    yield fields.line(at + 1, KEY_SIZE - shared, `${label}key ${describeKey(decodeKey(key, 0))}`);
  }
  reader.at = at + 1 + KEY_SIZE - shared;
  return shared;
}

/** The rows of an index that was verified. */
function* dumpIndex(bytes: Uint8Array, footer: LayerFooter): Generator<string> {
  const fields = new Fields(bytes, footer.indexOffset, "index ");
  const reader = new VarintReader(bytes, 0);
  const key = new Uint8Array(KEY_SIZE);
  for (let row = 0; row < footer.blockCount; row++) {
    const label = `row ${row} `;
    yield* dumpKey(reader, key, fields, label);
    for (const what of ["first_lsn", "stored_length", "raw_length"]) {
      const at = reader.at;
      const value = reader.next();
      const text = what === "first_lsn" ? formatLsn(value + footer.lsnStart as Lsn) : value;
      yield fields.line(at, reader.at - at, `${label}${what} ${text}`);
    }
    const { at } = reader;
    const continues = (bytes[at] & ROW_CONTINUES) !== 0 ? ", continues" : "";
    yield fields.line(at, 1, `${label}codec ${codecName(bytes[at] & ROW_CODEC_MASK)}${continues}`);
    yield fields.line(at + 1, 4, `${label}crc ${hex32(getU32(bytes, at + 1))}`);
    reader.at = at + 5;
  }
}

function* dumpFooter(bytes: Uint8Array, offset: number): Generator<string> {
  const fields = new Fields(bytes, offset, "footer ");
  yield fields.line(0, 8, `index_offset ${getU64(bytes, 0)}`);
  yield fields.line(8, 4, `index_length ${getU32(bytes, 8)}`);
  yield fields.line(12, 4, `index_crc ${hex32(getU32(bytes, 12))}`);
  yield fields.line(16, 8, `entry_count ${getU64(bytes, 16)}`);
  yield fields.line(24, 4, `block_count ${getU32(bytes, 24)}`);
  yield fields.line(28, 4, `block_bytes ${getU32(bytes, 28)}`);
  yield fields.line(32, 18, `key_min ${describeKey(decodeKey(bytes, 32))}`);
  yield fields.line(50, 18, `key_max ${describeKey(decodeKey(bytes, 50))}`);
  yield fields.line(68, 4, "zero");
  yield fields.line(72, 8, `lsn_start ${formatAnyLsn(getU64(bytes, 72))}`);
  yield fields.line(80, 8, `lsn_end ${formatAnyLsn(getU64(bytes, 80))}`);
  yield fields.line(88, 8, `raw_bytes ${getU64(bytes, 88)}`);
  yield fields.line(96, 1, `kind ${KIND_NAMES[bytes[96]] ?? "unknown"}`);
  yield fields.line(97, 1, `flags ${(bytes[97] & 1) !== 0 ? "complete" : "none"}`);
  yield fields.line(98, 6, "zero");
  yield fields.line(104, 2, `version ${getU16(bytes, 104)}`);
  yield fields.line(106, 2, `length ${getU16(bytes, 106)}`);
  yield fields.line(108, 4, `crc ${crcVerdict(getU32(bytes, 108), crc32c(bytes, 0, 108))}`);
  yield fields.line(112, 8, `magic ${ascii(bytes, 112)}`);
}

/** Formats the fields of one part of the file. */
class Fields {
  readonly #bytes: Uint8Array;
  readonly #base: number;
  readonly #label: string;
  readonly #mark: string;

  /** @param base Offset of `bytes` in the file. @param mark Goes in front of offsets that are not the file's. */
  constructor(bytes: Uint8Array, base: number, label: string, mark = "") {
    this.#bytes = bytes;
    this.#base = base;
    this.#label = label;
    this.#mark = mark;
  }

  line(at: number, length: number, label: string): string {
    return formatLine(
      this.#base + at,
      this.#bytes.subarray(at, at + length),
      this.#label + label,
      this.#mark,
    );
  }
}

function formatLine(offset: number, bytes: Uint8Array, label: string, mark = ""): string {
  const shown = Array.from(bytes.subarray(0, SHOWN_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join(
    " ",
  );
  const column = (shown + (bytes.length > SHOWN_BYTES ? " .." : "")).padEnd(SHOWN_BYTES * 3 + 2);
  return `${(mark + offset).padStart(10)} ${String(bytes.length).padStart(7)}  ${column}  ${label}`;
}

function describeDamage(error: unknown): string {
  // Anything else is not the file's fault.
  if (!(error instanceof VarveError)) throw error;
  return `! ${error.name}: ${error.message}`;
}

function crcVerdict(expected: number, got: number): string {
  return `${hex32(expected)} ${expected === got ? "ok" : `WRONG, computed ${hex32(got)}`}`;
}

function formatAnyLsn(value: number): string {
  return Number.isSafeInteger(value) ? formatLsn(value as Lsn) : "beyond 2^53";
}

function ascii(bytes: Uint8Array, at: number): string {
  return JSON.stringify(String.fromCharCode(...bytes.subarray(at, at + 8)));
}

function hex32(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
