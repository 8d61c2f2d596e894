/** The manifest: its text, its commits, writers that fence each other, answers that get lost. */
import { systemClock } from "../../src/deps/system_clock.ts";
import { CorruptionError, FencedError, UnavailableError, UnsupportedError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { decodeManifest, encodeManifest, type Manifest } from "../../src/timeline/manifest.ts";
import { ManifestWriter, readManifest } from "../../src/timeline/manifest_store.ts";
import { checkTimelineName } from "../../src/timeline/object_keys.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("timeline/manifest");

const FACTS = {
  systemId: "7711025841440774759",
  major: 17,
  walSegmentSize: 16 * 1024 * 1024,
  blockSize: 8192,
  dataChecksums: true,
  walLogHints: false,
};
const START = {
  timeline: "main",
  facts: FACTS,
  tli: 1,
  startLsn: 0x2000028 as Lsn,
  consistentLsn: 0x2000100 as Lsn,
  diskConsistentLsn: 0x2000028 as Lsn,
  layers: [],
};

/** A store whose next conditional write happens, but whose answer is lost. */
function losingAnswers(store: ObjectStore): ObjectStore & { lose: boolean } {
  const wrapper = Object.create(store) as ObjectStore & { lose: boolean };
  wrapper.lose = false;
  wrapper.put = async (key, body, options) => {
    const result = await store.put(key, body, options);
    if (!wrapper.lose) return result;
    wrapper.lose = false;
    throw new UnavailableError("The answer was lost");
  };
  for (const method of ["get", "getRange", "getStream", "head", "list", "delete", "close"] as const) {
    // deno-lint-ignore no-explicit-any -- every method passed through as it is
    (wrapper as any)[method] = (...args: unknown[]) => (store as any)[method](...args);
  }
  return wrapper;
}

test("decodeManifest() reads what encodeManifest() writes", () => {
  const manifest: Manifest = {
    ...START,
    epoch: 3,
    commitId: "abc",
    committedAtMs: 1_795_000_000_000,
    layers: [{ name: "x", size: 5, checksum: 7, complete: true }],
  };
  assert.equal(decodeManifest(encodeManifest(manifest), "manifest.json"), manifest);
});

test("decodeManifest() refuses a newer format, and damage, by name", () => {
  const manifest: Manifest = { ...START, epoch: 1, commitId: "abc", committedAtMs: 0 };
  const text = new TextDecoder().decode(encodeManifest(manifest));
  const decode = (edited: string) =>
    decodeManifest(new TextEncoder().encode(edited), "timelines/main/manifest.json");
  assert.raises(() => decode(text.replace('"format": 1', '"format": 2')), UnsupportedError);
  assert.raises(() => decode(text.replace('"epoch": 1', '"epoch": -1')), CorruptionError);
  assert.raises(() => decode(text.replace("0/2000028", "0x2000028")), CorruptionError);
  const random = seededRandom("manifest damage");
  for (let round = 0; round < 2000; round++) {
    const bytes = encodeManifest(manifest);
    const cut = bytes.slice(0, random.uint32() % bytes.length);
    if (cut.length > 0) cut[random.uint32() % cut.length] ^= 1 << random.uint32() % 8;
    assert.raises(
      () => decodeManifest(cut, "m"),
      (error: Error) => error instanceof CorruptionError || error instanceof UnsupportedError,
    );
  }
});

test("ManifestWriter.create() is won by one of many", async () => {
  const store = new MemoryStore();
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, () => ManifestWriter.create(store, systemClock, START)),
  );
  assert.is(results.filter((result) => result.status === "fulfilled").length, 1);
  for (const result of results) {
    if (result.status === "rejected") assert.ok(result.reason instanceof FencedError);
  }
});

