/**
 * Keys of page versions and of everything else that a timeline keeps, and the flags of their values.
 *
 * Shared by both paths. A key is a *space* (family and four numbers: say, one fork of one relation) and a block number
 * in it; its bytes sort as (family, a, b, c, d, block), big-endian, so that neighbours on disk are neighbours in a file:
 * ```
 * offset width name
 *      0     1 family
 *      1     4 a       relation: tablespace oid
 *      5     4 b       relation: database oid
 *      9     4 c       relation: relfilenumber
 *     13     1 d       relation: fork number
 *     14     4 block
 * ```
 * | family | a | b | c | d | block | value |
 * |---|---|---|---|---|---|---|
 * | RELATION 0x00 | spc | db | rel | fork | block number | page image or record |
 * | RELATION_SIZE 0x01 | spc | db | rel | fork | 0 | size (see {@linkcode encodeSize}) |
 * | SLRU 0x02 | kind | 0 | segment number | 0 | page in segment, 0..31 | page image or record |
 * | SLRU_SIZE 0x03 | kind | 0 | segment number | 0 | 0 | size in pages, or dropped |
 * | DATABASE 0x04 | spc | db | 0 | 0 | 0 | empty: exists; or dropped |
 * | RELMAP 0x05 | spc | db | 0 | 0 | 0 | pg_filenode.map, whole |
 * | TABLESPACE 0x06 | spc | 0 | 0 | 0 | 0 | its path, or dropped |
 * | TWO_PHASE 0x07 | xid, upper half | lower half | 0 | 0 | 0 | state without CRC, or dropped |
 * | CLUSTER_STATE 0x08 | 0 | 0 | 0 | 0 | 0 | see postgres/effects/cluster_state.ts |
 * | CONTROL_FILE 0x09 | 0 | 0 | 0 | 0 | 0 | pg_control as backed up |
 * | ORIGIN 0x0a | origin id | 0 | 0 | 0 | 0 | remote LSN, 8 bytes; or dropped |
 * | FILE 0x0b | hash of path, 96 bits in a, b, c | | | 0 | piece number | path and bytes |
 * | TIME 0x0c | kind | upper part of number | 0 | 0 | lower part | ends of transactions, restore points: timeline/time_values.ts |
 *
 * @module
 */

export const FAMILY_RELATION = 0x00;
export const FAMILY_RELATION_SIZE = 0x01;
export const FAMILY_SLRU = 0x02;
export const FAMILY_SLRU_SIZE = 0x03;
export const FAMILY_DATABASE = 0x04;
export const FAMILY_RELMAP = 0x05;
export const FAMILY_TABLESPACE = 0x06;
export const FAMILY_TWO_PHASE = 0x07;
export const FAMILY_CLUSTER_STATE = 0x08;
export const FAMILY_CONTROL_FILE = 0x09;
export const FAMILY_ORIGIN = 0x0a;
export const FAMILY_FILE = 0x0b;
export const FAMILY_TIME = 0x0c;

/** Bytes of an encoded key. */
export const KEY_SIZE = 18;

/** One key space: what a block number counts in. */
export interface KeySpace {
  readonly family: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

/** A whole key. */
export interface Key extends KeySpace {
  readonly block: number;
}

/** Negative, 0 or positive as `left` sorts before, with or after `right`. */
export function compareSpaces(left: KeySpace, right: KeySpace): number {
  return left.family - right.family || left.a - right.a || left.b - right.b || left.c - right.c ||
    left.d - right.d;
}

export function compareKeys(left: Key, right: Key): number {
  return compareSpaces(left, right) || left.block - right.block;
}

/** Writes the 18 bytes of a key. */
export function encodeKey(target: Uint8Array, offset: number, space: KeySpace, block: number): void {
  target[offset] = space.family;
  setU32BE(target, offset + 1, space.a);
  setU32BE(target, offset + 5, space.b);
  setU32BE(target, offset + 9, space.c);
  target[offset + 13] = space.d;
  setU32BE(target, offset + 14, block);
}

/** Reads the 18 bytes of a key. */
export function decodeKey(bytes: Uint8Array, offset: number): Key {
  return {
    family: bytes[offset],
    a: getU32BE(bytes, offset + 1),
    b: getU32BE(bytes, offset + 5),
    c: getU32BE(bytes, offset + 9),
    d: bytes[offset + 13],
    block: getU32BE(bytes, offset + 14),
  };
}

export function getU32BE(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] << 24) | (bytes[offset + 1] << 16) | (bytes[offset + 2] << 8) |
    bytes[offset + 3]) >>> 0;
}

export function setU32BE(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

/**
 * A full-page image of a GiST page whose split its record finished: replay also sets its NSN and clears its mark, as
 * PostgreSQL does after it has restored the image (postgres/redo/gist).
 */
export const VALUE_ENDS_GIST_SPLIT = 0x80;

/** The family that holds the sizes of this one's spaces. */
export function sizeFamily(family: number): number {
  return family + 1;
}

/** Bytes of an encoded size: u32 blocks, u32 high-water mark (the most blocks that the space ever had). */
export const SIZE_VALUE_LENGTH = 8;

/**
 * Flags of a value: one of the VALUE kinds in the low two bits, and more.
 *
 * A read collects values of a key newest to oldest until one that {@linkcode endsChain}, then replays.
 */
export const VALUE_KIND_MASK = 0x03;
/** Bytes that stand for themselves: pages of an image layer, SLRU pages, sizes, maps, files. A page keeps its own pd_lsn. */
export const VALUE_RAW = 0;
/** A WAL record that touches this key; replayed by redo. */
export const VALUE_RECORD = 1;
/**
 * A page image out of a record: u16 hole offset, u16 hole length, then the image as the record carried it, its hole
 * removed and perhaps compressed ({@linkcode VALUE_COMPRESSION_SHIFT}). pd_lsn becomes the value's LSN. The record
 * that it came in may lie beside it (image_value.ts).
 */
export const VALUE_FULL_PAGE_IMAGE = 2;
/** The thing is gone from this LSN on (sizes, two-phase, files, ...). No bytes. */
export const VALUE_DROPPED = 3;
/** Replay starts from a zero page: the record initialises the page, or made it exist. */
export const VALUE_FROM_ZERO = 0x04;
/**
 * A full-page image that was logged for a hint bit (with VALUE_FULL_PAGE_IMAGE, for which the bit is else not used): the
 * page as it was before, so that verification of a store knows what it must equal.
 */
export const VALUE_IMAGE_OF_HINT = 0x04;
/** A page of zeros; no bytes (with VALUE_RAW). */
export const VALUE_ZERO_PAGE = 0x08;
/** The record that brought the image is kept behind it (with VALUE_FULL_PAGE_IMAGE); see image_value.ts. */
export const VALUE_IMAGE_WITH_RECORD = 0x08;
/** How a full-page image is compressed, two bits: `IMAGE_NOT_COMPRESSED` .. `IMAGE_ZSTD` of postgres/wal/block_image.ts. */
export const VALUE_COMPRESSION_SHIFT = 4;
export const VALUE_COMPRESSION_MASK = 0x30;
/** In memory only: the record carries page images, which the flush leaves out; or the image has its record before it. */
export const VALUE_CARRIES_IMAGES = 0x40;

/** Whether nothing older than this value matters to a read of its key. */
export function endsChain(flags: number): boolean {
  return (flags & VALUE_KIND_MASK) !== VALUE_RECORD || (flags & VALUE_FROM_ZERO) !== 0;
}
