/** The store in a directory. */
import { FilesStore } from "../../src/store/files.ts";
import { suite } from "../support/harness.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { objectStoreTests } from "../suites/object_store.ts";

const test = suite("store/files");

objectStoreTests(test, async () => {
  const directory = await temporaryDirectory("store");
  const store = await FilesStore.open({ path: directory.join("root"), fsync: false });
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store.close();
      await directory.remove();
    },
  };
});

test.run();
