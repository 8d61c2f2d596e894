/**
 * A timeline in this process: where the two paths meet. State, not algorithms.
 *
 * The write path appends modifications and swaps frozen memory layers for layer files; the read path takes a
 * {@linkcode TimelineView} and works on that. A view is consistent for ever: appending adds only newer versions, and what
 * a flush or compaction replaces stays readable to those who hold it.
 *
 * Positions, always `remoteConsistentLsn <= lastRecordLsn`:
 * - `lastRecordLsn`: end of the last record taken in; pages can be read up to here.
 * - `remoteConsistentLsn`: all WAL up to here is in layers that the committed manifest names.
 * - `diskConsistentLsn`: all WAL up to here is in layers on this machine's disk, or in the store: at or beyond the former.
 *
 * @module
 */
import type { ByteArena } from "../bytes/arena.ts";
import type { Lsn } from "../lsn.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LayerMap } from "../layer/layer_map.ts";
import { MemoryLayer } from "../layer/memory_layer.ts";
import type { Modification } from "../layer/modification.ts";
import { SpaceTable } from "../layer/space_table.ts";
import type { ClusterFacts } from "./facts.ts";
import { SizeTable } from "./sizes.ts";
import { TimeTable } from "./time_table.ts";
import { LsnGate } from "./wait.ts";

/** The layers of a timeline that this one is a branch of, directly or not. */
export interface AncestorLayers {
  readonly timeline: string;
  /** Entries above do not count. */
  readonly lsn: Lsn;
  readonly layers: LayerMap;
}

/** What a read works on: memory layers newest first, and the layer files below them. */
export interface TimelineView {
  readonly memory: readonly MemoryLayer[];
  readonly layers: LayerMap;
  /** Reads are possible in `[floorLsn, lastRecordLsn]`, and at what is held below. */
  readonly floorLsn: Lsn;
  /** LSNs of pins and branches: readable also below the floor. */
  readonly heldLsns: ReadonlySet<Lsn>;
  /** Where a branch reads on, the nearest first. */
  readonly ancestors: readonly AncestorLayers[];
  /** The end of the base backup. */
  readonly consistentLsn: Lsn;
  readonly lastRecordLsn: Lsn;
}

/** How a timeline starts in this process. */
export interface TimelineStart {
  readonly name: string;
  readonly facts: ClusterFacts;
  readonly tli: number;
  readonly startLsn: Lsn;
  readonly consistentLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly layers: LayerMap;
  /** History below is collected. Default: `consistentLsn`. */
  readonly cutoffLsn?: Lsn;
  /** LSNs of pins and branches: they can be read even below the cut-off. */
  readonly heldLsns?: Iterable<Lsn>;
  /** The nearest first. */
  readonly ancestors?: readonly AncestorLayers[];
  /** Where memory layers' memory comes from. Default: buffers of their own. */
  readonly arena?: ByteArena;
}

/** See the module's description. */
export class Timeline {
  readonly name: string;
  readonly facts: ClusterFacts;
  readonly startLsn: Lsn;
  /** Where the memory of batches and memory layers comes from; undefined: buffers of their own. */
  readonly arena: ByteArena | undefined;
  /** Interned key spaces; shared by all memory layers. */
  readonly spaces: SpaceTable = new SpaceTable();
  /** Current sizes; complete only for a writer. */
  readonly sizes: SizeTable = new SizeTable();
  /** When transactions ended, as far as the next entry depends on it; complete only for a writer. */
  readonly times: TimeTable = new TimeTable();
  /** The end of the base backup: reads are right from here on. */
  consistentLsn: Lsn;
  #cutoffLsn: Lsn;
  #heldLsns: ReadonlySet<Lsn>;
  #ancestors: readonly AncestorLayers[];

  readonly #lastRecord: LsnGate;
  readonly #remoteConsistent: LsnGate;
  readonly #onDisk: LsnGate;
  #layers: LayerMap;
  #open: MemoryLayer;
  /** Oldest first. */
  #frozen: readonly MemoryLayer[] = [];
  #recordCount = 0;
  #walBytes = 0;

  constructor(start: TimelineStart) {
    this.name = start.name;
    this.facts = start.facts;
    this.startLsn = start.startLsn;
    this.consistentLsn = start.consistentLsn;
    this.#cutoffLsn = start.cutoffLsn ?? start.consistentLsn;
    this.#heldLsns = new Set(start.heldLsns);
    this.#ancestors = start.ancestors ?? [];
    this.arena = start.arena;
    this.#layers = start.layers;
    this.#lastRecord = new LsnGate(start.diskConsistentLsn);
    this.#remoteConsistent = new LsnGate(start.diskConsistentLsn);
    this.#onDisk = new LsnGate(start.diskConsistentLsn);
    this.#open = new MemoryLayer(start.diskConsistentLsn, start.tli, start.arena);
  }

