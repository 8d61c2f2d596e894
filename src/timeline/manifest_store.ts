/**
 * Reading and committing the manifest: compare-and-swap, writer epochs, guests, answers that were lost.
 *
 * Both paths. A {@linkcode ManifestWriter} is a writer's claim on a timeline: it exists only after its epoch was
 * committed, and the first commit that finds a manifest of another epoch throws {@linkcode FencedError} for good. When
 * `commit` resolves, the manifest is durable.
 *
 * Upkeep in another process (compaction, collection, branches) is a *guest*: {@linkcode updateManifest} replaces exactly
 * the manifest that it has read and leaves the epoch alone, so that it disturbs no writer. A writer that finds a guest's
 * manifest makes its change to that one. A change therefore is a function of the manifest that it changes, and may be
 * called again on one that has the change already: it must be idempotent.
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
import { type Manifest, type ManifestStart, startManifest } from "./manifest.ts";
import { decodeManifest, encodeManifest } from "./manifest_json.ts";
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
  Omit<Manifest, "timeline" | "facts" | "epoch" | "commitId" | "claimId" | "committedAtMs">
>;

/** Makes the change out of the manifest that it will change; called again when another commit came in between. */
export type ManifestEdit = (current: Manifest) => ManifestChange;

/** See the module's description. Commits of one writer are made one after another, in the order of their calls. */
export class ManifestWriter {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  #current: StoredManifest;
  #fenced = false;
  /**
   * Told of every manifest that is in force from now on.
   *
   * @param isGuest It has changes that others have made.
   */
  onCommit?: (manifest: Manifest, isGuest: boolean) => void;
  #lastCommit: Promise<unknown> = Promise.resolve();

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
    start: ManifestStart,
    signal?: AbortSignal,
  ): Promise<ManifestWriter> {
    const next = { ...startManifest(start), epoch: 1, ...makeClaim(clock) };
    try {
      const etag = await putManifest(store, next, undefined, signal);
      return new ManifestWriter(store, clock, { manifest: next, etag });
    } catch (error) {
      if (!(error instanceof UnavailableError || error instanceof FencedError)) throw error;
      const stored = await readManifest(store, next.timeline, signal);
      if (stored?.manifest.claimId !== next.claimId) throw error;
      return new ManifestWriter(store, clock, stored!);
    }
  }

  /**
   * Takes over an existing timeline: commits the next epoch, which fences the previous writer. As long as that one goes
   * on committing, what it commits is taken over too.
   *
   * @param change Tells what else the same commit changes of the manifest that it replaces.
   * @throws {FencedError} If another writer takes over at the same time and wins.
   * @throws {UnavailableError} If the store did not answer; whether the claim happened is not known.
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
        ...makeClaim(clock),
      };
      try {
        const etag = await putManifest(store, next, seen.etag, signal);
        return new ManifestWriter(store, clock, { manifest: next, etag });
      } catch (error) {
        if (!(error instanceof UnavailableError || error instanceof FencedError)) throw error;
        const stored = await readManifest(store, next.timeline, signal);
        // It happened, though nobody said so; guests may have put theirs on top.
        if (stored?.manifest.claimId === next.claimId) return new ManifestWriter(store, clock, stored!);
        if (error instanceof UnavailableError) throw error;
        // The previous writer's commit came in between: it is not fenced yet, and neither are we.
        if (
          stored === undefined || stored.manifest.epoch !== seen.manifest.epoch || stored.etag === seen.etag
        ) throw error;
        seen = stored;
      }
    }
  }

  /**
   * Changes the manifest. Durable when it resolves.
   *
   * @param change What to change; a function, if it depends on what is there.
   * @throws {FencedError} If another writer has taken over; this writer can never commit again.
   * @throws {UnavailableError} If the store did not answer; nothing is known, the same commit may be tried again.
   */
  commit(change: ManifestChange | ManifestEdit, signal?: AbortSignal): Promise<Manifest> {
    const edit = typeof change === "function" ? change : () => change;
    const commit = this.#lastCommit.then(() => this.#commit(edit, signal));
    this.#lastCommit = commit.catch(() => {});
    return commit;
  }

  /**
   * The manifest with what guests have changed since the last commit.
   *
   * @throws {FencedError} If another writer has taken over; this writer can never commit again.
   */
  refresh(signal?: AbortSignal): Promise<Manifest> {
    const refresh = this.#lastCommit.then(async () => {
      if (this.#fenced) throw fenced(this.#current.manifest.timeline);
      const { timeline } = this.#current.manifest;
      const stored = await readManifest(this.#store, timeline, signal);
      if (stored === undefined || !isOfSameClaim(stored.manifest, this.#current.manifest)) {
        this.#fenced = true;
        throw fenced(timeline, stored?.manifest);
      }
      if (stored.etag !== this.#current.etag) {
        this.#current = stored;
        this.onCommit?.(stored.manifest, true);
      }
      return this.#current.manifest;
    });
    this.#lastCommit = refresh.catch(() => {});
    return refresh;
  }

  async #commit(edit: ManifestEdit, signal?: AbortSignal): Promise<Manifest> {
    if (this.#fenced) throw fenced(this.#current.manifest.timeline);
    for (;;) {
      signal?.throwIfAborted();
      const next: Manifest = {
        ...this.#current.manifest,
        ...edit(this.#current.manifest),
        commitId: makeCommitId(this.#clock),
        committedAtMs: this.#clock.now(),
      };
      try {
        const etag = await putManifest(this.#store, next, this.#current.etag, signal);
        this.#current = { manifest: next, etag };
        this.onCommit?.(next, false);
        break;
      } catch (error) {
        if (!(error instanceof UnavailableError || error instanceof FencedError)) throw error;
        const adopted = await this.#adoptOwnEpoch(signal);
        if (adopted !== undefined) this.onCommit?.(adopted, adopted.commitId !== next.commitId);
        if (adopted?.commitId === next.commitId) break;
        if (error instanceof UnavailableError) throw error;
        // What is in the way may be a guest's, or an earlier try of ours, of which we did not know that it happened.
        if (adopted === undefined) {
          this.#fenced = true;
          throw error;
        }
      }
    }
    return this.#current.manifest;
  }

  /**
   * If what the store holds is of this writer's epoch, it is the manifest from now on, and is returned: a write of ours
   * that was not answered, or a guest's. If that cannot be learnt now, the caller tries again.
   */
  async #adoptOwnEpoch(signal?: AbortSignal): Promise<Manifest | undefined> {
    const { timeline } = this.#current.manifest;
    const stored = await readManifest(this.#store, timeline, signal);
    if (stored === undefined || !isOfSameClaim(stored.manifest, this.#current.manifest)) return undefined;
    if (stored.etag === this.#current.etag) return undefined;
    this.#current = stored;
    return stored.manifest;
  }
}

/**
 * Changes the manifest as a guest: the epoch stays, and with it the writer, who goes on with what is written here. Durable
 * when it resolves.
 *
 * @param edit Called again when another commit came in between. It may throw to give up, say, because the epoch is not
 *   the one under which it has made layers: a layer of an epoch that is over may be collected as an orphan at any time.
 * @throws {NotFoundError} If there is no such timeline.
 * @throws {UnavailableError} If the store did not answer; whether the change happened is not known.
 */
export async function updateManifest(
  store: ObjectStore,
  clock: Clock,
  timeline: string,
  edit: ManifestEdit,
  signal?: AbortSignal,
): Promise<Manifest> {
  for (;;) {
    signal?.throwIfAborted();
    const stored = await readManifest(store, timeline, signal);
    if (stored === undefined) {
      throw new NotFoundError(
        `Cannot change timeline "${timeline}": ${store.description} has none of that name`,
      );
    }
    const next: Manifest = {
      ...stored.manifest,
      ...edit(stored.manifest),
      commitId: makeCommitId(clock),
      committedAtMs: clock.now(),
    };
    try {
      await putManifest(store, next, stored.etag, signal);
      return next;
    } catch (error) {
      if (!(error instanceof FencedError)) throw error;
    }
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

/**
 * Whether one writer's claim is what both manifests rest on. A timeline that was deleted and made anew under its name counts
 * its epochs from the start: the epoch alone does not tell.
 */
export function isOfSameClaim(left: Manifest, right: Manifest): boolean {
  if (left.epoch !== right.epoch) return false;
  return left.claimId === undefined || right.claimId === undefined || left.claimId === right.claimId;
}

/** What a commit that claims a timeline is known by. */
function makeClaim(clock: Clock): Pick<Manifest, "commitId" | "claimId" | "committedAtMs"> {
  const commitId = makeCommitId(clock);
  return { commitId, claimId: commitId, committedAtMs: clock.now() };
}

function makeCommitId(clock: Clock): string {
  const word = () => Math.floor(clock.random() * 0x1_0000_0000).toString(16).padStart(8, "0");
  return word() + word() + word() + word();
}
