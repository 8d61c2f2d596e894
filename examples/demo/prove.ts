/**
 * The proof: pages of the past, read back, against what the server itself showed then.
 *
 * Compared byte for byte after PostgreSQL's own masks: checksum and page LSN, hint bits and what lies in free space may
 * differ between a primary and redo.
 *
 * @module
 */
import {
  type Lsn,
  MAIN_FORKNUM,
  managerOfPage,
  maskPage,
  NotFoundError,
  Page,
  rmgrName,
  type TimelineReader,
} from "../../mod.ts";
import type { Moment, RememberedPage } from "./moments.ts";

/** How a moment's pages compare. */
export interface Proof {
  /** Pages that are equal, by resource manager. */
  equal: Map<string, number>;
  /** One line for each page that differs. */
  differences: string[];
  /** Pages that are another today, or gone: reading the present would not have done. */
  changedSince: number;
  /** Milliseconds of each read. */
  readMs: number[];
}

/** Reads all pages of a moment at its LSN. @param today The newest LSN, to tell what has changed since. */
export async function proveMoment(reader: TimelineReader, moment: Moment, today: Lsn): Promise<Proof> {
  const proof: Proof = { equal: new Map(), differences: [], changedSince: 0, readMs: [] };
  for (const page of moment.pages) {
    const manager = managerOfPage(Page.from(page.bytes.slice()), page.block);
    const theirs = maskedPage(page.bytes, page.block, manager);
    const started = performance.now();
    const ours = await readMasked(reader, page, manager, moment.lsn);
    proof.readMs.push(performance.now() - started);
    const at = firstDifference(ours, theirs);
    if (at === -1) proof.equal.set(rmgrName(manager), (proof.equal.get(rmgrName(manager)) ?? 0) + 1);
    else proof.differences.push(`${page.name} block ${page.block}: ${describeDifference(ours, theirs, at)}`);
    const now = await readMasked(reader, page, manager, today);
    if (firstDifference(now, theirs) !== -1) proof.changedSince++;
  }
  return proof;
}

/** A page at an LSN, masked; undefined if it does not exist then. */
async function readMasked(
  reader: TimelineReader,
  { relation, block }: RememberedPage,
  manager: number,
  lsn: Lsn,
): Promise<Uint8Array | undefined> {
  try {
    const bytes = await reader.getPage(relation, MAIN_FORKNUM, block, lsn);
    return maskedPage(bytes, block, manager);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** A copy without what may differ between a primary and redo. */
export function maskedPage(bytes: Uint8Array, block: number, manager: number): Uint8Array {
  const page = Page.from(bytes.slice());
  maskPage(page, manager, MAIN_FORKNUM, block);
  return page.u8;
}

/** Index of the first byte that differs, -1 if none does. */
export function firstDifference(left: Uint8Array | undefined, right: Uint8Array): number {
  if (left === undefined) return 0;
  for (let index = 0; index < right.length; index++) if (left[index] !== right[index]) return index;
  return -1;
}

function describeDifference(ours: Uint8Array | undefined, theirs: Uint8Array, at: number): string {
  if (ours === undefined) return "not there in varve";
  return `byte ${at} is ${ours[at]} in varve, ${theirs[at]} on the server`;
}
