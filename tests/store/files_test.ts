/** The store in a directory. */
import { systemClock } from "../../src/deps/system_clock.ts";
import {
  CorruptionError,
  NotFoundError,
  PreconditionFailedError,
  UnavailableError,
  VarveError,
} from "../../src/errors.ts";
import type { ObjectBody } from "../../src/ports/object_store.ts";
import { FilesStore, type FilesStoreOptions } from "../../src/store/files.ts";
import { fsError } from "../../src/store/files/fs_errors.ts";
import { assert, suite, type TestRegistrar } from "../support/harness.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { objectStoreTests } from "../suites/object_store.ts";
import { keysOf, pattern, sameBytes, text, textOf } from "../suites/object_store_helpers.ts";

const test = suite("store/files");
const blocking = suite("store/files with blocking reads");

async function openTestStore(options: Partial<FilesStoreOptions> = {}) {
  const directory = await temporaryDirectory("store");
  const root = directory.join("root");
  const open = (more: Partial<FilesStoreOptions> = {}) =>
    FilesStore.open({ path: root, fsync: false, ...options, ...more });
  const store = await open();
  return {
    store,
    root,
    open,
    async [Symbol.asyncDispose]() {
      await store.close();
      await directory.remove();
    },
  };
}

objectStoreTests(test, () => openTestStore());
objectStoreTests(blocking as TestRegistrar, () => openTestStore({ syncReadLimit: 64 << 20, openFiles: 2 }));

const ifAbsent = { condition: { ifAbsent: true as const } };
const ifMatch = (etag: string) => ({ condition: { ifMatch: etag } });

/** A body that does something between the check of a condition and the write, once. */
function meanwhile(content: string, act: () => Promise<unknown>): ObjectBody {
  let acted: Promise<unknown> | undefined;
  return {
    async *open() {
      await (acted ??= act());
      yield text(content);
    },
  };
}

async function namesIn(path: string): Promise<string[]> {
  const names = [];
  for await (const entry of Deno.readDir(path)) names.push(entry.name);
  return names.sort();
}

async function versionsOf(root: string, key: string): Promise<number[]> {
  const [incarnation] = await namesIn(`${root}/${key}~`);
  return (await namesIn(`${root}/${key}~/${incarnation}`)).map(Number).sort((a, b) => a - b);
}

test("put() syncs files and directories where it may", async () => {
  await using opened = await openTestStore({ fsync: true });
  const { store } = opened;
  await store.put("a/b/c", text("plain"));
  const { etag } = await store.put("a/b/versioned", text("1"), ifAbsent);
  await store.put("a/b/versioned", text("2"), ifMatch(etag));
  assert.is(textOf((await store.get("a/b/versioned")).bytes), "2");
  assert.equal(await keysOf(store, ""), ["a/b/c", "a/b/versioned"]);
});

test("put() works again after its directories were removed", async () => {
  await using opened = await openTestStore();
  const { store, root } = opened;
  await store.put("a/b", text("1"));
  await store.put("a/c", text("1"), ifAbsent);
  await Deno.remove(root, { recursive: true });
  await assert.rejects(store.get("a/b"), NotFoundError);
  await store.put("a/b", text("2"));
  await store.put("a/c", text("2"), ifAbsent);
  assert.equal(await keysOf(store, ""), ["a/b", "a/c"]);
});

test("several processes lose no increment under compare-and-swap", async () => {
  await using opened = await openTestStore();
  const { store, root } = opened;
  await store.put("counter", text("0"), ifAbsent);
  const [processes, increments] = [4, 60];
  const script = new URL("./files_counter.ts", import.meta.url).pathname;
  const children = Array.from({ length: processes }, (_, i) => {
    const args = ["run", "--no-check", "-A", script, root, `child-${i}`, String(increments)];
    return new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "inherit" }).spawn();
  });
  const ready = async () => (await keysOf(store, "ready/")).length === processes;
  await waitFor(ready, { what: "all children are ready" });
  await store.put("go", text("x"));
  const outputs = await Promise.all(children.map(async (child) => {
    const { success, stdout } = await child.output();
    assert.ok(success);
    return JSON.parse(textOf(stdout)) as { won: number; lost: number };
  }));
  assert.is(textOf((await store.get("counter")).bytes), String(processes * increments));
  assert.ok(outputs.some(({ lost }) => lost > 0), "they did get into each other's way");
});

test("old versions go, the newest few stay", async () => {
  await using opened = await openTestStore({ versionHoldMs: 0 });
  const { store, root } = opened;
  let { etag } = await store.put("v", text("1"), ifAbsent);
  for (let i = 2; i <= 40; i++) etag = (await store.put("v", text(String(i)), ifMatch(etag))).etag;
  assert.equal(await versionsOf(root, "v"), [37, 38, 39, 40]);
  assert.is(textOf((await store.get("v")).bytes), "40");
});

test("a version that was current a moment ago stays", async () => {
  await using opened = await openTestStore();
  let { etag } = await opened.store.put("v", text("1"), ifAbsent);
  for (let i = 2; i <= 20; i++) etag = (await opened.store.put("v", text(String(i)), ifMatch(etag))).etag;
  assert.is((await versionsOf(opened.root, "v")).length, 20);
});

