/**
 * All pages of a relation's fork as of an LSN, in order, read ahead of whoever takes them.
 *
 * Read path, on top of it: a page at a time would look for its key in every layer; a scan walks each layer once
 * (page_walk.ts), and the next megabyte of each is on its way. Layers that are replaced meanwhile do not stop it
 * (mended_walk.ts).
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { FAMILY_RELATION, type KeySpace } from "../layer/key.ts";
import type { RelationId } from "../postgres/effects/effect_sink.ts";
import { BLCKSZ, MaxBlockNumber, pagesIn } from "../postgres/page/page.ts";
import type { AttachedTimeline } from "./attach.ts";
import type { ReadOptions } from "./get_page.ts";
import { WalkedLayers } from "./mended_walk.ts";

export interface ScanRelationOptions extends ReadOptions {
  /** First block. Default 0. */
  first?: number;
  /** Behind the last block. Default: the fork's length at the LSN. */
  end?: number;
  /** Pages of one step. Default 128. */
  step?: number;
  /** Bytes of layers that are read ahead, all together. Default 16 MiB. */
  readBytes?: number;
}

/** Pages of neighbouring blocks, `pages[0]` of block `first`. They share memory: copy one that is to outlive the others. */
export interface ScannedPages {
  readonly first: number;
  readonly pages: Uint8Array[];
}

const DEFAULT_STEP = 128;
const DEFAULT_READ_BYTES = 16 * 1024 * 1024;

/**
 * See the module's description. Ending the loop early stops the fetching.
 *
 * @throws {NotFoundError} If the fork does not exist at that LSN. @throws What `getPage` does.
 */
export async function* scanRelation(
  attached: AttachedTimeline,
  relation: RelationId,
  fork: number,
  lsn: Lsn,
  options: ScanRelationOptions = {},
): AsyncGenerator<ScannedPages, void> {
  const { first = 0, step = DEFAULT_STEP, readBytes: memoryBytes = DEFAULT_READ_BYTES } = options;
  const space: KeySpace = {
    family: FAMILY_RELATION,
    a: relation.spc,
    b: relation.db,
    c: relation.rel,
    d: fork,
  };
  const walk = new WalkedLayers(attached, lsn, options).walk({
    spaces: [space],
    firstBlock: first,
    blocksMax: options.end ?? MaxBlockNumber,
    memoryBytes,
  });
  try {
    // While the length is being looked up.
    walk.begin(0, first);
    const size = await attached.reader.relationSize(relation, fork, lsn, options);
    if (size === undefined) {
      throw new NotFoundError(
        `Cannot scan relation ${relation.spc}/${relation.db}/${relation.rel} fork ${fork}: ` +
          `it does not exist at LSN ${formatLsn(lsn)}`,
      );
    }
    const end = Math.min(options.end ?? size, size);
    for (let block = first; block < end;) {
      // In one stretch of memory: thousands of small ones cost more to get and to let go of than what is in them.
      const pages = pagesIn(new ArrayBuffer(Math.min(step, end - block) * BLCKSZ));
      await walk.read(0, block, pages.length, pages);
      yield { first: block, pages: pages.map((page) => page.u8) };
      block += pages.length;
    }
  } finally {
    await walk.close();
  }
}
