/**
 * All pages of a relation's fork as of an LSN, in order, fetched ahead of whoever takes them.
 *
 * Read path, on top of it: a page at a time waits for the store at every block of a layer; a scan has the next pieces on
 * their way, in requests of up to a megabyte.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { FAMILY_RELATION } from "../layer/key.ts";
import type { RelationId } from "../postgres/effects/effect_sink.ts";
import type { AttachedTimeline } from "./attach.ts";
import type { ReadOptions } from "./get_page.ts";

export interface ScanRelationOptions extends ReadOptions {
  /** First block. Default 0. */
  first?: number;
  /** Behind the last block. Default: the fork's length at the LSN. */
  end?: number;
  /** Pages of one step. Default 128. */
  step?: number;
}

/** Pages of neighbouring blocks, `pages[0]` of block `first`. */
export interface ScannedPages {
  readonly first: number;
  readonly pages: Uint8Array[];
}

const DEFAULT_STEP = 128;
/** Steps that are fetched while one is taken. */
const STEPS_AHEAD = 3;

/**
 * See the module's description. Ending the loop early stops the fetching.
 *
 * @throws {NotFoundError} If the fork does not exist at that LSN. @throws What `getPage` does.
 */
export async function* scanRelation(
  attached: Pick<AttachedTimeline, "reader" | "fetcher" | "timeline">,
  relation: RelationId,
  fork: number,
  lsn: Lsn,
  options: ScanRelationOptions = {},
): AsyncGenerator<ScannedPages, void> {
  const { reader, fetcher, timeline } = attached;
  const { first = 0, step = DEFAULT_STEP, cause = "read" } = options;
  const size = await reader.relationSize(relation, fork, lsn, options);
  if (size === undefined) {
    throw new NotFoundError(
      `Cannot scan relation ${relation.spc}/${relation.db}/${relation.rel} fork ${fork}: ` +
        `it does not exist at LSN ${formatLsn(lsn)}`,
    );
  }
  const end = Math.min(options.end ?? size, size);
  const space = { family: FAMILY_RELATION, a: relation.spc, b: relation.db, c: relation.rel, d: fork };
  const own = new AbortController();
  const signal = options.signal === undefined ? own.signal : AbortSignal.any([options.signal, own.signal]);
  const page = { ...options, signal, blocks: size };
  const { layers } = timeline.view();
  /** What is fetched of each step from the current one on. */
  const coming: Promise<void>[] = [];
  let asked = first;
  try {
    for (let block = first; block < end; block += step) {
      for (; asked < end && coming.length <= STEPS_AHEAD; asked += step) {
        const until = Math.min(asked + step, end);
        // What it could not fetch the reads will ask for again, and say what is wrong.
        coming.push(fetcher.prefetch(layers, space, asked, until, lsn, signal, cause).catch(() => {}));
      }
      await coming.shift();
      const pages: Uint8Array[] = [];
      for (let each = block; each < Math.min(block + step, end); each++) {
        pages.push(await reader.getPage(relation, fork, each, lsn, page));
      }
      yield { first: block, pages };
    }
  } finally {
    own.abort(new DOMException("The scan has ended", "AbortError"));
    await Promise.all(coming);
  }
}
