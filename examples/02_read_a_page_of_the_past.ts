/**
 * Reads one page as of an LSN; no PostgreSQL is needed:
 * `deno run -A examples/02_read_a_page_of_the_past.ts DIRECTORY TABLESPACE/DATABASE/FILENODE BLOCK [LSN]`
 *
 * `SELECT pg_relation_filepath('t')` tells the numbers: `base/5/16384` is 1663/5/16384.
 */
import { attachReader, formatLsn, MAIN_FORKNUM, Page, parseLsn, systemClock } from "../mod.ts";
import { FilesStore } from "../src/store/files.ts";

const [directory, relation, block, at] = Deno.args;
const [spc, db, rel] = relation.split("/").map(Number);
const store = await FilesStore.open({ path: directory });

// One manifest is read, no layer. Layers are read from the store as far as the page needs them.
const attached = await attachReader({ store, clock: systemClock });
const { timeline, reader } = attached;
const lsn = at === undefined ? timeline.lastRecordLsn : parseLsn(at);

const blocks = await reader.relationSize({ spc, db, rel }, MAIN_FORKNUM, lsn);
console.log(`at ${formatLsn(lsn)} the relation has ${blocks ?? "no"} blocks`);
const bytes = await reader.getPage({ spc, db, rel }, MAIN_FORKNUM, Number(block), lsn);

const page = Page.from(bytes);
console.log(
  `block ${block}: ${bytes.length} bytes, last changed by the record ending at ${formatLsn(page.lsn)}`,
);
console.log(`${page.maxOffsetNumber()} line pointers, ${page.upper - page.lower} bytes free`);
for (let item = 1; item <= Math.min(3, page.maxOffsetNumber()); item++) {
  const offset = page.itemOffset(item);
  const hex = bytes.subarray(offset, offset + Math.min(24, page.itemLength(item))).toHex();
  console.log(`item ${item}: ${page.itemLength(item)} bytes at ${offset}: ${hex}...`);
}

await attached.close();
await store.close();
