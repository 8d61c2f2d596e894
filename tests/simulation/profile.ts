/**
 * What a seed's simulation is like: drawn anew for each, so that runs differ in kind and not only in order. Most faults are
 * absent from many seeds; what hides behind one fault shows where that one is missing.
 *
 * @module
 */
import type { CompactOptions } from "../../src/upkeep/compact.ts";
import type { ImageOptions } from "../../src/upkeep/images.ts";
import type { SeededRandom } from "../support/random.ts";
import type { StoreFaults } from "./simulated_store.ts";

export interface Profile {
  readonly faults: StoreFaults;
  /** Per step. */
  readonly crashes: number;
  readonly cutOffs: number;
  /** How often, of 1, a process is held up at a fault point. */
  readonly faultPoints: number;
  /** Another machine writes, too. */
  readonly secondWriter: boolean;
  readonly writerDisk: boolean;
  readonly acknowledge: "store" | "disk";
  readonly readers: number;
  readonly readerDisk: boolean;
  /** Bytes of WAL. */
  readonly checkpointDistance: number;
  readonly flushIntervalMs: number;
  /** Most bytes of WAL that arrive at once. */
  readonly chunkBytes: number;
  readonly compaction: CompactOptions;
  /** How often, of 1, images are made and not deltas merged. */
  readonly images: ImageOptions & { share: number };
  readonly retention: {
    readonly isOn: boolean;
    readonly graceMs: number;
    readonly keepWalBytes: number | undefined;
  };
  /** At the end all is collected, and nothing may be left that nobody names. */
  readonly lastCollection: boolean;
  /** How often, of 1, who could collect sets a pin or removes one. */
  readonly pins: number;
  readonly branches: boolean;
  /** Readers take over the newest manifest so often; undefined: when they must. */
  readonly refreshMs: number | undefined;
  /** How often, of 1, a sleeper wakes though requests are under way. */
  readonly wakes: number;
  readonly guestCompaction: boolean;
  /** In the writer's process: now and then, or as followers have it, with collection. */
  readonly writerCompaction: "none" | "now and then" | "loop";
}

export function drawProfile(random: SeededRandom): Profile {
  const often = (most: number) => random.chance(0.5) ? 0 : random.float() * most;
  const writerDisk = random.chance(0.5);
  const checkpointDistance = random.pick([300, 800, 2000]);
  const acknowledge = writerDisk && random.chance(0.4) ? "disk" : "store";
  return {
    faults: {
      fails: often(0.15),
      losesAnswer: often(0.15),
      happensLate: often(0.1),
      answersLate: often(0.4),
    },
    crashes: often(0.03),
    cutOffs: often(0.01),
    faultPoints: often(0.3),
    // What only one machine's disk has cannot be taken over by another.
    secondWriter: acknowledge === "store" && random.chance(0.5),
    writerDisk,
    acknowledge,
    readers: random.int(0, 2),
    readerDisk: random.chance(0.5),
    checkpointDistance,
    flushIntervalMs: random.pick([2_000, 30_000, 600_000]),
    chunkBytes: checkpointDistance * random.pick([0.5, 1, 2]),
    compaction: {
      runsMax: random.int(1, 3),
      sizeRatio: random.pick([0.5, 1.5, 10]),
      layerBytes: random.pick([1000, 4000, 1_000_000]),
      mergeMax: random.int(2, 6),
      everything: random.chance(0.2),
    },
    images: {
      layerBytes: random.pick([20_000, 60_000, 10_000_000]),
      imageDeltaBytesMin: 500,
      everything: random.chance(0.7),
      share: random.pick([0.2, 0.5, 0.8]),
    },
    retention: {
      isOn: random.chance(0.7),
      graceMs: random.pick([3_600_000, 10_000_000]),
      keepWalBytes: random.pick([undefined, 0, 0, 500, 2000]),
    },
    lastCollection: random.chance(0.3),
    pins: random.pick([0, 0.3, 0.5]),
    branches: random.chance(0.5),
    refreshMs: random.pick([undefined, 20_000, 200_000]),
    wakes: random.pick([0.03, 0.08, 0.2]),
    guestCompaction: random.chance(0.5),
    writerCompaction: random.pick(["none", "now and then", "loop"] as const),
  };
}
