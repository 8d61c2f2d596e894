/**
 * A timeline in a store, written record by record without a server: ingest, memory layers, flush, manifest, reads.
 *
 * @module
 */
import type { Lsn } from "../../src/lsn.ts";
import type { LocalLayers } from "../../src/ports/local_layers.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { ClusterState } from "../../src/postgres/effects/cluster_state.ts";
import { databaseContent } from "../../src/read/database_content.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { ManifestWriter, readManifest } from "../../src/timeline/manifest_store.ts";
import { type AttachedTimeline, loadWriterState, openTimeline } from "../../src/read/attach.ts";
import { Flusher, type FlusherOptions } from "../../src/write/flush.ts";
import { WalIngest } from "../../src/write/ingest.ts";
import { batchOf, DB, SPC, TEST_MAJOR } from "./made_wal.ts";
import { ManualClock } from "./manual_clock.ts";
import { SeededRandom } from "./random.ts";

/** Where tests' history begins: a multiple of 8, above 4 GiB. */
export const TEST_START = 0x1_0200_0028 as Lsn;

export const TEST_FACTS = {
  systemId: "7711025841440774759",
  major: TEST_MAJOR,
  walSegmentSize: 16 * 1024 * 1024,
  blockSize: 8192,
  dataChecksums: false,
  walLogHints: false,
};

/** A manifest of a timeline that has nothing yet. */
export function emptyManifest(timeline = "main") {
  return {
    timeline,
    facts: TEST_FACTS,
    tli: 1,
    startLsn: TEST_START,
    consistentLsn: TEST_START,
    diskConsistentLsn: TEST_START,
    layers: [],
  };
}

export interface WrittenTimelineOptions {
  /** Of the timeline. Default `main`. */
  name?: string;
  store?: ObjectStore;
  clock?: ManualClock;
  local?: LocalLayers;
  flusher?: Partial<FlusherOptions>;
}

/** See the module's description. */
export class WrittenTimeline {
  readonly attached: AttachedTimeline;
  readonly store: ObjectStore;
  readonly clock: ManualClock;
  readonly manifest: ManifestWriter;
  readonly flusher: Flusher;
  readonly ingest: WalIngest;
  /** Called before each modification is taken in. */
  beforeAppend: () => void = () => {};

  private constructor(
    attached: AttachedTimeline,
    manifest: ManifestWriter,
    state: ClusterState,
    options: WrittenTimelineOptions & { store: ObjectStore; clock: ManualClock },
  ) {
    this.attached = attached;
    this.manifest = manifest;
    this.store = options.store;
    this.clock = options.clock;
    const { timeline, reader, files } = attached;
    this.flusher = new Flusher({
      timeline,
      manifest,
      store: options.store,
      clock: options.clock,
      local: options.local,
      onResident: files.noteResident.bind(files),
      ...options.flusher,
    });
    this.ingest = new WalIngest({
      timeline,
      state,
      readDatabase: (spc, db, lsn, signal) => databaseContent(reader, spc, db, lsn, signal),
    });
  }

  /** Makes the timeline, or takes it over where it exists. */
  static async open(options: WrittenTimelineOptions = {}): Promise<WrittenTimeline> {
    const { store = new MemoryStore(), clock = new ManualClock(), local, name = "main" } = options;
    const stored = await readManifest(store, name);
    const random = new SeededRandom(stored?.manifest.epoch ?? 0);
    clock.random = () => random.float();
    const manifest = stored === undefined
      ? await ManifestWriter.create(store, clock, emptyManifest(name))
      : await ManifestWriter.claim(store, clock, stored);
    const attached = await openTimeline(manifest.manifest, { store, clock, local, writer: manifest });
    const isNew = manifest.manifest.diskConsistentLsn === TEST_START;
    const state = isNew ? new ClusterState() : await loadWriterState(attached);
    return new WrittenTimeline(attached, manifest, state, { ...options, store, clock });
  }

  get timeline() {
    return this.attached.timeline;
  }
  get reader() {
    return this.attached.reader;
  }

  /** Takes in records and returns where each ends. */
  async write(...records: Uint8Array[]): Promise<Lsn[]> {
    const batch = batchOf(this.timeline.lastRecordLsn, records);
    for await (const modification of this.ingest.ingest(batch)) {
      this.beforeAppend();
      this.timeline.append(modification);
    }
    return [...batch.endLsns] as Lsn[];
  }

  /** Takes in one record. */
  async writeOne(record: Uint8Array): Promise<Lsn> {
    return (await this.write(record))[0];
  }

  /** Everything taken in becomes durable. */
  async flush(): Promise<void> {
    this.flusher.start();
    await this.flusher.flushAll();
  }

  page(
    rel: number,
    block: number,
    at: Lsn = this.timeline.lastRecordLsn,
    fork = 0,
    db = DB,
  ): Promise<Uint8Array> {
    return this.reader.getPage({ spc: SPC, db, rel }, fork, block, at);
  }

  size(rel: number, at: Lsn = this.timeline.lastRecordLsn, fork = 0, db = DB): Promise<number | undefined> {
    return this.reader.relationSize({ spc: SPC, db, rel }, fork, at);
  }

  async close(): Promise<void> {
    await this.flusher.stop();
    await this.attached.close();
  }
}
