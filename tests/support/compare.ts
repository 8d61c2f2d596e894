/**
 * The stopped primary as judge: every file of a cleanly stopped data directory against what varve reads at its end.
 *
 * Relations are compared page by page after PostgreSQL's own masks; SLRU segments, relation maps and prepared transactions
 * byte for byte. Left out, and why: free space maps (most of their changes are not in WAL), unlogged and temporary
 * relations (never in WAL), pages that only the server's file has if they are all zero (extension is not in WAL).
 * SP-GiST's metapage is compared without its cache of pages with room, which changes without WAL.
 * Sequences log values ahead; their page is compared as WAL must leave it (`alignSequence`).
 * Visibility maps may have fewer bits than the server's, never more: CREATE DATABASE with the WAL log strategy logs map
 * pages as if they had a hole where their bits are (`RelationCopyStorageUsingBuffer`), so that any redo of it loses them,
 * PostgreSQL's own included; a bit that is not set is always safe.
 *
 * @module
 */
import { NotFoundError, UnsupportedError } from "../../src/errors.ts";
import { FAMILY_RELATION, FAMILY_RELMAP, FAMILY_SLRU, FAMILY_TWO_PHASE } from "../../src/layer/key.ts";
import { formatLsn, type Lsn } from "../../src/lsn.ts";
import { parseDatabaseDirectory, parseRelationPath } from "../../src/postgres/files/relation_path.ts";
import { RELMAPPER_FILENAME } from "../../src/postgres/files/relmap.ts";
import { encodeTwoPhaseFile, TWOPHASE_DIR, twoPhaseFileName } from "../../src/postgres/files/two_phase.ts";
import {
  FSM_FORKNUM,
  INIT_FORKNUM,
  managerOfPage,
  maskPage,
  VISIBILITYMAP_FORKNUM,
} from "../../src/postgres/page/masks.ts";
import { Page, SizeOfPageHeaderData } from "../../src/postgres/page/page.ts";
import { parseSlruPath, SLRU_PAGES_PER_SEGMENT } from "../../src/postgres/page/slru.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { RM_SEQ_ID, RM_SPGIST_ID, rmgrName } from "../../src/postgres/wal/rmgr.ts";
import type { TimelineReader } from "../../src/read/get_page.ts";

const BLCKSZ = 8192;
const RELATION_SEGMENT_BLOCKS = 131_072;
const DIFFERENCES_KEPT = 20;

/** What was compared and what differed. */
export interface Comparison {
  /** Pages compared, by the manager that owns them. */
  pages: Record<string, number>;
  relations: number;
  slruPages: number;
  relmaps: number;
  twoPhaseFiles: number;
  /** Visibility map pages that lack bits of the server's. */
  mapPagesWithFewerBits: number;
  /** Pages whose record has no redo. */
  unsupported: number;
  differenceCount: number;
  /** The first differences, in words. */
  differences: string[];
}

/** Compares a stopped server's data directory with the timeline at `lsn`. */
export async function compareWithStopped(
  dataDir: string,
  reader: TimelineReader,
  lsn: Lsn,
): Promise<Comparison> {
  const result: Comparison = {
    pages: {},
    relations: 0,
    slruPages: 0,
    relmaps: 0,
    twoPhaseFiles: 0,
    mapPagesWithFewerBits: 0,
    unsupported: 0,
    differenceCount: 0,
    differences: [],
  };
  const judge = new Judge(dataDir, reader, lsn, result);
  const files = await listFiles(dataDir, "");
  const present = new Set(files);
  for (const path of files) await judge.file(path, present);
  await judge.nothingMissing(present);
  return result;
}

class Judge {
  readonly #dataDir: string;
  readonly #reader: TimelineReader;
  readonly #lsn: Lsn;
  readonly #result: Comparison;
  /** Forks of the server, with their number of blocks. */
  readonly #serverBlocks = new Map<string, number>();

