/**
 * The layer file, byte by byte: header, index rows, footer, constants and the ladder of versions.
 *
 * One format for both kinds. A *delta layer* holds what happened to a key range in an LSN range; an *image layer* holds
 * values of a key range at one LSN (a delta of width one). Little-endian, but for keys, which are big-endian so that
 * bytes sort as keys do. `varint` is LEB128, least significant group first, at most 8 bytes and 2^53 - 1.
 * ```
 * header 16 | block 0 | block 1 | ... | index | footer 120
 *
 * header                                      footer
 * offset width name                           offset width name
 *      0     8 magic "VARVELYR"                    0     8 index_offset
 *      8     2 version                             8     4 index_length
 *     10     1 kind 1 delta, 2 image              12     4 index_crc
 *     11     1 zero                               16     8 entry_count
 *     12     4 header_crc of bytes 0..12          24     4 block_count
 *                                                 28     4 block_bytes  the writer's target
 * block, before compression                       32    18 key_min
 * offset width name                               50    18 key_max      inclusive
 *      0     4 entry_count, at least 1            68     4 zero
 *      4     . entries                            72     8 lsn_start
 *                                                 80     8 lsn_end      exclusive
 * entry, sorted by (key, LSN), no two alike       88     8 raw_bytes    of all blocks, uncompressed
 *  width name                                     96     1 kind
 *      1 shared: leading key bytes that           97     1 flags        1 COMPLETE
 *        equal the previous entry's;              98     6 zero
 *        0 in a block's first                     -- the last 16 bytes are alike in every version
 * 18-sh. the other key bytes                     104     2 version
 * varint LSN: minus that of the previous         106     2 footer_length
 *        entry if the key is the same            108     4 footer_crc of the footer before it
 *        (shared = 18), else minus lsn_start     112     8 magic "VARVEEND"
 *      1 flags, see key.ts
 * varint length of the value
 *      . the value
 *
 * index row, one per block, in order
 *  width name
 *      1 shared: as in entries, with the previous row's first key
 * 18-sh. the other bytes of the block's first key
 * varint LSN of the first entry, minus lsn_start
 * varint stored_length
 * varint raw_length, before compression
 *      1 codec in bits 0..5; bit 7 CONTINUES: the first key is also the last of the block before
 *      4 crc of the stored bytes
 * ```
 * Blocks lie one behind the other from byte 16 to index_offset: their offsets are sums of lengths, and a row that lies
 * cannot go unnoticed. All checksums are CRC-32C. Block checksums are covered by the index's, the index's by the
 * footer's: footer_crc stands for the whole file, and is what a manifest remembers and attaching verifies.
 *
 * @module
 */
import { crc32c } from "../bytes/crc32c.ts";
import { getU16, getU32, getU64, setU16, setU32, setU64 } from "../bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { compareKeys, decodeKey, encodeKey, type Key } from "./key.ts";

/** What a layer holds: changes over an LSN range, or values at one LSN. */
export type LayerKind = "delta" | "image";

/** Every version of the format: what it added, and the first release that wrote it. Readers keep reading old ones. */
export const LAYER_VERSIONS: readonly { version: number; release: string; adds: string }[] = [
  { version: 1, release: "0.1.0", adds: "the format drawn above" },
];
/** The version written. A newer one is refused. */
export const LAYER_VERSION = LAYER_VERSIONS[LAYER_VERSIONS.length - 1].version;

export const HEADER_LENGTH = 16;
export const FOOTER_LENGTH = 120;
/** The part of the footer that keeps its place in every version. */
export const FOOTER_TAIL_LENGTH = 16;
/** Bytes in front of a block's entries. */
export const BLOCK_HEADER_LENGTH = 4;
/** The least bytes of an entry: shared = 18, LSN, flags and length of one byte each. */
export const ENTRY_LENGTH_MIN = 4;
/** The least bytes of an index row: shared = 18, three varints of one byte, codec, crc. */
export const INDEX_ROW_LENGTH_MIN = 9;

/** Greatest value: above `XLogRecordMaxSize` (1020 MiB), so any WAL record fits. */
export const VALUE_LENGTH_MAX = 1024 * 1024 * 1024;
/** Greatest block: one greatest value and what goes with it. */
export const RAW_LENGTH_MAX = VALUE_LENGTH_MAX + 64;
/** Bytes of a block before compression that the writer aims at. */
export const DEFAULT_BLOCK_BYTES = 32 * 1024;
export const BLOCK_BYTES_MIN = 64;
export const BLOCK_BYTES_MAX = 16 * 1024 * 1024;

