/**
 * What a record does to one of the pages that it names, in words: `old page; off 3, flags 0x20, new off 1`.
 *
 * For people who look at the history of a page. A table: per record type the page's part in it by block id, and the
 * fields of main data worth a look, as `rmgrdesc` shows them. Never on a hot path; a record that is shorter than its type
 * promises just shows less, for this is what one looks at when something is wrong.
 *
 * Source: PostgreSQL src/include/access/{heapam_xlog,nbtxlog,hash_xlog,ginxlog,gistxlog,spgxlog,brin_xlog}.h,
 * src/backend/access/rmgrdesc/*.c (14-18).
 *
 * @module
 */
import { getU16, getU32 } from "../../bytes/little_endian.ts";
import type { DecodedRecord } from "./record.ts";
import {
  RM_BRIN_ID,
  RM_BTREE_ID,
  RM_GENERIC_ID,
  RM_GIN_ID,
  RM_GIST_ID,
  RM_HASH_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_SEQ_ID,
  RM_SMGR_ID,
  RM_SPGIST_ID,
  RM_XLOG_ID,
} from "./rmgr.ts";

/** A number at a fixed place of main data. */
interface Field {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  /** u: unsigned, i: signed, x: hexadecimal. */
  readonly kind: string;
}

/** One record type. */
interface Shape {
  /** What the page is to the record, by block id; the last one stands for all further ids. */
  readonly parts: readonly string[];
  readonly fields: readonly Field[];
}

/**
 * Types of a manager by the upper four bits of `xl_info`, as text that is parsed when it is first needed: parts, a bar,
 * and fields as `name@offset:type`, types u8, x8, u16, x16, u32, i32: `old page, new page | off@0:u16`.
 */
type Shapes = Readonly<Record<number, string>>;

const HEAP: Shapes = {
  0x0: "row inserted | off@0:u16 flags@2:x8",
  0x1: "row deleted | xmax@0:u32 off@4:u16 infobits@6:x8 flags@7:x8",
  0x2:
    "new version of a row, old version of a row | old-xmax@0:u32 old-off@4:u16 old-infobits@6:x8 flags@7:x8 new-xmax@8:u32 new-off@12:u16",
  0x4:
    "row updated in place | old-xmax@0:u32 old-off@4:u16 old-infobits@6:x8 flags@7:x8 new-xmax@8:u32 new-off@12:u16",
  0x5: "speculative insertion confirmed | off@0:u16",
  0x6: "row locked | xmax@0:u32 off@4:u16 infobits@6:x8 flags@7:x8",
  0x7: "row overwritten | off@0:u16",
};

const HEAP2_ALL: Shapes = {
  0x4: "bits set in the visibility map, page marked all visible | cutoff-xid@0:u32 flags@4:x8",
  0x5: "rows inserted | flags@0:x8 rows@2:u16",
  0x6: "newer version of a row locked | xmax@0:u32 off@4:u16 infobits@6:x8 flags@7:x8",
};

const HEAP2_UNTIL_16: Shapes = {
  ...HEAP2_ALL,
  0x1: "page pruned | horizon@0:u32 redirected@4:u16 dead@6:u16",
  0x2: "dead line pointers freed | unused@0:u16",
  0x3: "rows frozen | horizon@0:u32 plans@4:u16",
};

const HEAP2_FROM_17: Shapes = {
  ...HEAP2_ALL,
  0x1: "page pruned on access | flags@1:x8",
  0x2: "page pruned or frozen by a vacuum | flags@1:x8",
  0x3: "dead line pointers freed by a vacuum | flags@1:x8",
};