  constructor(dataDir: string, reader: TimelineReader, lsn: Lsn, result: Comparison) {
    this.#dataDir = dataDir;
    this.#reader = reader;
    this.#lsn = lsn;
    this.#result = result;
  }

  async file(path: string, present: Set<string>): Promise<void> {
    const relation = parseRelationPath(path);
    if (relation !== undefined) {
      const { spc, db, rel, fork, segment } = relation;
      if (fork === FSM_FORKNUM || (fork !== INIT_FORKNUM && isUnlogged(path, present))) return;
      const bytes = await Deno.readFile(`${this.#dataDir}/${path}`);
      await this.#relation({ spc, db, rel }, fork, segment * RELATION_SEGMENT_BLOCKS, bytes, path);
      return;
    }
    const slru = parseSlruPath(path);
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (slru !== undefined) await this.#slru(slru.kind, slru.segno, path);
    else if (name === RELMAPPER_FILENAME) await this.#relmap(path);
    else if (path.startsWith(`${TWOPHASE_DIR}/`)) this.#result.twoPhaseFiles++;
  }

  /** What varve has and the server has not is a difference too. */
  async nothingMissing(present: Set<string>): Promise<void> {
    for (const { space, blocks } of await this.#reader.listSizes(FAMILY_RELATION, this.#lsn)) {
      if (space.d === FSM_FORKNUM || blocks === 0) continue;
      const key = `${space.a}/${space.b}/${space.c}/${space.d}`;
      if (!this.#serverBlocks.has(key)) {
        this.#differ(`${key}: exists with ${blocks} blocks in varve, not on the server`);
      }
    }
    for (const { space } of await this.#reader.listSizes(FAMILY_SLRU, this.#lsn)) {
      const found = [...present].some((path) => {
        const slru = parseSlruPath(path);
        return slru?.kind === space.a && slru.segno === space.c;
      });
      if (!found) this.#differ(`SLRU ${space.a} segment ${space.c}: exists in varve, not on the server`);
    }
    await this.#twoPhase(present);
  }

  async #twoPhase(present: Set<string>): Promise<void> {
    const profile = profileOfMajor(this.#reader.timeline.facts.major);
    const ours = new Map<string, Uint8Array>();
    for (const { space, bytes } of await this.#reader.listValues(FAMILY_TWO_PHASE, this.#lsn)) {
      ours.set(
        `${TWOPHASE_DIR}/${twoPhaseFileName(space.a * 0x1_0000_0000 + space.b, profile)}`,
        encodeTwoPhaseFile(bytes),
      );
    }
    for (const path of present) {
      if (!path.startsWith(`${TWOPHASE_DIR}/`)) continue;
      const bytes = ours.get(path);
      if (bytes === undefined) this.#differ(`${path}: missing in varve`);
      else if (firstDifference(bytes, await Deno.readFile(`${this.#dataDir}/${path}`)) >= 0) {
        this.#differ(`${path}: differs`);
      }
      ours.delete(path);
    }
    for (const path of ours.keys()) this.#differ(`${path}: exists in varve, not on the server`);
  }