/** Bits of an index row's codec byte. */
export const ROW_CODEC_MASK = 0x3f;
export const ROW_CONTINUES = 0x80;

/** Bit of the footer's flags: a key of the range that is absent did not exist. */
const FLAG_COMPLETE = 0x01;

const KINDS: readonly (LayerKind | undefined)[] = [undefined, "delta", "image"];
const HEADER_MAGIC = asciiBytes("VARVELYR");
const FOOTER_MAGIC = asciiBytes("VARVEEND");

/** The footer as numbers and keys. */
export interface LayerFooter {
  kind: LayerKind;
  /** Image layers: absence of a key in the range proves that it did not exist. */
  complete: boolean;
  /** Least key of the range. */
  keyMin: Key;
  /** Greatest key of the range, inclusive. */
  keyMax: Key;
  lsnStart: Lsn;
  /** Exclusive. An image layer's is `lsnStart + 1`. */
  lsnEnd: Lsn;
  entryCount: number;
  blockCount: number;
  /** Target of the writer, bytes before compression. */
  blockBytes: number;
  /** Bytes of all blocks before compression. */
  rawBytes: number;
  indexOffset: number;
  indexLength: number;
  indexCrc: number;
  /** The footer's own CRC-32C: stands for the whole file. */
  checksum: number;
}

function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

function hasBytes(bytes: Uint8Array, offset: number, expected: Uint8Array): boolean {
  return expected.every((byte, i) => bytes[offset + i] === byte);
}

/** The first 16 bytes of a layer. */
export function encodeHeader(kind: LayerKind): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH);
  bytes.set(HEADER_MAGIC, 0);
  setU16(bytes, 8, LAYER_VERSION);
  bytes[10] = KINDS.indexOf(kind);
  setU32(bytes, 12, crc32c(bytes, 0, 12));
  return bytes;
}

/**
 * Checks the first 16 bytes of a layer, for those who have them.
 *
 * @throws {CorruptionError} If they are not a header. @throws {UnsupportedError} If the version is newer.
 */
export function decodeHeader(bytes: Uint8Array, name: string): LayerKind {
  if (bytes.length < HEADER_LENGTH || !hasBytes(bytes, 0, HEADER_MAGIC)) {
    throw new CorruptionError("Cannot read layer: no magic at its start", { object: name, offset: 0 });
  }
  const crc = crc32c(bytes, 0, 12);
  if (getU32(bytes, 12) !== crc) throw checksumError("header", name, 0, getU32(bytes, 12), crc);
  refuseNewer(getU16(bytes, 8), name);
  const kind = KINDS[bytes[10]];
  if (kind === undefined) {
    throw new CorruptionError("Cannot read layer: unknown kind", {
      object: name,
      offset: 10,
      got: bytes[10],
    });
  }
  return kind;
}

/** The last 120 bytes of a layer. */
export function encodeFooter(footer: Omit<LayerFooter, "checksum">): Uint8Array {
  const bytes = new Uint8Array(FOOTER_LENGTH);
  setU64(bytes, 0, footer.indexOffset);
  setU32(bytes, 8, footer.indexLength);
  setU32(bytes, 12, footer.indexCrc);
  setU64(bytes, 16, footer.entryCount);
  setU32(bytes, 24, footer.blockCount);
  setU32(bytes, 28, footer.blockBytes);
  encodeKey(bytes, 32, footer.keyMin, footer.keyMin.block);
  encodeKey(bytes, 50, footer.keyMax, footer.keyMax.block);
  setU64(bytes, 72, footer.lsnStart);
  setU64(bytes, 80, footer.lsnEnd);
  setU64(bytes, 88, footer.rawBytes);
  bytes[96] = KINDS.indexOf(footer.kind);
  bytes[97] = footer.complete ? FLAG_COMPLETE : 0;
  setU16(bytes, 104, LAYER_VERSION);
  setU16(bytes, 106, FOOTER_LENGTH);
  setU32(bytes, 108, crc32c(bytes, 0, 108));
  bytes.set(FOOTER_MAGIC, 112);
  return bytes;
}

/** The checksum inside an encoded footer. */
export function footerChecksum(footer: Uint8Array): number {
  return getU32(footer, 108);
}

/**
 * Reads the footer at the end of `tail`, the last bytes of a layer of `size` bytes.
 *
 * @throws {CorruptionError} If it is damaged or contradicts the size. @throws {UnsupportedError} If the version is newer.
 */
