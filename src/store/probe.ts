/**
 * A start-up test of the one thing that a store must not pretend: conditional writes. A writer is fenced off by
 * compare-and-swap; on a store that ignores conditions two writers would silently destroy each other's history.
 *
 * @module
 */
import { PreconditionFailedError, UnsupportedError, VarveError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObjectStore, PutCondition } from "../ports/object_store.ts";

const HINT = "Use a store with conditional writes (If-None-Match and If-Match on PUT): MinIO, Amazon S3, " +
  "Cloudflare R2, SeaweedFS or a directory.";

/**
 * Writes a small object `<prefix>probe-<random>` in all four ways and removes it. Resolves when the store keeps every
 * condition.
 *
 * @param prefix Empty, or ending in a slash.
 * @throws {VarveError} Code `STORE_UNSAFE`: the store ignores conditions, or refuses ones that are met.
 */
export async function probeConditionalWrites(
  store: ObjectStore,
  prefix: string,
  clock: Clock,
  signal?: AbortSignal,
): Promise<void> {
  const key = `${prefix}probe-${Math.floor(clock.random() * 2 ** 48).toString(16).padStart(12, "0")}`;
  let writes = 0;
  const write = (condition: PutCondition) =>
    store.put(key, new TextEncoder().encode(`varve probe, write ${++writes}\n`), { condition, signal });
  try {
    const first = await mustWork(
      store,
      "create an object that does not exist",
      () => write({ ifAbsent: true }),
    );
    await mustFail(store, "create an object that exists already", () => write({ ifAbsent: true }));
    const current = { ifMatch: first.etag };
    await mustWork(store, "replace the version that is current", () => write(current));
    await mustFail(store, "replace a version that is no longer current", () => write(current));
  } finally {
    // Without the signal: what was written goes, also when the probe was interrupted.
    await store.delete(key);
  }
}

async function mustWork<T>(store: ObjectStore, what: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    if (!(error instanceof PreconditionFailedError) && !(error instanceof UnsupportedError)) throw error;
    throw new VarveError("STORE_UNSAFE", `Cannot use ${store.description}: it refuses to ${what}`, {
      cause: error,
      hint: HINT,
    });
  }
}

async function mustFail(store: ObjectStore, what: string, write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (error instanceof PreconditionFailedError) return;
    if (!(error instanceof UnsupportedError)) throw error;
  }
  throw new VarveError("STORE_UNSAFE", `Cannot use ${store.description}: it does not refuse to ${what}`, {
    hint: HINT,
  });
}