  async #relation(
    relation: { spc: number; db: number; rel: number },
    fork: number,
    firstBlock: number,
    bytes: Uint8Array,
    path: string,
  ): Promise<void> {
    const key = `${relation.spc}/${relation.db}/${relation.rel}/${fork}`;
    const blocks = Math.ceil(bytes.length / BLCKSZ);
    this.#serverBlocks.set(key, Math.max(this.#serverBlocks.get(key) ?? 0, firstBlock + blocks));
    if (firstBlock === 0) this.#result.relations++;
    const size = await this.#reader.relationSize(relation, fork, this.#lsn) ?? 0;
    if (size > firstBlock + blocks && blocks < RELATION_SEGMENT_BLOCKS) {
      this.#differ(`${path}: varve has ${size} blocks, the server ${firstBlock + blocks}`);
    }
    for (let index = 0; index < blocks; index++) {
      const theirs = Page.from(bytes.subarray(index * BLCKSZ, (index + 1) * BLCKSZ));
      const block = firstBlock + index;
      if (block >= size) {
        // A visibility map page is laid out when it is first looked at, without WAL.
        const isEmptyMap = fork === VISIBILITYMAP_FORKNUM &&
          theirs.u8.subarray(SizeOfPageHeaderData).every((byte) => byte === 0);
        if (!theirs.isAllZero() && !isEmptyMap && !(fork === INIT_FORKNUM && isBloom(theirs))) {
          this.#differ(`${path} block ${block}: beyond varve's ${size} blocks, not zero on the server`);
        }
        continue;
      }
      await this.#page(relation, fork, block, theirs, path);
    }
  }

  async #page(
    relation: { spc: number; db: number; rel: number },
    fork: number,
    block: number,
    theirs: Page,
    path: string,
  ): Promise<void> {
    let ours: Page;
    try {
      ours = Page.from(await this.#reader.getPage(relation, fork, block, this.#lsn));
    } catch (error) {
      if (error instanceof UnsupportedError) this.#result.unsupported++;
      else this.#differ(`${path} block ${block}: ${error}`);
      return;
    }
    const manager = managerOfPage(theirs.isNew() ? ours : theirs, block);
    const name = fork === VISIBILITYMAP_FORKNUM ? "visibility map" : rmgrName(manager);
    this.#result.pages[name] = (this.#result.pages[name] ?? 0) + 1;
    const ourLsn = ours.lsn;
    const theirLsn = theirs.lsn;
    maskPage(ours, manager, fork, block);
    maskPage(theirs, manager, fork, block);
    if (manager === RM_SEQ_ID && fork === 0) alignSequence(ours, theirs);
    if (manager === RM_SPGIST_ID && block === 0) {
      for (const page of [ours, theirs]) {
        blankLastUsedPages(page);
      }
    }
    const at = firstDifference(ours.u8, theirs.u8);
    if (at >= 0 && fork === VISIBILITYMAP_FORKNUM && isSubset(ours.u8, theirs.u8)) {
      this.#result.mapPagesWithFewerBits++;
    } else if (at >= 0) {
      this.#differ(
        `${path} block ${block} (${name}): byte ${at} is ${ours.u8[at]} in varve, ${
          theirs.u8[at]
        } on the server; ` +
          `page LSN ${formatLsn(ourLsn)} and ${formatLsn(theirLsn)}`,
      );
    }
  }

  async #slru(kind: 0 | 1 | 2 | 3, segno: number, path: string): Promise<void> {
    const theirs = await Deno.readFile(`${this.#dataDir}/${path}`);
    for (let page = 0; page * BLCKSZ < theirs.length; page++) {
      const bytes = theirs.subarray(page * BLCKSZ, (page + 1) * BLCKSZ);
      const ours = await this.#reader.getSlruPage(kind, segno * SLRU_PAGES_PER_SEGMENT + page, this.#lsn);
      this.#result.slruPages++;
      if (ours === undefined) {
        if (bytes.some((byte) => byte !== 0)) this.#differ(`${path} page ${page}: missing in varve`);
        continue;
      }
      const at = firstDifference(ours, bytes);
      if (at >= 0) {
        this.#differ(`${path} page ${page}: byte ${at} is ${ours[at]} in varve, ${bytes[at]} on the server`);
      }
    }
  }

  async #relmap(path: string): Promise<void> {
    const directory = parseDatabaseDirectory(path.slice(0, path.lastIndexOf("/")));
    if (directory === undefined) return;
    this.#result.relmaps++;
    const space = { family: FAMILY_RELMAP, a: directory.spc, b: directory.db, c: 0, d: 0 };
    const ours = await this.#reader.getValue(space, 0, this.#lsn);
    const theirs = await Deno.readFile(`${this.#dataDir}/${path}`);
    if (ours === undefined) this.#differ(`${path}: missing in varve`);
    else if (firstDifference(ours, theirs) >= 0) {
      this.#differ(`${path}: differs at byte ${firstDifference(ours, theirs)}`);
    }
  }

  #differ(what: string): void {
    this.#result.differenceCount++;
    if (this.#result.differences.length < DIFFERENCES_KEPT) this.#result.differences.push(what);
  }
}