  get lastRecordLsn(): Lsn {
    return this.#lastRecord.reached;
  }
  /** History below is collected, but for what pins and branches hold. */
  get cutoffLsn(): Lsn {
    return this.#cutoffLsn;
  }
  /** Timelines that this one is a branch of, the nearest first. */
  get ancestors(): readonly AncestorLayers[] {
    return this.#ancestors;
  }
  /** Reads are possible from here on: the base backup's end, or the cut-off. */
  get floorLsn(): Lsn {
    return Math.max(this.consistentLsn, this.#cutoffLsn) as Lsn;
  }
  /** PostgreSQL's timeline that the last record is on. */
  get tli(): number {
    return this.#open.tli;
  }
  get remoteConsistentLsn(): Lsn {
    return this.#remoteConsistent.reached;
  }
  get diskConsistentLsn(): Lsn {
    return this.#onDisk.reached;
  }
  get layers(): LayerMap {
    return this.#layers;
  }
  /** Records and WAL bytes taken in by this process. */
  get recordCount(): number {
    return this.#recordCount;
  }
  get walBytes(): number {
    return this.#walBytes;
  }
  /** Memory layers waiting for their flush, oldest first. */
  get frozen(): readonly MemoryLayer[] {
    return this.#frozen;
  }
  get openLayer(): MemoryLayer {
    return this.#open;
  }
  /** Bytes that memory layers hold. */
  get memoryBytes(): number {
    return this.#frozen.reduce((sum, layer) => sum + layer.memoryBytes, this.#open.memoryBytes);
  }

  /** The state to read from, as of now. */
  view(): TimelineView {
    return {
      memory: [this.#open, ...this.#frozen.toReversed()],
      layers: this.#layers,
      floorLsn: this.floorLsn,
      heldLsns: this.#heldLsns,
      ancestors: this.#ancestors,
      consistentLsn: this.consistentLsn,
      lastRecordLsn: this.lastRecordLsn,
    };
  }

  /** Takes in one modification; it is visible to new views when this returns. */
  append(modification: Modification): void {
    this.#open.append(modification);
    this.#recordCount += modification.recordCount;
    this.#walBytes += modification.walBytes;
    if (modification.completesRecord) this.#lastRecord.advance(modification.endLsn);
  }

  /** Resolves when records up to `lsn` have been taken in. */
  waitForRecord(lsn: Lsn, signal?: AbortSignal): Promise<void> {
    return this.#lastRecord.wait(lsn, signal);
  }

  /** Resolves when WAL up to `lsn` is durable in the store. */
  waitForDurable(lsn: Lsn, signal?: AbortSignal): Promise<void> {
    return this.#remoteConsistent.wait(lsn, signal);
  }

  /** Closes the open memory layer, if it has advanced, and opens the next; returns whether it did. */
  freeze(): boolean {
    if (this.#open.lastLsn <= this.#open.startLsn) return false;
    this.#frozen = [...this.#frozen, this.#open];
    this.#open = new MemoryLayer(this.#open.endLsn, this.#open.tli, this.arena);
    return true;
  }

  /** Replaces the oldest frozen layer by its layer file (none if it held nothing), which the committed manifest names. */
  completeFlush(flushed: MemoryLayer, descriptors: readonly LayerDescriptor[]): void {
    if (this.#frozen[0] !== flushed) {
      throw new TypeError("Cannot complete a flush: not the oldest frozen layer");
    }
    this.replaceLayers(descriptors, []);
    this.#frozen = this.#frozen.slice(1);
    this.#remoteConsistent.advance(flushed.endLsn);
    this.#onDisk.advance(flushed.endLsn);
  }

  /** WAL up to here is in layers on this machine's disk. */
  noteOnDisk(lsn: Lsn): void {
    this.#onDisk.advance(lsn);
  }

  /** Replaces layer files by others of the same content. What is there, or gone, already stays so. */
  replaceLayers(add: readonly LayerDescriptor[], remove: readonly LayerDescriptor[]): void {
    const has = ({ name }: LayerDescriptor) => this.#layers.get(name) !== undefined;
    this.#layers = this.#layers.withChanges({
      add: add.filter((layer) => !has(layer)),
      remove: remove.filter(has).map((layer) => layer.name),
    });
  }

  /** Takes over what history is kept, and where a branch reads on. */
  keep(
    { cutoffLsn, heldLsns, ancestors }: Required<Pick<TimelineStart, "cutoffLsn" | "heldLsns" | "ancestors">>,
  ): void {
    this.#cutoffLsn = cutoffLsn;
    this.#heldLsns = new Set(heldLsns);
    this.#ancestors = ancestors;
  }

  /** For readers: history has grown up to here, in layers that the manifest names. */
  extendTo(lsn: Lsn, tli: number): void {
    if (lsn <= this.lastRecordLsn) return;
    this.#open = new MemoryLayer(lsn, tli, this.arena);
    this.#lastRecord.advance(lsn);
    this.#remoteConsistent.advance(lsn);
    this.#onDisk.advance(lsn);
  }

  /** Ends all waiting: this process takes in no more WAL. */
  fail(reason: unknown): void {
    this.#lastRecord.fail(reason);
    this.#remoteConsistent.fail(reason);
  }
}
