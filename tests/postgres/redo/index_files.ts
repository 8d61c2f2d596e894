/**
 * Pages of indexes as a stopped server's files have them, beside what replay made of them: for what masking hides.
 *
 * @module
 */
import { BLCKSZ, Page } from "../../../src/postgres/page/page.ts";
import type { Cluster } from "../../support/postgres.ts";
import type { Verdict } from "../../support/replay_oracle.ts";

export interface IndexPage {
  index: string;
  block: number;
  replayed: Page;
  file: Page;
}

/** Where a running server keeps all indexes of an access method that its default database has: name to path. */
export async function indexPaths(cluster: Cluster, accessMethod: string): Promise<Map<string, string>> {
  const rows = await cluster.exec(`
    SELECT c.relname, pg_relation_filepath(c.oid) AS path FROM pg_class c JOIN pg_am a ON a.oid = c.relam
    WHERE a.amname = '${accessMethod}' AND c.relkind = 'i'`);
  return new Map(rows.map((row) => [row.relname, row.path]));
}

/** All their pages that the verdict's replay and the files both have. */
export function* indexPages(
  verdict: Verdict,
  dataDir: string,
  paths: Map<string, string>,
): Generator<IndexPage> {
  for (const [index, path] of paths) {
    const [, db, rel] = path.split("/").map(Number);
    const bytes = Deno.readFileSync(`${dataDir}/${path}`);
    for (let block = 0; (block + 1) * BLCKSZ <= bytes.length; block++) {
      if (!verdict.pages!.exists(1663, db, rel, 0, block)) continue;
      const file = Page.from(bytes.subarray(block * BLCKSZ, (block + 1) * BLCKSZ));
      yield { index, block, replayed: verdict.pages!.get(1663, db, rel, 0, block), file };
    }
  }
}
