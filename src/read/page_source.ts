/**
 * Pages in key order: what restore and scans read from. `page_walk.ts` gives it, by walking every layer once.
 *
 * @module
 */
import { FAMILY_RELATION, type KeySpace } from "../layer/key.ts";
import { pageChecksum } from "../postgres/page/checksum.ts";
import type { Page } from "../postgres/page/page.ts";

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
