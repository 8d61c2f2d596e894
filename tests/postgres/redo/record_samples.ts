/**
 * Records that a real server wrote, each with a page as it was before, to mutate both and see what redo makes of it.
 *
 * With `wal_consistency_checking` on, every record carries its pages as they are after it; that is what they were
 * before the next record.
 *
 * @module
 */
import { setU32 } from "../../../src/bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import type { Lsn } from "../../../src/lsn.ts";
import { BLCKSZ, Page } from "../../../src/postgres/page/page.ts";
import { redoRecord, type RedoTarget } from "../../../src/postgres/redo/registry.ts";
import type { VersionProfile } from "../../../src/postgres/versions/profile.ts";
import { restoreImage } from "../../../src/postgres/wal/block_image.ts";
import { DecodedRecord, SizeOfXLogRecord } from "../../../src/postgres/wal/record.ts";
import type { SeededRandom } from "../../support/random.ts";
import { openWalDirectory, readRecords } from "../../support/wal_files.ts";

export interface Sample {
  kind: string;
  record: Uint8Array;
  endLsn: Lsn;
  /** Position of the block reference, or -1 for a page that the record touches without naming it. */
  blockIndex: number;
  /** The page's fork and number; what the block reference says where these are left out. */
  fork?: number;
  block?: number;
  before: Uint8Array;
  /** What replays it, where that is not the registry of pages. */
  redo?: (page: Page, record: DecodedRecord) => void;
}

/**
 * Reads all records of one manager.
 *
 * @param kindOf Names a block reference's case; called for each, and once with -1 for a record without any.
 * @returns How often each kind came, and up to `perKind` samples of each, pages of zeros where redo begins with none.
 */
export function collectSamples(
  walDir: string,
  startLsn: Lsn,
  profile: VersionProfile,
  rmid: number,
  kindOf: (record: DecodedRecord, blockIndex: number) => string,
  perKind = 5,
): { kinds: Map<string, number>; samples: Sample[] } {
  const kinds = new Map<string, number>();
  const samples: Sample[] = [];
  const pages = new Map<string, Page>();
  const record = new DecodedRecord(profile);
  const count = (index: number) => {
    const kind = kindOf(record, index);
    const seen = (kinds.get(kind) ?? 0) + 1;
    kinds.set(kind, seen);
    // Spread out: the first of a kind are all alike.
    return seen <= perKind || (seen & (seen - 1)) === 0 ? kind : undefined;
  };
  for (const batch of readRecords(openWalDirectory(walDir), startLsn, profile)) {
    for (let at = 0; at < batch.count; at++) {
      record.decode(batch.bytes, batch.offsets[at], batch.endLsns[at] as Lsn);
      if (record.rmid !== rmid) continue;
      if (record.blockCount === 0) count(-1);
      for (let index = 0; index < record.blockCount; index++) {
        const key = `${record.blockRel[index]}/${record.blockFork[index]}/${record.blockNumber[index]}`;
        const before = record.willInit(index) ? new Page() : pages.get(key);
        const kind = count(index);
        if (kind !== undefined && before !== undefined && !record.imageApplies(index)) {
          const bytes = batch.bytes.slice(record.start, record.start + record.totalLength);
          const { endLsn } = record;
          samples.push({ kind, record: bytes, endLsn, blockIndex: index, before: before.u8.slice() });
        }
        if (!record.hasImage(index)) continue;
        const after = pages.get(key) ?? new Page();
        restoreImage(record, index, after);
        pages.set(key, after);
      }
    }
  }
  return { kinds, samples };
}

export interface MutationOutcomes {
  applied: number;
  corruption: number;
  unsupported: number;
}

const GUARD = 0xa5a5a5a5;

/**
 * Replays samples with their record and their page damaged in some way, `perKind` times for each kind.
 *
 * @throws {Error} If redo throws anything but a CorruptionError or UnsupportedError, writes outside its page, or into
 * the record.
 */
