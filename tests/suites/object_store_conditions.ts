/**
 * The behaviours of object stores that have to do with conditional writes: alone and in races.
 *
 * @module
 */
import { NotFoundError, PreconditionFailedError } from "../../src/errors.ts";
import { assert } from "../support/harness.ts";
import {
  collect,
  inParallel,
  keysOf,
  MiB,
  pattern,
  pieces,
  sameBytes,
  text,
  textOf,
  winners,
  type WithStore,
} from "./object_store_helpers.ts";

/** One writer after another. */
export function conditions(test: WithStore): void {
  test("put() with ifAbsent creates and never replaces", async (store) => {
    const { etag } = await store.put("c/x", text("one"), { condition: { ifAbsent: true } });
    await assert.rejects(
      store.put("c/x", text("two"), { condition: { ifAbsent: true } }),
      PreconditionFailedError,
    );
    assert.is(textOf((await store.get("c/x")).bytes), "one");
    assert.is((await store.head("c/x")).etag, etag);
    await store.put("plain", text("one"));
    await assert.rejects(
      store.put("plain", text("two"), { condition: { ifAbsent: true } }),
      PreconditionFailedError,
    );
    assert.is(textOf((await store.get("plain")).bytes), "one");
  });

  test("put() with ifMatch replaces only that version", async (store) => {
    const one = await store.put("c/x", text("one"), { condition: { ifAbsent: true } });
    const two = await store.put("c/x", text("two"), { condition: { ifMatch: one.etag } });
    await assert.rejects(
      store.put("c/x", text("bad"), { condition: { ifMatch: one.etag } }),
      PreconditionFailedError,
    );
    const three = await store.put("c/x", text("three"), { condition: { ifMatch: two.etag } });
    assert.is(new Set([one.etag, two.etag, three.etag]).size, 3);
    assert.is(textOf((await store.get("c/x")).bytes), "three");
    assert.is(textOf(await store.getRange("c/x", 1, 4)), "hree");
  });

  test("put() with ifMatch rejects where there is nothing to match", async (store) => {
    const { etag } = await store.put("c/other", text("one"));
    await assert.rejects(
      store.put("c/x", text("bad"), { condition: { ifMatch: etag } }),
      PreconditionFailedError,
    );
    await store.delete("c/other");
    await assert.rejects(
      store.put("c/other", text("bad"), { condition: { ifMatch: etag } }),
      PreconditionFailedError,
    );
    assert.equal(await keysOf(store, ""), []);
  });

  test("an object that was deleted and created anew does not match its former version", async (store) => {
    const old = await store.put("c/x", text("old"), { condition: { ifAbsent: true } });
    await store.delete("c/x");
    await store.put("c/x", text("new"), { condition: { ifAbsent: true } });
    await assert.rejects(
      store.put("c/x", text("bad"), { condition: { ifMatch: old.etag } }),
      PreconditionFailedError,
    );
    assert.is(textOf((await store.get("c/x")).bytes), "new");
  });

  test("writes with and without a condition may follow each other", async (store) => {
    const plain = await store.put("mixed", text("plain"));
    const matched = await store.put("mixed", text("matched"), { condition: { ifMatch: plain.etag } });
    assert.equal(await keysOf(store, ""), ["mixed"]);
    const replaced = await store.put("mixed", text("replaced"));
    assert.is(textOf((await store.get("mixed")).bytes), "replaced");
    for (const { etag } of [plain, matched]) {
      await assert.rejects(
        store.put("mixed", text("bad"), { condition: { ifMatch: etag } }),
        PreconditionFailedError,
      );
    }
    await store.put("mixed", text("last"), { condition: { ifMatch: replaced.etag } });
    assert.is(textOf((await store.get("mixed")).bytes), "last");
    await store.delete("mixed");
    await assert.rejects(store.get("mixed"), NotFoundError);
    assert.equal(await keysOf(store, ""), []);
    await store.put("mixed", text("again"));
    assert.is(textOf((await store.get("mixed")).bytes), "again");
  });

  test("put() of pieces takes a condition, too", async (store) => {
    const bytes = pattern(2 * MiB + 1);
    const { etag } = await store.put("p", pieces(bytes), { condition: { ifAbsent: true } });
    await assert.rejects(
      store.put("p", pieces(bytes), { condition: { ifAbsent: true } }),
      PreconditionFailedError,
    );
    await store.put("p", pieces(bytes.subarray(0, MiB)), { condition: { ifMatch: etag } });
    sameBytes((await store.get("p")).bytes, bytes.subarray(0, MiB), "p");
  });
}

/** Many at the same time. */
export function races(test: WithStore): void {
  test("of twenty writers with ifAbsent exactly one wins", async (store) => {
    for (let round = 0; round < 3; round++) {
      const key = `race/${round}`;
      const calls = Array.from(
        { length: 20 },
        (_, i) => store.put(key, text(`writer ${i}`), { condition: { ifAbsent: true } }),
      );
      const won = await winners(calls);
      assert.is(won.length, 1);
      const { bytes, etag } = await store.get(key);
      assert.is(textOf(bytes), `writer ${won[0].index}`);
      assert.is(etag, won[0].value.etag);
    }
  });

  test("of twenty writers with the same ifMatch exactly one wins", async (store) => {
    let { etag } = await store.put("race", text("start"), { condition: { ifAbsent: true } });
    for (let round = 0; round < 3; round++) {
      const condition = { ifMatch: etag };
      const calls = Array.from(
        { length: 20 },
        (_, i) => store.put("race", text(`${round}/${i}`), { condition }),
      );
      const won = await winners(calls);
      assert.is(won.length, 1);
      assert.is(textOf((await store.get("race")).bytes), `${round}/${won[0].index}`);
      etag = won[0].value.etag;
    }
  });

  test("a counter under compare-and-swap loses no increment", async (store) => {
    await store.put("counter", text("0"), { condition: { ifAbsent: true } });
    const [workers, increments] = [6, 8];
    await inParallel(workers, workers, async () => {
      for (let done = 0; done < increments;) {
        const { bytes, etag } = await store.get("counter");
        const next = text(String(Number(textOf(bytes)) + 1));
        done += (await winners([store.put("counter", next, { condition: { ifMatch: etag } })])).length;
      }
    });
    assert.is(textOf((await store.get("counter")).bytes), String(workers * increments));
  });

  test("a reader of an object that is being replaced sees one version whole", async (store) => {
    const size = 300_000;
    const version = (fill: number) => new Uint8Array(size - fill * 1000).fill(fill);
    await store.put("flux", version(0));
    let writing = true;
    const writer = (async () => {
      for (let fill = 1; fill <= 30; fill++) {
        await store.put("flux", fill % 2 ? version(fill) : pieces(version(fill)));
      }
      writing = false;
    })();
    let reads = 0;
    const reader = async (read: () => Promise<Uint8Array>) => {
      do {
        const bytes = await read();
        sameBytes(bytes, version(bytes[0]), "a read during a replacement");
        reads++;
      } while (writing);
    };
    await Promise.all([
      writer,
      reader(async () => (await store.get("flux")).bytes),
      reader(async () => await collect((await store.getStream("flux")).body)),
    ]);
    assert.ok(reads >= 2);
    sameBytes((await store.get("flux")).bytes, version(30), "the last version");
  });
}
