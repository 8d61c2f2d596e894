/** A restore into a directory that fails when it is put in place: what was there stays. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { VarveError } from "../../src/errors.ts";
import type { RestoreTarget } from "../../src/ports/restore_target.ts";
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

const VERSION = "PG_17_202406281";

/** A restore into `data` with tablespaces `one` and `two` beside it, all written. */
async function writtenWithTablespaces(parent: string, force = false): Promise<RestoreTarget> {
  const target = await restoreDirectory(`${parent}/data`, { fsync: false, force });
  await target.put("PG_VERSION", new TextEncoder().encode("17\n"));
  await target.directory("pg_tblspc");
  for (const [oid, name] of [[1, "one"], [2, "two"]] as const) {
    await target.tablespace(oid, `${parent}/${name}`);
    await target.directory(`pg_tblspc/${oid}/${VERSION}`);
    await target.put(`pg_tblspc/${oid}/${VERSION}/file`, new TextEncoder().encode(name));
  }
  return target;
}

test(
  "commit() puts tablespaces and the directory in place",
  inDirectory(async (parent) => {
    mkdirSync(`${parent}/two/${VERSION}`, { recursive: true });
    const target = await writtenWithTablespaces(parent);
    await target.commit();
    assert.equal(readdirSync(parent).sort(), ["data", "one", "two"]);
    for (const [oid, name] of [[1, "one"], [2, "two"]] as const) {
      assert.equal(readdirSync(`${parent}/${name}`), [VERSION]);
      assert.is(readFileSync(`${parent}/data/pg_tblspc/${oid}/${VERSION}/file`, "utf8"), name);
    }
  }),
);

test(
  "commit() that fails at a later tablespace takes the earlier ones back, and says which",
  inDirectory(async (parent) => {
    const target = await writtenWithTablespaces(parent);
    const [written] = readdirSync(`${parent}/two`);
    rmSync(`${parent}/two/${written}`, { recursive: true });
    await assert.rejects(
      target.commit(),
      (error) => error instanceof VarveError && /Cannot put .*data in place: .*two/.test(error.message),
    );
    await target.abort();
    assert.equal(readdirSync(parent).sort(), ["one", "two"]);
    for (const name of ["one", "two"]) assert.equal(readdirSync(`${parent}/${name}`), []);
  }),
);

test(
  "commit() that fails at the directory takes the tablespaces back, and leaves what was to be replaced",
  inDirectory(async (parent) => {
    mkdirSync(`${parent}/data`);
    writeFileSync(`${parent}/data/PG_VERSION`, "16\n");
    const target = await writtenWithTablespaces(parent, true);
    for (const name of readdirSync(parent)) {
      if (name.includes(".restoring-")) rmSync(`${parent}/${name}`, { recursive: true });
    }
    await assert.rejects(target.commit(), /in place/);
    await target.abort();
    assert.equal(readdirSync(parent).sort(), ["data", "one", "two"]);
    for (const name of ["one", "two"]) assert.equal(readdirSync(`${parent}/${name}`), []);
    assert.is(readFileSync(`${parent}/data/PG_VERSION`, "utf8"), "16\n");
  }),
);

test(
  "commit() leaves what others have put in its places meanwhile",
  inDirectory(async (parent) => {
    for (const place of [`two/${VERSION}`, "data"]) {
      const target = await writtenWithTablespaces(parent);
      mkdirSync(`${parent}/${place}`);
      writeFileSync(`${parent}/${place}/theirs`, "theirs");
      await assert.rejects(
        target.commit(),
        (error) => error instanceof VarveError && error.code === "NOT_EMPTY" && error.message.includes(place),
      );
      await target.abort();
      assert.equal(readdirSync(`${parent}/${place}`), ["theirs"]);
      assert.equal(readdirSync(`${parent}/one`), []);
      rmSync(`${parent}/${place}`, { recursive: true });
      assert.equal(readdirSync(`${parent}/two`), []);
    }
  }),
);

test.run();