const BTREE: Shapes = {
  0x0: "tuple inserted | off@0:u16",
  0x1: "downlink inserted, child's split finished | off@0:u16",
  0x2: "downlink inserted, child's split finished, meta page changed | off@0:u16",
  0x3: "left half of a split, right half of a split, page right of a split, child's split finished | " +
    "level@0:u32 first-right@4:u16 new-item@6:u16 posting@8:u16",
  0x4: "left half of a split, right half of a split, page right of a split, child's split finished | " +
    "level@0:u32 first-right@4:u16 new-item@6:u16 posting@8:u16",
  0x5: "tuple inserted, a posting list split for it | off@0:u16",
  0x6: "tuples merged into posting lists | intervals@0:u16",
  0x7: "dead tuples deleted | horizon@0:u32 deleted@4:u16 updated@6:u16",
  0x8:
    "page unlinked, left sibling relinked, right sibling relinked, leaf below changed | left@0:u32 right@4:u32 level@8:u32",
  0x9:
    "page unlinked, left sibling relinked, right sibling relinked, leaf below changed, meta page changed | " +
    "left@0:u32 right@4:u32 level@8:u32",
  0xa: "new root, left child's split finished, meta page changed | root@0:u32 level@4:u32",
  0xb: "leaf half dead, downlink in the parent removed | parent-off@0:u16 leaf@4:u32 left@8:u32 right@12:u32",
  0xc: "tuples vacuumed | deleted@0:u16 updated@2:u16",
  0xe: "meta page changed |",
};

const HASH: Shapes = {
  0x0: "meta page made | proc@8:u32 fill-factor@12:u16",
  0x1: "bitmap page made, bitmap page noted | size@0:u16",
  0x2: "tuple inserted, tuple counted | off@0:u16",
  0x3:
    "overflow page added, overflow page linked, overflow page marked used, bitmap page made, free page noted | size@0:u16 found@2:u8",
  0x4:
    "old bucket marked for a split, new bucket made, bucket noted | new@0:u32 old-flag@4:x16 new-flag@6:x16 flags@8:x8",
  0x5: "page of a split bucket |",
  0x6: "old bucket's split finished, new bucket's split finished | old-flag@0:x16 new-flag@2:x16",
  0x7: "bucket locked, tuples moved here, tuples moved away | tuples@0:u16 primary@2:u8",
  0x8: "bucket locked, tuples moved here, overflow page freed, page before relinked, page after relinked, " +
    "page marked free, free page noted | before@0:u32 after@4:u32 tuples@8:u16",
  0x9: "bucket locked, tuples deleted | dead-marks-cleared@0:u8 primary@1:u8",
  0xa: "bucket's split cleaned up |",
  0xb: "tuples counted |",
  0xc: "dead tuples deleted, tuples counted | horizon@0:u32 tuples@4:u16",
};

const GIN: Shapes = {
  0x1: "posting tree made | size@0:u32",
  0x2: "tuple inserted, child's split finished | flags@0:x16",
  0x3:
    "left half of a split, right half of a split, root of a split, child's split finished | right-link@12:u32 flags@24:x16",
  0x4: "tuples vacuumed |",
  0x5: "page deleted, downlink in the parent removed, left sibling relinked | parent-off@0:u16 right@4:u32",
  0x6: "meta page changed, tuples appended to the pending list | tuples@80:i32",
  0x7: "page of the pending list | right@0:u32 tuples@4:i32",
  0x8: "meta page changed, page of the pending list deleted | deleted@56:i32",
  0x9: "posting tree leaf vacuumed |",
};

const GIST: Shapes = {
  0x0: "tuples changed, child's split finished | deleted@0:u16 inserted@2:u16",
  0x1: "dead tuples deleted | horizon@0:u32 deleted@4:u16",
  0x3: "child's split finished, part of a split | right@0:u32 leaf@16:u8 pages@18:u16",
  0x6: "page deleted, downlink in the parent removed | off@8:u16",
};

const SPGIST: Shapes = {
  0x1: "leaf tuple added, parent's link changed | off@2:u16 head-off@4:u16 parent-off@6:u16 node@8:u16",
  0x2:
    "leaf tuples moved away, leaf tuples moved here, parent's link changed | moves@0:u16 parent-off@6:u16 node@8:u16",
  0x3:
    "inner tuple gets a node, inner tuple moved here, parent's link changed | off@0:u16 new-off@2:u16 parent-off@6:u16",
  0x4: "prefix tuple of a split one, postfix tuple of a split one | prefix-off@0:u16 postfix-off@2:u16",
  0x5: "leaf tuples taken away, leaf tuples moved here, inner tuple made, parent's link changed | " +
    "root@0:u8 deleted@2:u16 inserted@4:u16 inner-off@8:u16",
  0x6: "leaf tuples vacuumed | dead@0:u16 placeholders@2:u16 moved@4:u16 linked@6:u16",
  0x7: "root's leaf tuples vacuumed | deleted@0:u16",
  0x8: "redirections vacuumed | placeholders@0:u16 first@2:u16 horizon@4:u32",
};