test("a store that has not looked for long finds the newest version", async () => {
  await using opened = await openTestStore({ versionHoldMs: 0 });
  const { store } = opened;
  const other = await opened.open();
  let { etag } = await store.put("v", text("1"), ifAbsent);
  assert.is(textOf((await other.get("v")).bytes), "1");
  for (let i = 2; i <= 60; i++) {
    etag = (await store.put("v", text(String(i)), ifMatch(etag))).etag;
    if ([3, 30, 31, 59].includes(i)) assert.is(textOf((await other.get("v")).bytes), String(i));
  }
  await assert.rejects(other.put("v", text("bad"), ifMatch("nonsense")), PreconditionFailedError);
  await other.put("v", text("61"), ifMatch(etag));
  assert.is(textOf((await store.get("v")).bytes), "61");
  await other.close();
});

test("a writer that was overtaken loses", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  const one = await store.put("v", text("1"), ifAbsent);
  const slow = meanwhile("slow", () => store.put("v", text("2"), ifMatch(one.etag)));
  await assert.rejects(store.put("v", slow, ifMatch(one.etag)), PreconditionFailedError);
  assert.is(textOf((await store.get("v")).bytes), "2");

  const late = meanwhile("late", () => store.put("new", text("first"), ifAbsent));
  await assert.rejects(store.put("new", late, ifAbsent), PreconditionFailedError);
  assert.is(textOf((await store.get("new")).bytes), "first");

  const plain = meanwhile("late", () => store.put("plain", text("first")));
  await assert.rejects(store.put("plain", plain, ifAbsent), PreconditionFailedError);
  assert.is(textOf((await store.get("plain")).bytes), "first");
  assert.equal(await keysOf(store, ""), ["new", "plain", "v"]);
});

test("a writer whose object was deleted, or created anew, meanwhile loses", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  const one = await store.put("v", text("1"), ifAbsent);
  const deleted = meanwhile("bad", () => store.delete("v"));
  await assert.rejects(store.put("v", deleted, ifMatch(one.etag)), PreconditionFailedError);
  assert.equal(await keysOf(store, ""), []);

  const again = await store.put("v", text("again"), ifAbsent);
  const renewed = meanwhile("bad", async () => {
    await store.delete("v");
    await store.put("v", text("renewed"), ifAbsent);
  });
  await assert.rejects(store.put("v", renewed, ifMatch(again.etag)), PreconditionFailedError);
  assert.is(textOf((await store.get("v")).bytes), "renewed");
});

test("a writer that was suspended until its predecessor was gone does not claim to have won", async () => {
  await using opened = await openTestStore({ versionHoldMs: 0 });
  const { store, root } = opened;
  const one = await store.put("v", text("1"), ifAbsent);
  const suspended = meanwhile("suspended", async () => {
    let { etag } = one;
    for (let i = 2; i <= 16; i++) etag = (await store.put("v", text(String(i)), ifMatch(etag))).etag;
  });
  await assert.rejects(store.put("v", suspended, ifMatch(one.etag)), UnavailableError);
  assert.equal(await versionsOf(root, "v"), [2, 13, 14, 15, 16]);
  let { etag } = await store.head("v");
  assert.is(textOf((await store.get("v")).bytes), "16");
  for (let i = 17; i <= 24; i++) etag = (await store.put("v", text(String(i)), ifMatch(etag))).etag;
  assert.equal(await versionsOf(root, "v"), [21, 22, 23, 24]);
});

test("an unconditional write that meets a conditional one is not lost", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  const body = meanwhile("unconditional", () => store.put("m", text("conditional"), ifAbsent));
  const { etag } = await store.put("m", body);
  assert.is(textOf((await store.get("m")).bytes), "unconditional");
  assert.is((await store.head("m")).etag, etag);
  assert.equal(await keysOf(store, ""), ["m"]);
  await store.delete("m");
  assert.equal(await keysOf(store, ""), []);
});

test("getRange() notices within a moment what another store has replaced", async () => {
  let nowMs = 0;
  await using opened = await openTestStore({ clock: { ...systemClock, monotonicMs: () => nowMs } });
  const other = await opened.open({ clock: systemClock });
  await other.put("plain", text("old"));
  const { etag } = await other.put("versioned", text("old"), ifAbsent);
  for (const key of ["plain", "versioned"]) assert.is(textOf(await opened.store.getRange(key, 0, 3)), "old");
  await other.put("plain", text("new"));
  await other.put("versioned", text("new"), ifMatch(etag));
  nowMs += 101;
  for (const key of ["plain", "versioned"]) assert.is(textOf(await opened.store.getRange(key, 0, 3)), "new");
  await other.delete("plain");
  nowMs += 101;
  await assert.rejects(opened.store.getRange("plain", 0, 3), NotFoundError);
  await other.close();
});

