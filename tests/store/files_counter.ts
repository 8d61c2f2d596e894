/**
 * A child process of `files_test.ts`: increments a counter object by compare-and-swap and tells how often it won.
 *
 * Arguments: the store's directory, how many increments.
 */
import { PreconditionFailedError } from "../../src/errors.ts";
import { FilesStore } from "../../src/store/files.ts";
import { text, textOf } from "../suites/object_store_helpers.ts";

const [path, increments] = Deno.args;
const store = await FilesStore.open({ path, fsync: false });
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