const BRIN_INSERT =
  "summary tuple inserted, range map entry set | heap-block@0:u32 pages-per-range@4:u32 off@8:u16";
const BRIN_UPDATE = "summary tuple moved here, range map entry set, old summary tuple removed | " +
  "old-off@0:u16 heap-block@4:u32 pages-per-range@8:u32 off@12:u16";
const BRIN: Shapes = {
  0x0: "meta page made | pages-per-range@0:u32 version@4:u16",
  0x1: BRIN_INSERT,
  0x2: BRIN_UPDATE,
  0x3: "summary tuple overwritten | off@0:u16",
  0x4: "range map grown, page of the range map made | block@0:u32",
  0x5: "range map entry cleared, summary tuple removed | pages-per-range@0:u32 heap-block@4:u32 off@8:u16",
  0x9: BRIN_INSERT,
  0xa: BRIN_UPDATE,
};

const SHAPES: (Shapes | undefined)[] = [];
SHAPES[RM_XLOG_ID] = { 0xa: "hint bits set |", 0xb: "whole page |" };
SHAPES[RM_HEAP_ID] = HEAP;
SHAPES[RM_BTREE_ID] = BTREE;
SHAPES[RM_HASH_ID] = HASH;
SHAPES[RM_GIN_ID] = GIN;
SHAPES[RM_GIST_ID] = GIST;
SHAPES[RM_SPGIST_ID] = SPGIST;
SHAPES[RM_BRIN_ID] = BRIN;
SHAPES[RM_SEQ_ID] = { 0x0: "sequence advanced |" };
SHAPES[RM_GENERIC_ID] = Object.fromEntries(Array.from({ length: 16 }, (_, op) => [op, "bytes replaced |"]));
SHAPES[RM_SMGR_ID] = { 0x2: "cut by a truncation | blocks@0:u32" };

/** Row and lock records have their opcode in three bits; the fourth says that the page was made anew. */
const INIT_BIT = 0x8;

/**
 * What the record does to the page of a block reference.
 *
 * @param index Position of the reference, or -1 for a page that the record touches without naming it: a visibility map
 * page whose bits it clears, or one that a truncation cuts.
 */
export function describeBlockChange(record: DecodedRecord, index: number): string {
  const opcode = record.info >> 4;
  const isRows = record.rmid === RM_HEAP_ID || record.rmid === RM_HEAP2_ID;
  if (index < 0 && isRows) return "bits cleared in the visibility map";
  const shape = shapeOf(record, isRows ? opcode & ~INIT_BIT : opcode);
  if (shape === undefined) return "";
  const { parts, fields } = shape;
  const id = index < 0 ? 0 : record.blockId[index];
  const words = [parts[Math.min(id, parts.length - 1)]];
  if (isUpdateInOnePage(record)) words[0] = "row updated in its page";
  if (isRows && (opcode & INIT_BIT) !== 0 && id === 0) words[0] += ", page made anew";
  const details = [...readFields(record, fields), ...extraFields(record, index)];
  if (details.length > 0) words.push(details.join(", "));
  return words.join("; ");
}

function isUpdateInOnePage(record: DecodedRecord): boolean {
  return record.rmid === RM_HEAP_ID && (record.info >> 4 & ~INIT_BIT) === 0x2 && record.findBlock(1) < 0;
}

function shapeOf(record: DecodedRecord, opcode: number): Shape | undefined {
  const shapes = record.rmid === RM_HEAP2_ID
    ? record.profile.heapPrune === "v17" ? HEAP2_FROM_17 : HEAP2_UNTIL_16
    : SHAPES[record.rmid];
  const text = shapes?.[opcode];
  if (text === undefined) return undefined;
  let shape = PARSED.get(text);
  if (shape === undefined) PARSED.set(text, shape = parseShape(text));
  return shape;
}

const PARSED = new Map<string, Shape>();