test("ManifestWriter.claim() fences the writer before, for good", async () => {
  const store = new MemoryStore();
  const first = await ManifestWriter.create(store, systemClock, START);
  await first.commit({ diskConsistentLsn: 0x3000000 as Lsn });
  const second = await ManifestWriter.claim(store, systemClock, (await readManifest(store, "main"))!);
  assert.is(second.manifest.epoch, 2);
  await assert.rejects(first.commit({ diskConsistentLsn: 0x4000000 as Lsn }), FencedError);
  await second.commit({ diskConsistentLsn: 0x3500000 as Lsn });
  await assert.rejects(first.commit({ diskConsistentLsn: 0x4000000 as Lsn }), FencedError);
  assert.is((await readManifest(store, "main"))!.manifest.diskConsistentLsn, 0x3500000);
});

test("ManifestWriter.claim() takes over from a writer that goes on committing", async () => {
  const store = new MemoryStore();
  const first = await ManifestWriter.create(store, systemClock, START);
  const stale = (await readManifest(store, "main"))!;
  await first.commit({ diskConsistentLsn: 0x3000000 as Lsn });
  const second = await ManifestWriter.claim(store, systemClock, stale);
  assert.is(second.manifest.epoch, 2);
  assert.is(second.manifest.diskConsistentLsn, 0x3000000, "what was committed meanwhile is kept");
  // But not from one that took over meanwhile.
  await assert.rejects(ManifestWriter.claim(store, systemClock, stale), FencedError);
});

test("ManifestWriter.commit() knows its own write when the answer was lost", async () => {
  const store = losingAnswers(new MemoryStore());
  const writer = await ManifestWriter.create(store, systemClock, START);
  store.lose = true;
  await writer.commit({ diskConsistentLsn: 0x3000000 as Lsn });
  await writer.commit({ diskConsistentLsn: 0x3100000 as Lsn });
  assert.is((await readManifest(store, "main"))!.manifest.diskConsistentLsn, 0x3100000);
});

test("ManifestWriter.commit() tried again is not fenced by its own write, whose answer was lost with the store", async () => {
  const memory = new MemoryStore();
  const store = losingAnswers(memory);
  const writer = await ManifestWriter.create(store, systemClock, START);
  // The write happens, and then nothing answers: neither the write nor the look whether it happened.
  store.lose = true;
  store.get = () => Promise.reject(new UnavailableError("The store is away"));
  await assert.rejects(writer.commit({ diskConsistentLsn: 0x3000000 as Lsn }), UnavailableError);
  assert.is(writer.manifest.diskConsistentLsn, START.diskConsistentLsn);
  // Back, and away again before it can say what is there.
  await assert.rejects(writer.commit({ diskConsistentLsn: 0x3000000 as Lsn }), UnavailableError);
  store.get = (key, options) => memory.get(key, options);
  await writer.commit({ diskConsistentLsn: 0x3000000 as Lsn });
  await writer.commit({ diskConsistentLsn: 0x3100000 as Lsn });
  assert.is((await readManifest(memory, "main"))!.manifest.diskConsistentLsn, 0x3100000);
});

test("ManifestWriter.commit() tried again is fenced by who came in between", async () => {
  const memory = new MemoryStore();
  const store = losingAnswers(memory);
  const writer = await ManifestWriter.create(store, systemClock, START);
  store.lose = true;
  store.get = () => Promise.reject(new UnavailableError("The store is away"));
  await assert.rejects(writer.commit({ diskConsistentLsn: 0x3000000 as Lsn }), UnavailableError);
  store.get = (key, options) => memory.get(key, options);
  await ManifestWriter.claim(memory, systemClock, (await readManifest(memory, "main"))!);
  await assert.rejects(writer.commit({ diskConsistentLsn: 0x3000000 as Lsn }), FencedError);
  await assert.rejects(writer.commit({ diskConsistentLsn: 0x3000000 as Lsn }), FencedError);
});

test("checkTimelineName() refuses what could leave the folder", () => {
  for (const name of ["main", "a", "A.b_c-1"]) checkTimelineName(name);
  for (const name of ["", ".", "..", "a/b", "-a", "a b", "é", "a".repeat(129)]) {
    assert.raises(() => checkTimelineName(name), TypeError);
  }
});

test.run();
