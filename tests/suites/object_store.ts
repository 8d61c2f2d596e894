/**
 * What every object store does: the promises of `src/ports/object_store.ts` as tests. Each implementation's own test
 * file registers them with {@linkcode objectStoreTests} and adds what is special about it.
 *
 * @module
 */
import { CorruptionError, NotFoundError, PreconditionFailedError, VarveError } from "../../src/errors.ts";
import type { ObjectBody, ObjectStore } from "../../src/ports/object_store.ts";
import { assert, type TestRegistrar } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";
import { conditions, races } from "./object_store_conditions.ts";
import {
  collect,
  inParallel,
  keysOf,
  listAll,
  MiB,
  pattern,
  pieces,
  sameBytes,
  text,
  textOf,
  type WithStore,
} from "./object_store_helpers.ts";

/** A fresh, empty store; disposed of after the test, which also closes the store. */
export interface TestStore extends AsyncDisposable {
  readonly store: ObjectStore;
}

/**
 * Registers the behaviours.
 *
 * @param open Called by each test for a store of its own.
 */
export function objectStoreTests(test: TestRegistrar, open: () => Promise<TestStore>): void {
  const withStore = (name: string, run: (store: ObjectStore) => Promise<void>) =>
    test(name, async () => {
      await using opened = await open();
      await run(opened.store);
    });
  wholeObjects(withStore);
  ranges(withStore);
  streams(withStore);
  listing(withStore);
  conditions(withStore);
  races(withStore);
  misuse(withStore);
}

function wholeObjects(test: WithStore): void {
  test("put() keeps what get() returns", async (store) => {
    const body = text("sediment");
    const { etag } = await store.put("layers/one", body);
    body.fill(0); // the store's copy is its own
    const found = await store.get("layers/one");
    assert.is(textOf(found.bytes), "sediment");
    assert.is(found.etag, etag);
    found.bytes.fill(0);
    assert.is(textOf((await store.get("layers/one")).bytes), "sediment");
  });

  test("put() keeps an empty object", async (store) => {
    await store.put("empty", new Uint8Array(0));
    assert.is((await store.get("empty")).bytes.length, 0);
    assert.is((await store.head("empty")).size, 0);
    assert.is((await store.getRange("empty", 0, 0)).length, 0);
    const { size, body } = await store.getStream("empty");
    assert.is(size, 0);
    assert.is((await collect(body)).length, 0);
    await store.put("empty-pieces", { size: 0, async *open() {} });
    assert.is((await store.head("empty-pieces")).size, 0);
  });

  test("put() replaces an object and its etag", async (store) => {
    const first = await store.put("x/y", text("first"));
    assert.is(textOf(await store.getRange("x/y", 0, 5)), "first");
    const second = await store.put("x/y", text("second, longer"));
    assert.is.not(first.etag, second.etag);
    assert.is(textOf((await store.get("x/y")).bytes), "second, longer");
    assert.is(textOf(await store.getRange("x/y", 8, 6)), "longer");
  });

  test("every way to learn an etag tells the same one", async (store) => {
    const { etag } = await store.put("a/one", text("1"));
    assert.is((await store.head("a/one")).etag, etag);
    assert.is((await store.get("a/one")).etag, etag);
    assert.is((await listAll(store, "a/"))[0].etag, etag);
    const second = await store.put("a/one", text("2"), { condition: { ifMatch: etag } });
    assert.is((await store.head("a/one")).etag, second.etag);
    assert.is((await store.get("a/one")).etag, second.etag);
    assert.is((await listAll(store, "a/"))[0].etag, second.etag);
  });

  test("reads of a missing object reject with NotFoundError", async (store) => {
    await store.put("folder/there", text("x"));
    for (const key of ["missing", "folder/missing", "folder", "folder/there-not", "no/such/folder"]) {
      await assert.rejects(store.get(key), NotFoundError);
      await assert.rejects(store.getRange(key, 0, 1), NotFoundError);
      await assert.rejects(store.getRange(key, 0, 0), NotFoundError);
      await assert.rejects(store.getStream(key), NotFoundError);
      const error = await assert.rejects<NotFoundError>(store.head(key), NotFoundError);
      assert.ok(error.message.includes(key), error.message);
    }
  });

  test("delete() removes an object, also one that is not there", async (store) => {
    await store.put("d/one", text("1"));
    await store.put("d/two", text("2"), { condition: { ifAbsent: true } });
    await store.getRange("d/one", 0, 1); // a file may be held open
    for (const key of ["d/one", "d/two", "d/one", "d/never", "never/was", "d"]) await store.delete(key);
    assert.equal(await keysOf(store, ""), []);
    await assert.rejects(store.get("d/one"), NotFoundError);
    await assert.rejects(store.getRange("d/one", 0, 1), NotFoundError);
    await assert.rejects(store.head("d/two"), NotFoundError);
  });

  test("put() and the reads carry 20 MiB", async (store) => {
    const bytes = pattern(20 * MiB + 13);
    await store.put("large/bytes", bytes);
    await store.put("large/pieces", pieces(bytes));
    for (const key of ["large/bytes", "large/pieces"]) {
      assert.is((await store.head(key)).size, bytes.length);
      const { size, body } = await store.getStream(key);
      assert.is(size, bytes.length);
      sameBytes(await collect(body), bytes, `${key} streamed`);
      sameBytes(
        await store.getRange(key, 7 * MiB - 1, 5 * MiB),
        bytes.subarray(7 * MiB - 1, 12 * MiB - 1),
        key,
      );
    }
    sameBytes((await store.get("large/pieces")).bytes, bytes, "large/pieces whole");
  });
}