export function replayMutations(
  random: SeededRandom,
  profile: VersionProfile,
  samples: readonly Sample[],
  perKind: number,
): MutationOutcomes {
  const outcomes = { applied: 0, corruption: 0, unsupported: 0 };
  const arena = new Uint32Array(3 * BLCKSZ / 4).fill(GUARD);
  const page = new Page(arena.buffer, BLCKSZ);
  const record = new DecodedRecord(profile);
  const target: RedoTarget = { blockIndex: 0, fork: 0, block: 0 };
  for (const [kind, ofKind] of Map.groupBy(samples, (sample) => sample.kind)) {
    for (let time = 0; time < perKind; time++) {
      const sample = random.pick(ofKind);
      const bytes = sample.record.slice();
      record.decode(bytes, 0, sample.endLsn);
      page.u8.set(sample.before);
      target.blockIndex = sample.blockIndex;
      target.fork = sample.fork ?? record.blockFork[sample.blockIndex];
      target.block = sample.block ?? record.blockNumber[sample.blockIndex];
      const damage: string[] = [];
      let given = bytes;
      try {
        damageBoth(random, record, page, samples, target, damage);
        given = record.bytes.slice();
        if (sample.redo !== undefined) sample.redo(page, record);
        else redoRecord(page, record, target, { hintBitsLogged: random.chance(0.8) });
        outcomes.applied++;
      } catch (error) {
        if (error instanceof CorruptionError) outcomes.corruption++;
        else if (error instanceof UnsupportedError) outcomes.unsupported++;
        else throw new Error(`${kind} with ${damage}: ${String(error)}`, { cause: error });
      }
      if (!isGuarded(arena)) throw new Error(`${kind} with ${damage}: redo wrote outside its page`);
      if (given !== bytes && !isSame(given, record.bytes)) {
        throw new Error(`${kind} with ${damage}: redo wrote into the record`);
      }
    }
  }
  return outcomes;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return a.length === b.length;
}

function isGuarded(arena: Uint32Array): boolean {
  const third = arena.length / 3;
  for (let at = 0; at < third; at++) {
    if (arena[at] !== GUARD || arena[2 * third + at] !== GUARD) return false;
  }
  return true;
}

function damageBoth(
  random: SeededRandom,
  record: DecodedRecord,
  page: Page,
  samples: readonly Sample[],
  target: RedoTarget,
  what: string[],
): void {
  const rounds = random.int(1, 3);
  for (let round = 0; round < rounds; round++) {
    what.push(
      random.chance(0.55) ? damageRecord(random, record, samples, target) : damagePage(random, page, samples),
    );
  }
}

/** Keeps what the cursor promises: every part lies inside the record. */
function damageRecord(
  random: SeededRandom,
  record: DecodedRecord,
  samples: readonly Sample[],
  target: RedoTarget,
): string {
  const index = Math.max(0, Math.min(target.blockIndex, record.blockCount - 1));
  const parts = [[record.mainOffset, record.mainLength]];
  if (record.blockCount > 0) parts.push([record.dataOffset[index], record.dataLength[index]]);
  const [offset, length] = random.pick(parts);
  switch (random.int(0, 9)) {
    case 0:
      record.mainLength = random.int(0, record.mainLength);
      return `main data cut to ${record.mainLength}`;
    case 1:
      record.dataLength[index] = random.int(0, record.dataLength[index]);
      return `block data cut to ${record.dataLength[index]}`;
    case 2:
    case 3:
      return overwrite(random, record.bytes, offset, length);
    case 4:
      return overwrite(random, record.bytes, offset, Math.min(length, 16));
    case 5:
      record.info = (record.info & 0x0f) | (random.int(0, 15) << 4);
      return `info 0x${record.info.toString(16)}`;
    case 6: {
      const other = random.int(0, Math.max(0, record.blockCount - 1));
      record.blockId[other] = random.int(0, 8);
      target.blockIndex = random.chance(0.2) ? random.int(-1, record.blockCount) : target.blockIndex;
      return `block id ${record.blockId[other]} at ${other}, target ${target.blockIndex}`;
    }
    case 7: {
      const other = random.pick(samples);
      record.decode(other.record.slice(), 0, other.endLsn);
      return `record of ${other.kind}`;
    }
    case 8:
      return shuffle(random, record.bytes, offset, length);
    default:
      return damageBytes(random, record);
  }
}

