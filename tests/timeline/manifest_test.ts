/** The manifest: its text, its commits, writers that fence each other, answers that get lost. */
import { systemClock } from "../../src/deps/system_clock.ts";
import {
  CorruptionError,
  FencedError,
  NotFoundError,
  PreconditionFailedError,
  UnavailableError,
  UnsupportedError,
} from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { type Manifest, startManifest } from "../../src/timeline/manifest.ts";
import { decodeManifest, encodeManifest } from "../../src/timeline/manifest_json.ts";
import { ManifestWriter, readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { checkTimelineName, manifestKey } from "../../src/timeline/object_keys.ts";
import { BentStore } from "../support/bent_store.ts";
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
    ...startManifest(START),
    epoch: 3,
    commitId: "abc",
    committedAtMs: 1_795_000_000_000,
    layers: [{ name: "x", size: 5, checksum: 7, complete: true, level: 1 }],
  };
  assert.equal(decodeManifest(encodeManifest(manifest), "manifest.json"), manifest);
  const rich: Manifest = {
    ...manifest,
    claimId: "def",
    cutoffLsn: 0x2000200 as Lsn,
    retention: { keepMs: 5000, keepWalBytes: 1 << 30 },
    pins: [{ name: "a", lsn: 0x2000300 as Lsn }, { name: "b", lsn: 0x2000400 as Lsn, expiresAtMs: 1000 }],
    branches: [{ timeline: "child", lsn: 0x2000500 as Lsn }],
    ancestor: { timeline: "parent", lsn: 0x2000028 as Lsn },
    removed: [{ name: "y", size: 6, atMs: 2000 }],
  };
  assert.equal(decodeManifest(encodeManifest(rich), "manifest.json"), rich);
});

test("decodeManifest() reads format 1", () => {
  const { epoch, commitId, committedAtMs, ...start } = {
    ...startManifest(START),
    epoch: 3,
    commitId: "abc",
    committedAtMs: 1_795_000_000_000,
  };
  const json = JSON.parse(
    new TextDecoder().decode(encodeManifest({ ...start, epoch, commitId, committedAtMs })),
  );
  for (const added of ["cutoffLsn", "retention", "pins", "branches", "removed"]) delete json[added];
  json.format = 1;
  json.layers = [{ name: "x", size: 5, checksum: 7, complete: true }];
  assert.equal(decodeManifest(new TextEncoder().encode(JSON.stringify(json)), "manifest.json"), {
    ...start,
    epoch,
    commitId,
    committedAtMs,
    layers: [{ name: "x", size: 5, checksum: 7, complete: true, level: 0 }],
  });
});

