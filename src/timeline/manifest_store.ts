/**
 * Reading and committing the manifest: compare-and-swap, writer epochs, answers that were lost.
 *
 * Both paths. A {@linkcode ManifestWriter} is a writer's claim on a timeline: it exists only after its epoch was
 * committed, every further commit replaces exactly the manifest it committed before, and the first commit that finds
 * another one there throws {@linkcode FencedError} for good. When `commit` resolves, the manifest is durable.
 *
 * @module
 */
import {
  FencedError,
  NotFoundError,
  PreconditionFailedError,
  UnavailableError,
  type VarveError,
} from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { Etag, ObjectStore } from "../ports/object_store.ts";
import { decodeManifest, encodeManifest, type Manifest } from "./manifest.ts";
import { manifestKey } from "./object_keys.ts";

/** A manifest with the version of the object it was read from. */
export interface StoredManifest {
  readonly manifest: Manifest;
  readonly etag: Etag;
}

/** The current manifest, or undefined if the timeline does not exist. */
export async function readManifest(
  store: ObjectStore,
  timeline: string,
  signal?: AbortSignal,
): Promise<StoredManifest | undefined> {
  const key = manifestKey(timeline);
  try {
    const { bytes, etag } = await store.get(key, { signal });
    return { manifest: decodeManifest(bytes, key), etag };
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** What a commit changes; the rest stays. */
export type ManifestChange = Partial<
  Omit<Manifest, "timeline" | "facts" | "epoch" | "commitId" | "committedAtMs">
>;

/** See the module's description. Calls of `commit` are made one after another by their only user, the flush. */
export class ManifestWriter {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  #current: StoredManifest;
  #fenced = false;
  /** Ids of commits that were not answered: any of them may be what the store holds. */
  readonly #unanswered = new Set<string>();

  private constructor(store: ObjectStore, clock: Clock, current: StoredManifest) {
    this.#store = store;
    this.#clock = clock;
    this.#current = current;
  }

  /** The manifest as this writer last committed it. */
  get manifest(): Manifest {
    return this.#current.manifest;
  }

  /**
   * Creates a timeline.
   *
   * @throws {FencedError} If it exists already.
   */
  static async create(
    store: ObjectStore,
    clock: Clock,
    manifest: Omit<Manifest, "epoch" | "commitId" | "committedAtMs">,
    signal?: AbortSignal,
  ): Promise<ManifestWriter> {
    const next = { ...manifest, epoch: 1, commitId: makeCommitId(clock), committedAtMs: clock.now() };
    const etag = await putManifest(store, next, undefined, signal);
    return new ManifestWriter(store, clock, { manifest: next, etag });
  }

  /**
   * Takes over an existing timeline: commits the next epoch, which fences the previous writer. As long as that one goes
   * on committing, what it commits is taken over too.
   *
   * @param change Tells what else the same commit changes of the manifest that it replaces.
   * @throws {FencedError} If another writer takes over at the same time and wins.
   */
  static async claim(
    store: ObjectStore,
    clock: Clock,
    current: StoredManifest,
    signal?: AbortSignal,
    change?: (manifest: Manifest) => Promise<ManifestChange>,
  ): Promise<ManifestWriter> {
    for (let seen = current;;) {
      const next = {
        ...seen.manifest,
        ...await change?.(seen.manifest),
        epoch: seen.manifest.epoch + 1,
        commitId: makeCommitId(clock),
        committedAtMs: clock.now(),
      };
      try {
        const etag = await putManifest(store, next, seen.etag, signal);
        return new ManifestWriter(store, clock, { manifest: next, etag });
      } catch (error) {
        if (!(error instanceof FencedError)) throw error;
        const stored = await readManifest(store, next.timeline, signal);
        // The previous writer's commit came in between: it is not fenced yet, and neither are we.
        if (
          stored === undefined || stored.manifest.epoch !== seen.manifest.epoch || stored.etag === seen.etag
        ) throw error;
        seen = stored;
      }
    }
  }

  /**
   * Replaces the manifest. Durable when it resolves.
   *
   * @throws {FencedError} If another writer has taken over; this writer can never commit again.
   * @throws {UnavailableError} If the store did not answer; nothing is known, the same commit may be tried again.
   */
  async commit(change: ManifestChange, signal?: AbortSignal): Promise<Manifest> {
    if (this.#fenced) throw fenced(this.#current.manifest.timeline);
    const next: Manifest = {
      ...this.#current.manifest,
      ...change,
      commitId: makeCommitId(this.#clock),
      committedAtMs: this.#clock.now(),
    };
    for (;;) {
      try {
        const etag = await putManifest(this.#store, next, this.#current.etag, signal);
        this.#current = { manifest: next, etag };
        break;
      } catch (error) {
        if (error instanceof UnavailableError) this.#unanswered.add(next.commitId);
        else if (!(error instanceof FencedError)) throw error;
        const adopted = await this.#adoptOwnLostCommit(signal);
        if (adopted === next.commitId) break;
        if (error instanceof UnavailableError) throw error;
        // What is in the way may be an earlier try of ours, of which we did not know that it happened.
        if (adopted === undefined) {
          this.#fenced = true;
          throw error;
        }
      }
    }
    this.#unanswered.clear();
    return next;
  }

  /**
   * If the store holds an unanswered write, it happened: that is the manifest from now on, and its id is returned. If
   * that cannot be learnt now, the caller tries again.
   */
  async #adoptOwnLostCommit(signal?: AbortSignal): Promise<string | undefined> {
    if (this.#unanswered.size === 0) return undefined;
    const stored = await readManifest(this.#store, this.#current.manifest.timeline, signal);
    if (stored === undefined || !this.#unanswered.delete(stored.manifest.commitId)) return undefined;
    this.#current = stored;
    return stored.manifest.commitId;
  }
}

/** Conditional write of a manifest; tells an unlucky writer from a lost answer by the commit id. */
async function putManifest(
  store: ObjectStore,
  manifest: Manifest,
  previous: Etag | undefined,
  signal?: AbortSignal,
): Promise<Etag> {
  const key = manifestKey(manifest.timeline);
  try {
    const condition = previous === undefined ? { ifAbsent: true as const } : { ifMatch: previous };
    return (await store.put(key, encodeManifest(manifest), { condition, signal })).etag;
  } catch (error) {
    if (!(error instanceof PreconditionFailedError)) throw error;
    const stored = await readManifest(store, manifest.timeline, signal);
    if (stored?.manifest.commitId === manifest.commitId) return stored.etag;
    throw fenced(manifest.timeline, stored?.manifest, error);
  }
}

function fenced(timeline: string, holder?: Manifest, cause?: VarveError): FencedError {
  const by = holder === undefined
    ? ""
    : `: epoch ${holder.epoch} was committed at ${new Date(holder.committedAtMs).toISOString()}`;
  return new FencedError(`Cannot commit to timeline "${timeline}": another writer has taken over${by}`, {
    cause,
    hint: "Only one follower may write a timeline. Stop one of them; nothing that was acknowledged is lost.",
  });
}

function makeCommitId(clock: Clock): string {
  const word = () => Math.floor(clock.random() * 0x1_0000_0000).toString(16).padStart(8, "0");
  return word() + word() + word() + word();
}