function ranges(test: WithStore): void {
  test("getRange() returns exactly what it was asked for", async (store) => {
    const bytes = pattern(10_000);
    await store.put("r", bytes);
    for (
      const [offset, length] of [[0, 10_000], [0, 1], [9_999, 1], [1, 9_999], [0, 0], [5, 0], [10_000, 0]]
    ) {
      sameBytes(
        await store.getRange("r", offset, length),
        bytes.subarray(offset, offset + length),
        `${offset}`,
      );
    }
    const random = seededRandom("object_store ranges");
    await inParallel(100, 10, async () => {
      const offset = random.int(0, bytes.length);
      const length = random.int(0, bytes.length - offset);
      const got = await store.getRange("r", offset, length);
      sameBytes(got, bytes.subarray(offset, offset + length), `${length} at ${offset}`);
    });
  });

  test("getRange() returns memory of its own", async (store) => {
    await store.put("r", text("abcdef"));
    (await store.getRange("r", 0, 6)).fill(0);
    assert.is(textOf(await store.getRange("r", 0, 6)), "abcdef");
  });

  test("getRange() beyond the end rejects with CorruptionError, never with fewer bytes", async (store) => {
    await store.put("r", pattern(100));
    for (const [offset, length] of [[0, 101], [99, 2], [100, 1], [101, 0], [5_000, 10], [2 ** 40, 8192]]) {
      await assert.rejects(store.getRange("r", offset, length), CorruptionError);
    }
  });

  test("getRange() refuses what is no range", async (store) => {
    await store.put("r", pattern(100));
    for (const [offset, length] of [[-1, 1], [0, -1], [0.5, 1], [0, NaN], [Infinity, 1], [2 ** 53, 1]]) {
      await assert.rejects(store.getRange("r", offset, length), RangeError);
    }
  });
}