/** Whether the relation of this file has an init fork beside it. */
function isUnlogged(path: string, present: Set<string>): boolean {
  const base = path.replace(/(?:_(?:fsm|vm|init))?(?:\.\d+)?$/, "");
  return present.has(`${base}_init`);
}

function firstDifference(left: Uint8Array, right: Uint8Array): number {
  if (left.length !== right.length) return Math.min(left.length, right.length);
  for (let index = 0; index < left.length; index++) if (left[index] !== right[index]) return index;
  return -1;
}

/**
 * A sequence logs values ahead (`SEQ_LOG_VALS`): WAL says the last of them with none left, the server's page says the
 * last one used and how many are left. Where that fits together, takes over the server's fields.
 */
function alignSequence(ours: Page, theirs: Page): void {
  const start = (page: Page) => page.itemOffset(1) + page.u8[page.itemOffset(1) + 22];
  const view = (page: Page) => new DataView(page.u8.buffer, page.u8.byteOffset + start(page), 17);
  const [logged, used] = [view(ours), view(theirs)];
  const ahead = logged.getBigInt64(0, true) - used.getBigInt64(0, true);
  const left = used.getBigInt64(8, true);
  const usedUp = logged.getBigInt64(8, true) === 0n && logged.getUint8(16) === 1;
  if (!usedUp || left === 0n || (ahead % left !== 0n && used.getUint8(16) === 1)) return;
  ours.u8.subarray(start(ours), start(ours) + 17).set(theirs.u8.subarray(start(theirs), start(theirs) + 17));
}

/** SP-GiST's metapage caches which pages had room (`lastUsedPages`), changed without WAL and not masked. */
function blankLastUsedPages(page: Page): void {
  const magicEnd = SizeOfPageHeaderData + 4;
  page.u8.fill(0, magicEnd, Math.max(magicEnd, page.lower));
}

/**
 * Whether it is a page of a bloom index. Since 16 that module writes its init fork by generic records, which are not logged
 * for unlogged indexes (`blbuildempty`): PostgreSQL's own standbys lack it, too.
 */
function isBloom(page: Page): boolean {
  return page.u16[BLCKSZ / 2 - 1] === 0xff83;
}

/** Whether no bit is set in `left` that is not in `right`. */
function isSubset(left: Uint8Array, right: Uint8Array): boolean {
  return left.every((byte, index) => (byte & ~right[index]) === 0);
}

/** All files below a directory, links followed, paths relative with slashes. */
async function listFiles(root: string, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(prefix === "" ? root : `${root}/${prefix}`)) {
    const path = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
    const isDirectory = entry.isDirectory ||
      (entry.isSymlink && (await Deno.stat(`${root}/${path}`)).isDirectory);
    if (!isDirectory) found.push(path);
    else if (path !== "pg_wal") found.push(...await listFiles(root, path));
  }
  return found;
}

/** Fails with the differences in words, if there are any. */
export function assertNoDifferences(result: Comparison, what: string): void {
  const pages = Object.values(result.pages).reduce((sum, count) => sum + count, 0);
  console.log(
    `${what}: ${pages} pages of ${result.relations} relations compared (${
      Object.entries(result.pages).map(([name, count]) => `${name} ${count}`).join(", ")
    }), ${result.slruPages} SLRU pages, ${result.relmaps} maps, ${result.twoPhaseFiles} prepared transactions; ` +
      `${result.mapPagesWithFewerBits} visibility map pages with fewer bits, ${result.unsupported} unsupported, ${result.differenceCount} differ`,
  );
  if (result.differenceCount > 0) {
    throw new Error(`${result.differenceCount} differences: ${result.differences.join("; ")}`);
  }
  if (pages === 0) throw new NotFoundError("Cannot judge: no page was compared");
}