test("getRange() keeps no more files open than it may, and reads through them all", async () => {
  await using opened = await openTestStore({ openFiles: 3 });
  const { store } = opened;
  const bodies = Array.from({ length: 12 }, (_, i) => pattern(10_000, i + 1));
  for (const [i, body] of bodies.entries()) await store.put(`o/${i}`, body);
  await Promise.all(Array.from({ length: 240 }, async (_, i) => {
    const [n, offset] = [(i * 7) % 12, (i * 41) % 9_000];
    if (i % 50 === 49) await store.put(`o/${n}`, bodies[n]); // drops its handle in the middle of reads
    sameBytes(
      await store.getRange(`o/${n}`, offset, 1000),
      bodies[n].subarray(offset, offset + 1000),
      `o/${n}`,
    );
  }));
  await store.close();
  assert.is(
    (await store.getRange("o/1", 0, 4)).length,
    4,
    "a closed store opens what it needs and closes it",
  );
});

test("open() removes old leftovers of crashed writers and nothing else", async () => {
  await using opened = await openTestStore();
  const { store, root, open } = opened;
  await store.put("a", text("x"));
  const old = new Date(Date.now() - 2 * 3_600_000);
  for (const name of ["old", "young"]) {
    await Deno.mkdir(`${root}/~tmp/${name}-directory/inside`, { recursive: true });
    await Deno.writeTextFile(`${root}/~tmp/${name}`, "half");
  }
  for (const name of ["old", "old-directory"]) await Deno.utime(`${root}/~tmp/${name}`, old, old);
  assert.equal(await keysOf(store, ""), ["a"]);
  await (await open()).close();
  assert.equal(await namesIn(`${root}/~tmp`), ["young", "young-directory"]);
  assert.equal(await keysOf(store, ""), ["a"]);
});

test("an empty version directory or a plain file left by a crash changes nothing", async () => {
  await using opened = await openTestStore();
  const { store, root } = opened;
  await store.put("plain", text("plain"));
  await Deno.mkdir(`${root}/plain~`);
  await Deno.mkdir(`${root}/nothing~`);
  await store.put("versioned", text("new"), ifAbsent);
  await Deno.writeTextFile(`${root}/versioned`, "hidden");
  assert.equal(await keysOf(store, ""), ["plain", "versioned"]);
  assert.is(textOf((await store.get("plain")).bytes), "plain");
  assert.is(textOf((await store.get("versioned")).bytes), "new");
  await assert.rejects(store.get("nothing"), NotFoundError);
  await store.delete("versioned");
  await assert.rejects(store.get("versioned"), NotFoundError);
  await store.put("plain", text("replaced"));
  assert.is(textOf((await store.get("plain")).bytes), "replaced");
  assert.equal(await keysOf(store, ""), ["plain"]);
});

test("a file that is cut while it is read is told, not passed off as whole", async () => {
  await using opened = await openTestStore();
  const { store, root } = opened;
  await store.put("cut", pattern(1 << 20));
  const { body } = await store.getStream("cut");
  await store.getRange("cut", 0, 8);
  await Deno.truncate(`${root}/cut`, 300_000);
  const drain = async () => {
    for await (const _ of body);
  };
  await assert.rejects(drain, CorruptionError);
  await assert.rejects(store.getRange("cut", 500_000, 10), CorruptionError);
});

test("a key that is the folder of others is refused with a hint", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  await store.put("a", text("x"));
  await store.put("f/g", text("x"));
  for (const call of [() => store.put("a/b", text("x")), () => store.put("f", text("x"))]) {
    const error = await assert.rejects<VarveError>(call, VarveError);
    assert.is(error.code, "STORE_DENIED");
    assert.match(error.hint!, /folder/);
  }
  assert.equal(await keysOf(store, ""), ["a", "f/g"]);
});

test("a directory that cannot be written is STORE_DENIED, and can be opened", async () => {
  if (Deno.build.os !== "linux") return assert.ok("only Linux has a place where even root may not write");
  const store = await FilesStore.open({ path: "/sys/varve" });
  for (const options of [{}, ifAbsent]) {
    const error = await assert.rejects<VarveError>(store.put("a", text("x"), options), VarveError);
    assert.is(error.code, "STORE_DENIED");
    assert.ok(
      error.hint !== undefined && error.message.includes('object "a" in file:///sys/varve'),
      error.message,
    );
  }
  await assert.rejects(store.get("a"), NotFoundError);
  assert.equal(await keysOf(store, ""), []);
  await store.delete("a");
});

test("fsError() sorts the file system's errors by what can be done", () => {
  const of = (code: string) => fsError("write x", Object.assign(new Error(`${code}: system says`), { code }));
  for (const code of ["ENOSPC", "EDQUOT", "EMFILE", "EIO", "ESTALE"]) {
    assert.instance(of(code), UnavailableError, code);
  }
  for (const code of ["EACCES", "EPERM", "EROFS", "EXDEV"]) {
    assert.is((of(code) as VarveError).code, "STORE_DENIED", code);
  }
  assert.instance(of("ENOENT"), NotFoundError);
  assert.match((of("ENOSPC") as VarveError).hint!, /disk is full/);
  assert.match((of("ENOSPC") as VarveError).message, /^Cannot write x: ENOSPC/);
  const own = new RangeError("misuse");
  assert.is(fsError("write x", own), own);
});

test.run();
blocking.run();