function streams(test: WithStore): void {
  test("put() opens a body in pieces and keeps it whole", async (store) => {
    const bytes = pattern(300_000);
    await store.put("s", pieces(bytes, 7_001));
    sameBytes((await store.get("s")).bytes, bytes, "s");
  });

  test("put() keeps a body of unknown size", async (store) => {
    for (const size of [0, 1, 300_000, 17 * MiB + 5]) {
      const bytes = pattern(size);
      const { open } = pieces(bytes) as { open(): AsyncIterable<Uint8Array> };
      await store.put(`unknown/${size}`, { open });
      sameBytes((await store.get(`unknown/${size}`)).bytes, bytes, `${size} bytes`);
      await assert.rejects(
        store.put(`unknown/${size}`, { open }, { condition: { ifAbsent: true } }),
        PreconditionFailedError,
      );
    }
  });

  test("put() of a body that is not as long as announced keeps nothing", async (store) => {
    await store.put("kept", text("before"));
    const lying = (size: number, given: number): ObjectBody => ({ ...pieces(pattern(given), 10_000), size });
    for (const [size, given] of [[50_000, 49_999], [50_000, 60_000], [1, 0], [0, 1]]) {
      await assert.rejects(store.put("lie", lying(size, given)), RangeError);
      await assert.rejects(store.put("kept", lying(size, given)), RangeError);
      await assert.rejects(
        store.put("lie", lying(size, given), { condition: { ifAbsent: true } }),
        RangeError,
      );
    }
    assert.equal(await keysOf(store, ""), ["kept"]);
    assert.is(textOf((await store.get("kept")).bytes), "before");
  });

  test("put() passes the body's own error on and keeps nothing", async (store) => {
    const cause = new VarveError("TEST", "the body broke");
    const body: ObjectBody = {
      size: 200_000,
      async *open() {
        yield pattern(100_000);
        await Promise.resolve();
        throw cause;
      },
    };
    assert.is(await assert.rejects(store.put("broken", body)), cause);
    assert.equal(await keysOf(store, ""), []);
  });

  test("getStream() gives a range, wherever its pieces are cut", async (store) => {
    const bytes = pattern(3 * MiB + 5);
    await store.put("s", bytes);
    const random = seededRandom("object_store streamed ranges");
    const ranges = [[0, bytes.length], [0, 1], [bytes.length - 1, 1], [7, 0], [bytes.length, 0], [
      MiB - 3,
      MiB + 7,
    ]];
    while (ranges.length < 20) {
      const offset = random.int(0, bytes.length);
      ranges.push([offset, random.int(0, bytes.length - offset)]);
    }
    for (const [offset, length] of ranges) {
      const { size, body } = await store.getStream("s", { range: { offset, length } });
      assert.is(size, length);
      sameBytes(await collect(body), bytes.subarray(offset, offset + length), `${length} bytes at ${offset}`);
    }
  });

  test("getStream() of a range beyond the end rejects with CorruptionError", async (store) => {
    await store.put("s", pattern(1000));
    for (const [offset, length] of [[0, 1001], [999, 2], [1000, 1], [5000, 1], [1001, 0]]) {
      await assert.rejects(store.getStream("s", { range: { offset, length } }), CorruptionError);
    }
    await assert.rejects(store.getStream("none", { range: { offset: 0, length: 1 } }), NotFoundError);
    for (const [offset, length] of [[-1, 1], [0, -1], [0.5, 1], [0, NaN]]) {
      await assert.rejects(async () => await store.getStream("s", { range: { offset, length } }), RangeError);
    }
  });

  test("getStream() of a range can be cancelled, and stops with the signal's reason", async (store) => {
    await store.put("s", pattern(8 * MiB));
    const controller = new AbortController();
    const options = { range: { offset: MiB, length: 6 * MiB }, signal: controller.signal };
    const left = (await store.getStream("s", options)).body.getReader();
    assert.not.ok((await left.read()).done);
    await left.cancel();
    const reader = (await store.getStream("s", options)).body.getReader();
    await reader.read();
    const reason = new Error("enough");
    controller.abort(reason);
    assert.is(await assert.rejects(() => readToEnd(reader)), reason);
  });

  test("getStream() can be cancelled after its first piece", async (store) => {
    await store.put("s", pattern(3 * MiB));
    const { body } = await store.getStream("s");
    const reader = body.getReader();
    const { value } = await reader.read();
    assert.ok(value !== undefined && value.length > 0);
    await reader.cancel();
    sameBytes(await store.getRange("s", 0, 10), pattern(10), "after the cancel");
  });

  test("getStream() stops with the signal's reason", async (store) => {
    await store.put("s", pattern(3 * MiB));
    const controller = new AbortController();
    const { body } = await store.getStream("s", { signal: controller.signal });
    const reader = body.getReader();
    await reader.read();
    const reason = new Error("enough");
    controller.abort(reason);
    assert.is(await assert.rejects(() => readToEnd(reader)), reason);
  });
}

