/**
 * All of a database as of an LSN: its forks, its relation map, its pages.
 *
 * Read path; what ingest asks for when a database is copied by file. Pages come in groups, so that a large database
 * never has to fit into memory, and all of them do: what is left out would be whatever an earlier database had there.
 *
 * @module
 */
import { UnsupportedError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { FAMILY_RELATION, FAMILY_RELMAP } from "../layer/key.ts";
import type { SpaceSize, TimelineReader } from "./get_page.ts";

/** A page of a database. */
export interface DatabasePage {
  rel: number;
  fork: number;
  block: number;
  /** 8192 bytes, or that they are all zero, or that some record of the page cannot be replayed. */
  bytes: Uint8Array | "zeros" | "unsupported";
}

/** Pages per group: 2 MiB. */
const GROUP_PAGES = 256;

/** Reads a database; pages are read as the iterator advances. */
export async function databaseContent(
  reader: TimelineReader,
  spc: number,
  db: number,
  lsn: Lsn,
  signal?: AbortSignal,
): Promise<
  {
    forks: { rel: number; fork: number; blocks: number }[];
    relmap?: Uint8Array;
    pages: AsyncIterable<DatabasePage[]>;
  }
> {
  const options = { signal, evenInconsistent: true, cause: "ingest" as const };
  const sizes = (await reader.listSizes(FAMILY_RELATION, lsn, options)).filter(({ space }) =>
    space.a === spc && space.b === db
  );
  const relmap = await reader.getValue({ family: FAMILY_RELMAP, a: spc, b: db, c: 0, d: 0 }, 0, lsn, options);
  return {
    forks: sizes.map(({ space, blocks }) => ({ rel: space.c, fork: space.d, blocks: blocks ?? 0 })),
    relmap,
    pages: databasePages(reader, sizes, lsn, signal),
  };
}

async function* databasePages(
  reader: TimelineReader,
  sizes: SpaceSize[],
  lsn: Lsn,
  signal?: AbortSignal,
): AsyncGenerator<DatabasePage[]> {
  const options = { signal, evenInconsistent: true, cause: "ingest" as const };
  let group: DatabasePage[] = [];
  for (const { space, blocks = 0 } of sizes) {
    const relation = { spc: space.a, db: space.b, rel: space.c };
    for (let block = 0; block < blocks; block++) {
      const bytes = await readPage(() => reader.getPage(relation, space.d, block, lsn, options));
      group.push({ rel: space.c, fork: space.d, block, bytes });
      if (group.length === GROUP_PAGES) {
        yield group;
        group = [];
      }
    }
  }
  if (group.length > 0) yield group;
}

async function readPage(read: () => Promise<Uint8Array>): Promise<DatabasePage["bytes"]> {
  try {
    const bytes = await read();
    return bytes.some((byte) => byte !== 0) ? bytes : "zeros";
  } catch (error) {
    if (error instanceof UnsupportedError) return "unsupported";
    throw error;
  }
}
