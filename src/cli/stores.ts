/**
 * Stores for verbs: opened by URL, counted, tried again, and probed before anything is written.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { NotFoundError } from "../errors.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { measured, type StoreCall } from "../store/measured.ts";
import { openStore, parseStoreUrl } from "../store/open.ts";
import { probeConditionalWrites } from "../store/probe.ts";
import { retrying } from "../store/retrying.ts";
import { withSharedCredentials } from "./credentials.ts";
import type { VerbContext } from "./verb.ts";

/** A person or a supervisor waits for the first answer: tell soon that there is none. */
const IMPATIENT = { attempts: 5, totalMs: 10_000 };

/** Requests and bytes so far. */
export interface StoreTally {
  requests: number;
  bytesWritten: number;
  bytesRead: number;
}

/** A store and what it was asked. */
export interface OpenedStore {
  readonly store: ObjectStore;
  readonly tally: StoreTally;
}

/**
 * Opens a store for reading.
 *
 * @throws {NotFoundError} If its directory does not exist: one that is written to would be made.
 */
export async function openForReading(url: string, context: VerbContext): Promise<OpenedStore> {
  const { clock, reporter } = context;
  const location = parseStoreUrl(url);
  if (location.kind === "files" && !(await exists(location.path))) {
    throw new NotFoundError(`Cannot open the store ${url}: there is no such directory`, {
      hint: "Check the path; `varve follow` or `varve import` makes one.",
    });
  }
  const { counted, tally } = await openCounted(url, context);
  return { store: retrying(counted, { clock, onEvent: reporter.onEvent, ...IMPATIENT }), tally };
}

/**
 * Opens a store for writing, once it has shown that it answers and keeps conditions.
 *
 * @param onCall Told of every request.
 */
export async function openForWriting(
  url: string,
  context: VerbContext,
  onCall?: (call: StoreCall) => void,
  signal?: AbortSignal,
): Promise<OpenedStore> {
  const { clock, reporter } = context;
  const { counted, tally } = await openCounted(url, context, onCall);
  const options = { clock, onEvent: reporter.onEvent };
  try {
    await probeConditionalWrites(retrying(counted, { ...options, ...IMPATIENT }), "", clock, signal);
  } catch (error) {
    await counted.close();
    throw error;
  }
  return { store: retrying(counted, options), tally };
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ENOENT"; // whatever else it is, the store will say
  }
}

async function openCounted(url: string, context: VerbContext, onCall?: (call: StoreCall) => void) {
  const { clock, env } = context;
  const isS3 = /^s3:/i.test(url);
  const store = await openStore(url, isS3 ? await withSharedCredentials(env) : env, { clock });
  const tally: StoreTally = { requests: 0, bytesWritten: 0, bytesRead: 0 };
  const counted = measured(store, clock, (call) => {
    tally.requests++;
    if (call.operation === "put") tally.bytesWritten += call.bytes;
    else tally.bytesRead += call.bytes;
    onCall?.(call);
  });
  return { counted, tally };
}