function listing(test: WithStore): void {
  const keys = [
    "x-1",
    "x.1",
    "x/1",
    "x/2",
    "x/2-",
    "x/sub/1",
    "x0",
    "xy/1",
    "y/..z",
    "y/000012",
    "y/0x10",
    "y/1e5",
  ];

  test("list() gives every key of a prefix in ascending order", async (store) => {
    for (const [i, key] of [...keys].reverse().entries()) {
      await store.put(key, pattern(i + 1), i % 3 === 0 ? { condition: { ifAbsent: true } } : {});
    }
    assert.equal(await keysOf(store, ""), keys);
    for (const prefix of ["x", "x/", "x/2", "x/s", "x/sub/", "x0", "y/..z", "y/0", "xy/1", "z", "x/none/"]) {
      assert.equal(await keysOf(store, prefix), keys.filter((key) => key.startsWith(prefix)), prefix);
    }
    const infos = await listAll(store, "");
    for (const [i, info] of infos.entries()) {
      assert.is(info.size, keys.length - i, info.key);
      const head = await store.head(info.key);
      assert.equal([head.key, head.size, head.etag], [info.key, info.size, info.etag]);
      assert.ok(Math.abs(head.modifiedMs - info.modifiedMs) < 1000, "to the second, as HTTP has it");
    }
  });

  test("list() understands keys that look like numbers", async (store) => {
    const numeric = ["0", "000012", "0x10", "1.50", "12", "1e5", "Infinity", "null", "true"];
    for (const key of numeric) await store.put(key, text(key));
    assert.equal(await keysOf(store, ""), numeric);
  });

  test("list() pages through more than a thousand keys", async (store) => {
    const count = 1_105;
    const all = Array.from({ length: count }, (_, i) => `many/${String(i * 7).padStart(6, "0")}`);
    await inParallel(count, 16, (i) => store.put(all[i], text(String(i))));
    assert.equal(await keysOf(store, "many/"), all);
    let seen = 0;
    for await (const _ of store.list("many/")) if (++seen === 1_001) break;
    assert.is(seen, 1_001);
  });

  test("list() goes on when objects disappear meanwhile", async (store) => {
    for (let i = 0; i < 100; i++) await store.put(`gone/${1000 + i}`, text("x"));
    const seen: string[] = [];
    for await (const { key } of store.list("gone/")) {
      seen.push(key);
      if (seen.length === 1) { for (let i = 10; i < 100; i++) await store.delete(`gone/${1000 + i}`); }
    }
    assert.equal(seen.slice(0, 10), Array.from({ length: 10 }, (_, i) => `gone/${1000 + i}`));
  });
}

function misuse(test: WithStore): void {
  test("every call refuses what is no key", async (store) => {
    const bad = [
      "",
      "/",
      "/a",
      "a/",
      "a//b",
      ".",
      "..",
      "../a",
      "a/../b",
      "a/./b",
      "a b",
      "a~",
      "~tmp/x",
      "a\\b",
      "ä",
    ];
    for (const key of [...bad, "a\0b", "a\n", "x".repeat(241), "ab/".repeat(400) + "c"]) {
      await assert.rejects(store.put(key, text("x")), TypeError);
      await assert.rejects(store.get(key), TypeError);
      await assert.rejects(store.getRange(key, 0, 1), TypeError);
      await assert.rejects(store.getStream(key), TypeError);
      await assert.rejects(store.head(key), TypeError);
      await assert.rejects(store.delete(key), TypeError);
    }
    for (const prefix of ["/", "../", "a/../", "a//", "a b", "~", "..", "a/."]) {
      await assert.rejects(listAll(store, prefix), TypeError);
    }
  });

  test("every call rejects with the reason of a signal that has fired", async (store) => {
    await store.put("a", text("x"));
    const reason = new Error("not wanted any more");
    const options = { signal: AbortSignal.abort(reason) };
    const list = async () => {
      for await (const _ of store.list("", options));
    };
    const calls = [
      () => store.put("b", text("x"), options),
      () => store.put("b", text("x"), { ...options, condition: { ifAbsent: true } }),
      () => store.get("a", options),
      () => store.getRange("a", 0, 1, options),
      () => store.getStream("a", options),
      () => store.head("a", options),
      () => store.delete("a", options),
      list,
    ];
    for (const call of calls) assert.is(await assert.rejects(call), reason);
    assert.equal(await keysOf(store, ""), ["a"]);
  });

  test("put() that is aborted on its way rejects with the reason and keeps nothing", async (store) => {
    for (const condition of [undefined, { ifAbsent: true as const }]) {
      const controller = new AbortController();
      const reason = new Error("changed my mind");
      const body: ObjectBody = {
        size: 3 * MiB,
        async *open() {
          yield pattern(MiB);
          controller.abort(reason);
          yield pattern(MiB);
          yield pattern(MiB);
        },
      };
      const call = store.put("half", body, { signal: controller.signal, condition });
      assert.is(await assert.rejects(call), reason);
    }
    assert.equal(await keysOf(store, ""), []);
  });

  test("list() that is aborted on its way rejects with the reason", async (store) => {
    for (let i = 0; i < 5; i++) await store.put(`l/${i}`, text("x"));
    const controller = new AbortController();
    const reason = new Error("seen enough");
    const run = async () => {
      for await (const _ of store.list("l/", { signal: controller.signal })) controller.abort(reason);
    };
    assert.is(await assert.rejects(run), reason);
  });

  test("close() may be called again", async (store) => {
    await store.put("a", text("x"));
    await store.close();
    await store.close();
    assert.ok(!store.description.includes("undefined"));
  });
}

async function readToEnd(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  while (!(await reader.read()).done);
}
