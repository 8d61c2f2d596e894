/** The start-up test of conditional writes, against stores that lie. */
import { systemClock } from "../../src/deps/system_clock.ts";
import { PreconditionFailedError, UnavailableError, UnsupportedError, VarveError } from "../../src/errors.ts";
import type { ObjectBody, PutOptions } from "../../src/ports/object_store.ts";
import { FilesStore } from "../../src/store/files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { probeConditionalWrites } from "../../src/store/probe.ts";
import { assert, suite } from "../support/harness.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { keysOf, text } from "../suites/object_store_helpers.ts";

const test = suite("store/probe");

/** A store in memory that treats conditions as `put` says. */
class Lying extends MemoryStore {
  readonly #change: (options: PutOptions) => PutOptions;

  constructor(change: (options: PutOptions) => PutOptions) {
    super();
    this.#change = change;
  }

  override put(key: string, body: ObjectBody, options: PutOptions = {}) {
    return super.put(key, body, this.#change(options));
  }
}

const isIfMatch = ({ condition }: PutOptions) => condition !== undefined && "ifMatch" in condition;

async function probeFails(store: MemoryStore): Promise<VarveError> {
  await store.put("timelines/x", text("kept"));
  const error = await assert.rejects<VarveError>(
    probeConditionalWrites(store, "probes/", systemClock),
    VarveError,
  );
  assert.equal(await keysOf(store, ""), ["timelines/x"], "the probe cleans up");
  return error;
}

test("probeConditionalWrites() accepts stores that keep conditions, and leaves nothing", async () => {
  const memory = new MemoryStore();
  await probeConditionalWrites(memory, "probes/", systemClock);
  assert.equal(await keysOf(memory, ""), []);
  await using directory = await temporaryDirectory("probe");
  const files = await FilesStore.open({ path: directory.path, fsync: false });
  await probeConditionalWrites(files, "", systemClock);
  assert.equal(await keysOf(files, ""), []);
  await files.close();
});

test("probeConditionalWrites() rejects a store that ignores conditions", async () => {
  const error = await probeFails(new Lying(() => ({})));
  assert.is(error.code, "STORE_UNSAFE");
  assert.match(error.message, /does not refuse to create an object that exists already/);
  assert.match(error.hint!, /conditional writes/);
});

test("probeConditionalWrites() rejects a store that ignores If-Match only", async () => {
  const error = await probeFails(new Lying((options) => isIfMatch(options) ? {} : options));
  assert.is(error.code, "STORE_UNSAFE");
  assert.match(error.message, /does not refuse to replace a version that is no longer current/);
});

test("probeConditionalWrites() rejects a store that refuses what it should accept", async () => {
  const refusing = (error: Error) =>
    new Lying((options) => {
      if (isIfMatch(options)) throw error;
      return options;
    });
  for (const cause of [new PreconditionFailedError("no"), new UnsupportedError("no If-Match here")]) {
    const error = await probeFails(refusing(cause));
    assert.is(error.code, "STORE_UNSAFE");
    assert.match(error.message, /refuses to replace the version that is current/);
    assert.is(error.cause, cause);
  }
});

test("probeConditionalWrites() passes other errors on: they say nothing about safety", async () => {
  const down = new UnavailableError("down");
  const error = await probeFails(
    new Lying((options) => {
      if (options.condition !== undefined) throw down;
      return options;
    }),
  );
  assert.is(error, down);
});

test.run();
