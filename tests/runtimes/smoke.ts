/**
 * What runs on Node and Bun in the tests of this folder: `smoke.js DIRECTORY SPC/DB/REL BLOCK LSN SOURCE_URL UNTIL_LSN`.
 *
 * Opens a directory store that Deno has made, attaches, reads a page of the past; then follows the server from where that
 * store ends, and reads the page as it is then. Prints both pages as one line of JSON.
 *
 * @module
 */
import process from "node:process";
import {
  attachReader,
  follow,
  LsnNotReachedError,
  MAIN_FORKNUM,
  parseLsn,
  resolveConnection,
  systemClock,
} from "../../mod.ts";
import { postgresSource } from "../../src/deps/postgres_source.ts";
import { FilesStore } from "../../src/store/files.ts";

const [directory, relation, blockText, at, url, until] = process.argv.slice(2);
const [spc, db, rel] = relation.split("/").map(Number);
const block = Number(blockText);
const store = await FilesStore.open({ path: directory });

const attached = await attachReader({ store, clock: systemClock });
const past = await attached.reader.getPage({ spc, db, rel }, MAIN_FORKNUM, block, parseLsn(at));
// An error of one bundle is of the class that another exports.
const early = await attached.reader.getPage({ spc, db, rel }, MAIN_FORKNUM, block, parseLsn(until)).then(
  () => "reached",
  (error) => error instanceof LsnNotReachedError ? "not reached" : String(error),
);
await attached.close();

const following = await follow({
  store,
  clock: systemClock,
  source: { ...postgresSource, connection: await resolveConnection({ url }) },
  until: parseLsn(until),
});
await following.follower.done;
const { reader, timeline } = following;
const present = await reader.getPage({ spc, db, rel }, MAIN_FORKNUM, block, parseLsn(until));
const result = { past: hex(past), early, present: hex(present), records: timeline.recordCount };
await following.close();
await store.close();
process.stdout.write(JSON.stringify(result) + "\n");

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
