/**
 * Pages in key order: what restore reads from.
 *
 * {@linkcode openPages} gives the fast way, which walks every layer once (bulk_read.ts), where the timeline's own layers
 * hold all of its history; a branch, whose older history is another timeline's, is read page by page.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { FAMILY_RELATION, type KeySpace } from "../layer/key.ts";
import { pageChecksum } from "../postgres/page/checksum.ts";
import type { Page } from "../postgres/page/page.ts";
import { SLRU_PAGES_PER_SEGMENT, type SlruKind } from "../postgres/page/slru.ts";
import type { TimelineReader } from "../read/get_page.ts";

/** Gives pages of the spaces that it was made for. Ask in key order, each page once; one call at a time. */
export interface PageSource {
  /**
   * Fills pages with consecutive blocks of a space, checksums set where the cluster has them.
   *
   * @param ordinal Which of the spaces.
   * @throws {CorruptionError} If stored bytes are damaged. @throws {NotFoundError} If a layer is missing.
   */
  read(ordinal: number, block: number, count: number, pages: readonly Page[]): Promise<void>;
  /** Lets go of what it holds. */
  close(): Promise<void>;
}

/** Sets a page's checksum, where it has one: pages of relations that are not new. */
export function setChecksum(page: Page, space: KeySpace, block: number): void {
  if (space.family === FAMILY_RELATION && !page.isNew()) page.checksum = pageChecksum(page, block);
}

/** The plain way: one read of the timeline per page, some at a time. */
export function pagesOneByOne(
  reader: TimelineReader,
  spaces: readonly KeySpace[],
  lsn: Lsn,
  signal?: AbortSignal,
): PageSource {
  const readOne = async (space: KeySpace, block: number, page: Page) => {
    const bytes = space.family === FAMILY_RELATION
      ? await reader.getPage({ spc: space.a, db: space.b, rel: space.c }, space.d, block, lsn, { signal })
      : await reader.getSlruPage(space.a as SlruKind, space.c * SLRU_PAGES_PER_SEGMENT + block, lsn, {
        signal,
      });
    if (bytes === undefined) page.u32.fill(0);
    else page.u8.set(bytes);
  };
  return {
    async read(ordinal, block, count, pages) {
      const space = spaces[ordinal];
      const reads: Promise<void>[] = [];
      for (let index = 0; index < count; index++) reads.push(readOne(space, block + index, pages[index]));
      await Promise.all(reads);
    },
    close: () => Promise.resolve(),
  };
}
