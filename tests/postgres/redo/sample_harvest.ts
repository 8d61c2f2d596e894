/**
 * Samples of everything that a judged run replays: for each opcode and each kind of page that it edits some records with
 * the page as it was before, to be damaged by `replayMutations()`.
 *
 * @module
 */
import { XLOG_MULTIXACT_CREATE_ID } from "../../../src/postgres/effects/multixact.ts";
import { BLCKSZ, type Page } from "../../../src/postgres/page/page.ts";
import {
  SLRU_COMMIT_TS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_XACT,
  type SlruKind,
  slruPageOf,
} from "../../../src/postgres/page/slru.ts";
import { canRedo, type RedoTarget } from "../../../src/postgres/redo/registry.ts";
import { redoSlruPage } from "../../../src/postgres/redo/slru.ts";
import { fullRecordTypeName } from "../../../src/postgres/wal/describe.ts";
import type { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_MULTIXACT_ID, RM_XACT_ID } from "../../../src/postgres/wal/rmgr.ts";
import { getU32 } from "../../../src/bytes/little_endian.ts";
import type { Sample } from "./record_samples.ts";

/** Longer records (commits of very many subtransactions) take longer to copy than to replay. */
const MAX_RECORD_BYTES = 32 * 1024;

/** Keeps up to `perKind` samples of each kind, the first ones and then ever rarer ones. */
export class SampleHarvest {
  readonly samples: Sample[] = [];
  readonly #perKind: number;
  readonly #seen = new Map<string, number>();

  constructor(perKind = 6) {
    this.#perKind = perKind;
  }

  /** For `JudgeOptions.beforeRedo`. */
  readonly beforeRedo = (page: Page, record: DecodedRecord, target: RedoTarget): void => {
    const { blockIndex, fork, block } = target;
    const id = blockIndex < 0 ? "implicit" : record.blockId[blockIndex];
    this.#keep(`${nameOf(record)} #${id} fork ${fork}`, record, () => ({
      blockIndex,
      fork,
      block,
      before: page.u8.slice(),
    }));
  };

  /** For `JudgeOptions.onRecord`: what is restored from images, and what edits pages of SLRUs. */
  readonly onRecord = (record: DecodedRecord): void => {
    for (let blockIndex = 0; canRedo(record.rmid) && blockIndex < record.blockCount; blockIndex++) {
      if (!record.imageApplies(blockIndex)) continue;
      const kind = `${nameOf(record)} #${record.blockId[blockIndex]} image`;
      this.#keep(kind, record, () => ({ blockIndex, before: new Uint8Array(BLCKSZ) }));
    }
    if (record.rmid === RM_XACT_ID) {
      this.#keepSlru(record, SLRU_XACT, record.xid);
      this.#keepSlru(record, SLRU_COMMIT_TS, record.xid);
    } else if (record.rmid === RM_MULTIXACT_ID && record.opInfo === XLOG_MULTIXACT_CREATE_ID) {
      this.#keepSlru(record, SLRU_MULTIXACT_OFFSETS, getU32(record.bytes, record.mainOffset));
      this.#keepSlru(record, SLRU_MULTIXACT_MEMBERS, getU32(record.bytes, record.mainOffset + 4));
    }
  };

  #keepSlru(record: DecodedRecord, kind: SlruKind, id: number): void {
    const pageno = slruPageOf(kind, id);
    const redo = (page: Page, damaged: DecodedRecord) => redoSlruPage(page.u8, kind, pageno, damaged);
    this.#keep(`${nameOf(record)} of SLRU ${kind}`, record, () => ({
      blockIndex: 0,
      fork: 0,
      block: pageno,
      before: new Uint8Array(BLCKSZ),
      redo,
    }));
  }

  #keep(kind: string, record: DecodedRecord, rest: () => Omit<Sample, "kind" | "record" | "endLsn">): void {
    if (record.totalLength > MAX_RECORD_BYTES) return;
    const seen = (this.#seen.get(kind) ?? 0) + 1;
    this.#seen.set(kind, seen);
    const isRare = seen <= this.#perKind / 2 || (seen & (seen - 1)) === 0;
    if (!isRare || Math.log2(seen) > this.#perKind * 2) return;
    const bytes = record.bytes.slice(record.start, record.start + record.totalLength);
    this.samples.push({ kind, record: bytes, endLsn: record.endLsn, ...rest() });
  }
}

function nameOf(record: DecodedRecord): string {
  return fullRecordTypeName(record.profile, record.rmid, record.info);
}
