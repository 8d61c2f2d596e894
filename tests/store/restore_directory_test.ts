/** A restore into a directory that fails when it is put in place: what was there stays. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { restoreDirectory } from "../../src/store/restore_directory.ts";
import { assert, suite } from "../support/harness.ts";
import { temporaryDirectory } from "../support/temp.ts";

const test = suite("store/restore_directory");

function inDirectory(work: (parent: string) => Promise<void>): () => Promise<void> {
  return async () => {
    await using directory = await temporaryDirectory("restore-directory");
    await work(directory.path);
  };
}

test(
  "commit() that fails leaves the directory that it was to replace",
  inDirectory(async (parent) => {
    const root = `${parent}/data`;
    mkdirSync(root);
    writeFileSync(`${root}/PG_VERSION`, "17\n");
    const target = await restoreDirectory(root, { force: true, fsync: false });
    await target.put("PG_VERSION", new TextEncoder().encode("18\n"));
    for (const name of readdirSync(parent)) {
      if (name.includes(".restoring-")) rmSync(`${parent}/${name}`, { recursive: true });
    }
    await assert.rejects(target.commit(), /in place/);
    await target.abort();
    assert.equal(readdirSync(parent), ["data"]);
    assert.is(readFileSync(`${root}/PG_VERSION`, "utf8"), "17\n");
  }),
);

test(
  "commit() replaces a directory, and leaves nothing beside it",
  inDirectory(async (parent) => {
    const root = `${parent}/data`;
    mkdirSync(root);
    writeFileSync(`${root}/PG_VERSION`, "17\n");
    const target = await restoreDirectory(root, { force: true });
    await target.put("PG_VERSION", new TextEncoder().encode("18\n"));
    await target.commit();
    assert.equal(readdirSync(parent), ["data"]);
    assert.is(readFileSync(`${root}/PG_VERSION`, "utf8"), "18\n");
  }),
);

test.run();