test("decodeManifest() refuses a newer format, and damage, by name", () => {
  const manifest: Manifest = { ...startManifest(START), epoch: 1, commitId: "abc", committedAtMs: 0 };
  const text = new TextDecoder().decode(encodeManifest(manifest));
  const decode = (edited: string) =>
    decodeManifest(new TextEncoder().encode(edited), "timelines/main/manifest.json");
  const unsealed = text.replace(/,\n "checksum".*/s, "\n}");
  assert.raises(() => decode(unsealed), CorruptionError);
  assert.raises(() => decode(unsealed.replace('"format": 2', '"format": 3')), UnsupportedError);
  assert.raises(() => decode(text.replace('"epoch": 1', '"epoch": 2')), CorruptionError);
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

test("decodeManifest() notices every single bit that is turned over", () => {
  const manifest: Manifest = {
    ...startManifest(START),
    epoch: 1,
    commitId: "abc",
    committedAtMs: 0,
    layers: [{ name: "000000067F-0C00", size: 5, checksum: 7, complete: true, level: 0 }],
  };
  const bytes = encodeManifest(manifest);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3] ^= 1 << (bit & 7);
    assert.raises(() => decodeManifest(damaged, "m"), CorruptionError);
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

/** A store where the next manifest that is written is there, `then` happens, and the answer is `answer`. */
function answeringLate(store: BentStore, then: () => Promise<unknown>, answer: Error): void {
  store.after = async (method) => {
    if (method !== "put") return;
    store.comeBack();
    await then();
    throw answer;
  };
}

// As a store says it that does not try again, and as one that does.
const LOST_ANSWERS = [new UnavailableError("No answer"), new PreconditionFailedError("It is there already")];

test("ManifestWriter.claim() knows its own claim under a guest's edit when the answer was lost", async () => {
  for (const answer of LOST_ANSWERS) {
    const store = new BentStore();
    const first = await ManifestWriter.create(store, systemClock, START);
    const stale = (await readManifest(store, "main"))!;
    const lsn = 0x3000000 as Lsn;
    const guest = () =>
      updateManifest(store.below, systemClock, "main", () => ({ pins: [{ name: "a", lsn }] }));
    answeringLate(store, guest, answer);
    const second = await ManifestWriter.claim(store, systemClock, stale);
    assert.is(second.manifest.epoch, 2);
    assert.equal(second.manifest.pins, [{ name: "a", lsn }]);
    await second.commit({ diskConsistentLsn: lsn });
    const stored = (await readManifest(store, "main"))!.manifest;
    assert.equal([stored.diskConsistentLsn, stored.pins.length, stored.epoch], [lsn, 1, 2]);
    await assert.rejects(first.commit({ diskConsistentLsn: lsn }), FencedError);
  }
});

test("ManifestWriter.claim() does not take another's claim of the same epoch for its own", async () => {
  const store = new BentStore();
  await ManifestWriter.create(store, systemClock, START);
  const stale = (await readManifest(store, "main"))!;
  // Ours does not happen; another's does, with a guest's edit on top.
  store.before = async (method) => {
    if (method !== "put") return;
    store.comeBack();
    await ManifestWriter.claim(store.below, systemClock, stale);
    await updateManifest(store.below, systemClock, "main", () => ({ pins: [{ name: "a", lsn: 1 as Lsn }] }));
    throw new UnavailableError("No answer");
  };
  await assert.rejects(ManifestWriter.claim(store, systemClock, stale), UnavailableError);
  await assert.rejects(ManifestWriter.claim(store, systemClock, stale), FencedError);
  assert.is((await readManifest(store, "main"))!.manifest.epoch, 2);
});

test("ManifestWriter.create() knows its own timeline under a guest's edit when the answer was lost", async () => {
  for (const answer of LOST_ANSWERS) {
    const store = new BentStore();
    const lsn = 0x3000000 as Lsn;
    const guest = () =>
      updateManifest(store.below, systemClock, "main", () => ({ pins: [{ name: "a", lsn }] }));
    answeringLate(store, guest, answer);
    const writer = await ManifestWriter.create(store, systemClock, START);
    assert.equal(writer.manifest.pins, [{ name: "a", lsn }]);
    await writer.commit({ diskConsistentLsn: lsn });
  }
});

test("ManifestWriter goes on with no timeline that was made anew under its name", async () => {
  const store = new MemoryStore();
  const first = await ManifestWriter.create(store, systemClock, START);
  await store.delete(manifestKey("main"));
  const second = await ManifestWriter.create(store, systemClock, START);
  assert.is(first.manifest.epoch, second.manifest.epoch);
  await assert.rejects(first.refresh(), FencedError);
  await assert.rejects(first.commit({ diskConsistentLsn: 0x3000000 as Lsn }), FencedError);
  await second.commit({ diskConsistentLsn: 0x3000000 as Lsn });
});

test("ManifestWriter.commit() goes on with what a guest has written who knows no claims", async () => {
  const store = new MemoryStore();
  const writer = await ManifestWriter.create(store, systemClock, START);
  const { manifest, etag } = (await readManifest(store, "main"))!;
  const { claimId: _, ...older } = manifest;
  await store.put(manifestKey("main"), encodeManifest({ ...older, commitId: "guest" }), {
    condition: { ifMatch: etag },
  });
  await writer.commit({ diskConsistentLsn: 0x3000000 as Lsn });
  assert.is((await readManifest(store, "main"))!.manifest.diskConsistentLsn, 0x3000000);
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

/** A layer's line, made up. */
function line(name: string) {
  return { name, size: 1, checksum: 2, complete: false, level: 0 };
}

test("ManifestWriter.commit() goes on with what a guest has committed", async () => {
  const store = losingAnswers(new MemoryStore());
  const writer = await ManifestWriter.create(store, systemClock, START);
  const add = (name: string) => ({ layers }: Manifest) => ({
    layers: [...layers.filter((layer) => layer.name !== name), line(name)],
  });
  await updateManifest(store, systemClock, "main", add("guest 1"));
  await writer.commit((current) => ({ ...add("own 1")(current), diskConsistentLsn: 0x3000000 as Lsn }));
  assert.equal(writer.manifest.layers.map((layer) => layer.name), ["guest 1", "own 1"]);
  // A commit whose answer was lost, and a guest's on top of it.
  store.lose = true;
  const read = store.get.bind(store);
  store.get = () => Promise.reject(new UnavailableError("The store is away"));
  await assert.rejects(writer.commit(add("own 2")), UnavailableError);
  store.get = read;
  await updateManifest(store, systemClock, "main", add("guest 2"));
  await writer.commit(add("own 2"));
  const stored = (await readManifest(store, "main"))!.manifest;
  assert.equal(stored.layers.map((layer) => layer.name), ["guest 1", "own 1", "guest 2", "own 2"]);
  assert.is(stored.epoch, 1);
  assert.is(stored.diskConsistentLsn, 0x3000000);
});

test("updateManifest() and ManifestWriter.commit() lose nothing when many commit at once", async () => {
  const store = new MemoryStore();
  const writer = await ManifestWriter.create(store, systemClock, START);
  const names = Array.from({ length: 30 }, (_, i) => `layer ${i}`);
  const edit = (name: string) => ({ layers }: Manifest) => ({ layers: [...layers, line(name)] });
  await Promise.all(
    names.map((name, i) =>
      i % 3 === 0 ? writer.commit(edit(name)) : updateManifest(store, systemClock, "main", edit(name))
    ),
  );
  const stored = (await readManifest(store, "main"))!.manifest;
  assert.equal(stored.layers.map((layer) => layer.name).sort(), [...names].sort());
});

test("updateManifest() says that there is no such timeline", async () => {
  await assert.rejects(updateManifest(new MemoryStore(), systemClock, "main", () => ({})), NotFoundError);
});

test.run();
