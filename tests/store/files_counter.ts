/**
 * A child process of `files_test.ts`: once all are ready, increments a counter object by compare-and-swap and tells
 * how often it won and lost.
 *
 * Arguments: the store's directory, this child's name, how many increments.
 */
import { PreconditionFailedError } from "../../src/errors.ts";
import { FilesStore } from "../../src/store/files.ts";
import { keysOf, text, textOf } from "../suites/object_store_helpers.ts";
import { waitFor } from "../support/wait.ts";

const [path, name, increments] = Deno.args;
const store = await FilesStore.open({ path, fsync: false });
await store.put(`ready/${name}`, text("x"));
await waitFor(async () => (await keysOf(store, "go")).length > 0, { what: "the start", intervalMs: 2 });
let [won, lost] = [0, 0];
while (won < Number(increments)) {
  const { bytes, etag } = await store.get("counter");
  try {
    await store.put("counter", text(String(Number(textOf(bytes)) + 1)), { condition: { ifMatch: etag } });
    won++;
  } catch (error) {
    if (!(error instanceof PreconditionFailedError)) throw error;
    lost++;
  }
}
await store.close();
console.log(JSON.stringify({ won, lost }));