function parseShape(text: string): Shape {
  const [parts, fields] = text.split("|");
  return {
    parts: parts.trim().split(", "),
    fields: fields.split(" ").filter(Boolean).map((field) => {
      const [, name, offset, kind, bits] = /^([^@]+)@(\d+):([uxi])(\d+)$/.exec(field)!;
      return { name: name.replaceAll("-", " "), offset: Number(offset), size: Number(bits) / 8, kind };
    }),
  };
}

/** `InvalidBlockNumber`. */
const INVALID = 0xffff_ffff;

function readFields(record: DecodedRecord, fields: readonly Field[]): string[] {
  const { bytes, mainOffset, mainLength } = record;
  const shown: string[] = [];
  for (const { name, offset, size, kind } of fields) {
    if (offset + size > mainLength) continue;
    const at = mainOffset + offset;
    let value = size === 1 ? bytes[at] : size === 2 ? getU16(bytes, at) : getU32(bytes, at);
    if (kind === "i") value |= 0;
    const isNone = kind === "u" && value === INVALID;
    const text = isNone ? "none" : kind === "x" ? `0x${value.toString(16).padStart(2, "0")}` : value;
    shown.push(`${name} ${text}`);
  }
  return shown;
}

/** What is not at a fixed place of main data. */
function extraFields(record: DecodedRecord, index: number): string[] {
  if (record.rmid === RM_GENERIC_ID && index >= 0) return genericRegions(record, index);
  if (record.rmid === RM_HEAP2_ID && record.profile.heapPrune === "v17" && index >= 0) {
    return pruneCounts(record, index);
  }
  return record.rmid === RM_SEQ_ID ? sequenceValue(record) : [];
}

const XLHP_HAS_CONFLICT_HORIZON = 1 << 3;
const PRUNE_PARTS: readonly (readonly [flag: number, name: string, header: number, size: number])[] = [
  [1 << 4, "freeze plans", 4, 12],
  [1 << 5, "redirected", 2, 4],
  [1 << 6, "dead", 2, 2],
  [1 << 7, "unused", 2, 2],
];

/** Counts of `xl_heap_prune`'s parts, which lie one behind the other in block data (17 and later). */
function pruneCounts(record: DecodedRecord, index: number): string[] {
  const { bytes, mainOffset, mainLength } = record;
  const opcode = record.info >> 4 & 7;
  if (opcode < 1 || opcode > 3 || mainLength < 2) return [];
  const flags = bytes[mainOffset + 1];
  const shown: string[] = [];
  if ((flags & XLHP_HAS_CONFLICT_HORIZON) !== 0 && mainLength >= 6) {
    shown.push(`horizon ${getU32(bytes, mainOffset + 2)}`);
  }
  let at = record.dataOffset[index];
  const end = at + record.dataLength[index];
  for (const [flag, name, header, size] of PRUNE_PARTS) {
    if ((flags & flag) === 0) continue;
    if (at + header > end) break;
    const count = getU16(bytes, at);
    shown.push(`${name} ${count}`);
    at += header + count * size;
  }
  return shown;
}

/** Regions of a generic record shown; more are counted. */
const REGIONS_SHOWN = 5;

/** Offset and length of the pieces that a generic record replaces. */
function genericRegions(record: DecodedRecord, index: number): string[] {
  const end = record.dataOffset[index] + record.dataLength[index];
  const regions: string[] = [];
  for (let at = record.dataOffset[index]; at + 4 <= end;) {
    const length = getU16(record.bytes, at + 2);
    regions.push(`${length} at ${getU16(record.bytes, at)}`);
    at += 4 + length;
  }
  const more = regions.length - REGIONS_SHOWN;
  return more > 0 ? [...regions.slice(0, REGIONS_SHOWN), `${more} more`] : regions;
}

const SizeOfSeqRec = 12;
const T_HOFF = 22;

/** `last_value` of the sequence's row, which follows `xl_seq_rec`. */
function sequenceValue({ bytes, mainOffset, mainLength }: DecodedRecord): string[] {
  const row = mainOffset + SizeOfSeqRec;
  const end = mainOffset + mainLength;
  if (row + T_HOFF >= end) return [];
  const at = row + bytes[row + T_HOFF];
  if (at + 8 > end) return [];
  const value = new DataView(bytes.buffer, bytes.byteOffset + at, 8).getBigInt64(0, true);
  return [`last value ${value}`];
}