/** Exchanges some of a part's words, or turns a stretch of them around. */
function shuffle(random: SeededRandom, bytes: Uint8Array, offset: number, length: number): string {
  if (length < 4) return "nothing";
  if (random.chance(0.3)) {
    const from = offset + random.int(0, length - 2);
    bytes.subarray(from, offset + length).reverse();
    return `turned around from ${from}`;
  }
  const words = Math.floor(length / 2);
  for (let swap = 0; swap < 4; swap++) {
    const [a, b] = [offset + 2 * random.int(0, words - 1), offset + 2 * random.int(0, words - 1)];
    for (let byte = 0; byte < 2; byte++) {
      [bytes[a + byte], bytes[b + byte]] = [bytes[b + byte], bytes[a + byte]];
    }
  }
  return `shuffled ${length} at ${offset}`;
}

/** Damages the record as it is in WAL, headers included, and decodes what is left; what that refuses is refused. */
function damageBytes(random: SeededRandom, record: DecodedRecord): string {
  const { endLsn } = record;
  let bytes = record.bytes.slice();
  let what = "";
  if (random.chance(0.5)) {
    bytes = bytes.slice(0, random.int(SizeOfXLogRecord, bytes.length));
    setU32(bytes, 0, bytes.length);
    what = `record cut to ${bytes.length}`;
  } else {
    const headers = Math.max(1, Math.min(record.mainOffset, bytes.length) - SizeOfXLogRecord);
    what = `headers: ${overwrite(random, bytes, SizeOfXLogRecord, headers)}`;
  }
  record.decode(bytes, 0, endLsn);
  return what;
}

function damagePage(random: SeededRandom, page: Page, samples: readonly Sample[]): string {
  switch (random.int(0, 6)) {
    case 0:
      return overwrite(random, page.u8, 12, 6);
    case 1:
      return overwrite(random, page.u8, 24, Math.max(4, Math.min(page.lower, BLCKSZ) - 24));
    case 2: {
      const offnum = random.int(1, Math.max(1, Math.min(page.maxOffsetNumber(), 2000)));
      return overwrite(random, page.u8, Math.min(page.itemOffset(offnum), BLCKSZ - 8), 8);
    }
    case 3:
      return overwrite(random, page.u8, BLCKSZ - 16, 16);
    case 4:
      page.u8.set(random.pick(samples).before);
      return "another page";
    case 5:
      page.u8.set(random.chance(0.5) ? new Uint8Array(BLCKSZ) : random.bytes(BLCKSZ));
      return "no page at all";
    default:
      return overwrite(random, page.u8, 0, BLCKSZ);
  }
}

/** Overwrites one to eight bytes in a range with noise, or a word in it with a number that is likely to hurt. */
function overwrite(random: SeededRandom, bytes: Uint8Array, offset: number, length: number): string {
  if (length <= 0) return "nothing";
  const at = offset + random.int(0, length - 1);
  if (random.chance(0.5)) {
    const end = Math.min(at + random.int(1, 8), offset + length);
    for (let place = at; place < end; place++) bytes[place] = random.uint32();
    return `noise at ${at}`;
  }
  const value = random.pick([
    0,
    1,
    2,
    7,
    8,
    0x1fff,
    0x2000,
    0x2fff,
    0x3fff,
    0x7fff,
    0x8000,
    0xffff,
    8176,
    8192,
  ]);
  bytes[at] = value;
  if (at + 1 < offset + length) bytes[at + 1] = value >> 8;
  return `${value} at ${at}`;
}