export function decodeFooter(tail: Uint8Array, size: number, name: string): LayerFooter {
  const end = tail.length;
  if (size < HEADER_LENGTH + FOOTER_LENGTH || !hasBytes(tail, end - 8, FOOTER_MAGIC)) {
    throw new CorruptionError("Cannot read layer: no magic at its end", { object: name, offset: size - 8 });
  }
  const length = getU16(tail, end - 14);
  if (length < FOOTER_TAIL_LENGTH || length > end) {
    throw new CorruptionError("Cannot read layer: impossible footer length", { object: name, got: length });
  }
  // The checksum comes before the version, so that damage is not taken for news.
  const start = end - length;
  const crc = crc32c(tail, start, end - 12);
  if (getU32(tail, end - 12) !== crc) {
    throw checksumError("footer", name, size - length, getU32(tail, end - 12), crc);
  }
  refuseNewer(getU16(tail, end - 16), name);
  if (length !== FOOTER_LENGTH) {
    throw new CorruptionError("Cannot read layer: wrong footer length", { object: name, got: length });
  }
  const footer = readFooterFields(tail, start, name, size);
  checkFooter(footer, name, size);
  return footer;
}

function readFooterFields(bytes: Uint8Array, at: number, name: string, size: number): LayerFooter {
  const kind = KINDS[bytes[at + 96]];
  if (kind === undefined) {
    const offset = size - FOOTER_LENGTH + 96;
    throw new CorruptionError("Cannot read layer: unknown kind", {
      object: name,
      offset,
      got: bytes[at + 96],
    });
  }
  return {
    kind,
    complete: (bytes[at + 97] & FLAG_COMPLETE) !== 0,
    keyMin: decodeKey(bytes, at + 32),
    keyMax: decodeKey(bytes, at + 50),
    lsnStart: getU64(bytes, at + 72) as Lsn,
    lsnEnd: getU64(bytes, at + 80) as Lsn,
    entryCount: getU64(bytes, at + 16),
    blockCount: getU32(bytes, at + 24),
    blockBytes: getU32(bytes, at + 28),
    rawBytes: getU64(bytes, at + 88),
    indexOffset: getU64(bytes, at),
    indexLength: getU32(bytes, at + 8),
    indexCrc: getU32(bytes, at + 12),
    checksum: getU32(bytes, at + 108),
  };
}

/** A footer whose checksum is right may still come from a broken or hostile writer: nothing below trusts it unchecked. */
function checkFooter(footer: LayerFooter, name: string, size: number): void {
  const refuse = (what: string, expected: string | number, got: string | number): never => {
    throw new CorruptionError(`Cannot read layer: wrong ${what} in its footer`, {
      object: name,
      offset: size - FOOTER_LENGTH,
      expected,
      got,
    });
  };
  const indexEnd = footer.indexOffset + footer.indexLength;
  if (footer.indexOffset < HEADER_LENGTH || indexEnd !== size - FOOTER_LENGTH) {
    refuse("index range", size - FOOTER_LENGTH, indexEnd);
  }
  if (footer.blockCount * INDEX_ROW_LENGTH_MIN > footer.indexLength) {
    refuse(
      "block count",
      `at most ${Math.floor(footer.indexLength / INDEX_ROW_LENGTH_MIN)}`,
      footer.blockCount,
    );
  }
  if (footer.lsnEnd > Number.MAX_SAFE_INTEGER || footer.lsnStart >= footer.lsnEnd) {
    refuse("LSN range", "a range", `${footer.lsnStart} to ${footer.lsnEnd}`);
  }
  if (footer.kind === "image" && footer.lsnEnd !== footer.lsnStart + 1) {
    refuse("LSN range of an image layer", footer.lsnStart + 1, footer.lsnEnd);
  }
  if (footer.complete && footer.kind !== "image") refuse("flags of a delta layer", 0, FLAG_COMPLETE);
  if (compareKeys(footer.keyMin, footer.keyMax) > 0) {
    refuse("key range", "a range", "its end before its start");
  }
}

function refuseNewer(version: number, name: string): void {
  if (version === LAYER_VERSION) return;
  if (version > LAYER_VERSION) {
    throw new UnsupportedError(
      `Cannot read layer ${name}: it has format version ${version}, this build reads up to ${LAYER_VERSION}`,
      { hint: "Upgrade varve." },
    );
  }
  throw new CorruptionError("Cannot read layer: unknown format version", { object: name, got: version });
}

/** The error for stored bytes that do not match their checksum. */
export function checksumError(
  what: string,
  object: string,
  offset: number,
  expected: number,
  got: number,
): Error {
  return new CorruptionError(`Cannot read layer: wrong checksum of ${what}`, {
    object,
    offset,
    expected: hex32(expected),
    got: hex32(got),
  });
}

function hex32(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
