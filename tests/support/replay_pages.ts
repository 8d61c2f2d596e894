/**
 * Pages that replay works on, over the files of a data directory as it was when replay begins.
 *
 * @module
 */
import { BLCKSZ, Page } from "../../src/postgres/page/page.ts";

const DEFAULTTABLESPACE_OID = 1663;
const GLOBALTABLESPACE_OID = 1664;
const FORK_SUFFIXES = ["", "_fsm", "_vm", "_init"];
/** Blocks in one file of a relation, `RELSEG_SIZE`. */
const RELSEG_SIZE = 131072;

interface Fork {
  pages: Map<number, Page>;
  /** The fork's content in the base directory. */
  base: Uint8Array;
  /** Blocks of `base` that still count: a truncation lowers it. */
  baseBlocks: number;
  /** Blocks that exist. */
  blocks: number;
}

/** All relations. Blocks beyond a fork's end come into being as zero pages, as they do in recovery. */
export class ReplayPages {
  readonly #baseDir: string | undefined;
  readonly #forks = new Map<string, Fork>();
  #lastKey = "";
  #last: Fork | undefined;
  /** Databases made by copying files: key of the copy, key of the one in the base directory that it goes back to. */
  readonly #copies = new Map<string, string>();

  /** @param baseDir A data directory at rest, just as the server left it where replay begins. Without one there is nothing. */
  constructor(baseDir: string | undefined) {
    this.#baseDir = baseDir;
  }

  /** The page, made of zeros when it did not exist. */
  get(spc: number, db: number, rel: number, fork: number, block: number): Page {
    const found = this.#fork(spc, db, rel, fork);
    let page = found.pages.get(block);
    if (page === undefined) {
      page = new Page();
      if (block < found.baseBlocks) page.u8.set(found.base.subarray(block * BLCKSZ, (block + 1) * BLCKSZ));
      found.pages.set(block, page);
      if (block >= found.blocks) found.blocks = block + 1;
    }
    return page;
  }

  /** Whether the block lies inside its fork. */
  exists(spc: number, db: number, rel: number, fork: number, block: number): boolean {
    return block < this.#fork(spc, db, rel, fork).blocks;
  }

  truncate(spc: number, db: number, rel: number, fork: number, blocks: number): void {
    const found = this.#fork(spc, db, rel, fork);
    for (const block of found.pages.keys()) if (block >= blocks) found.pages.delete(block);
    found.baseBlocks = Math.min(found.baseBlocks, blocks);
    found.blocks = Math.min(found.blocks, blocks);
  }

  drop(spc: number, db: number, rel: number): void {
    for (let fork = 0; fork < FORK_SUFFIXES.length; fork++) this.truncate(spc, db, rel, fork, 0);
  }

  /** A database made by copying another one's files: from here on the copy's pages are the original's of now. */
  copyDatabase(spc: number, db: number, sourceSpc: number, sourceDb: number): void {
    this.#lastKey = "";
    const from = `${sourceSpc}/${sourceDb}/`;
    const to = `${spc}/${db}/`;
    for (const key of [...this.#forks.keys()]) if (key.startsWith(to)) this.#forks.delete(key);
    for (const [key, fork] of [...this.#forks]) {
      if (!key.startsWith(from)) continue;
      const pages = new Map([...fork.pages].map(([block, page]) => [block, Page.from(page.u8)]));
      this.#forks.set(to + key.slice(from.length), { ...fork, pages });
    }
    this.#copies.set(to, this.#copies.get(from) ?? from);
  }

  #fork(spc: number, db: number, rel: number, fork: number): Fork {
    const key = `${spc}/${db}/${rel}/${fork}`;
    if (key === this.#lastKey) return this.#last!;
    let found = this.#forks.get(key);
    if (found === undefined) {
      const base = this.#readBase(spc, db, rel, fork);
      const blocks = Math.floor(base.length / BLCKSZ);
      found = { pages: new Map(), base, baseBlocks: blocks, blocks };
      this.#forks.set(key, found);
    }
    this.#lastKey = key;
    this.#last = found;
    return found;
  }

  #readBase(spc: number, db: number, rel: number, fork: number): Uint8Array {
    if (this.#baseDir === undefined) return new Uint8Array(0);
    const original = this.#copies.get(`${spc}/${db}/`);
    if (original !== undefined) [spc, db] = original.split("/").map(Number);
    const path = `${this.#baseDir}/${databasePath(this.#baseDir, spc, db)}/${rel}${FORK_SUFFIXES[fork]}`;
    const parts: Uint8Array[] = [];
    for (let segment = 0;; segment++) {
      const part = readIfThere(segment === 0 ? path : `${path}.${segment}`);
      if (part !== undefined) parts.push(part);
      if (part === undefined || part.length < RELSEG_SIZE * BLCKSZ) break;
    }
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}

function databasePath(dataDir: string, spc: number, db: number): string {
  if (spc === GLOBALTABLESPACE_OID) return "global";
  if (spc === DEFAULTTABLESPACE_OID) return `base/${db}`;
  try {
    for (const entry of Deno.readDirSync(`${dataDir}/pg_tblspc/${spc}`)) {
      if (entry.name.startsWith("PG_")) return `pg_tblspc/${spc}/${entry.name}/${db}`;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return `pg_tblspc/${spc}/none/${db}`;
}

function readIfThere(path: string): Uint8Array | undefined {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
