/**
 * Port: named places where a test may break in. Types only.
 *
 * Between the steps of what must never be half done (a flush, a claim, a compaction, a collection) the engine passes a
 * named point; a test that is told of it may kill the process there, hold it up, or throw what it likes. Nobody who does not
 * test gives one, and then nothing is called and nothing is awaited.
 *
 * @module
 */

/** The places, in the order in which they are passed. */
export type FaultPoint =
  /** Write path: a batch of records can be read, none of it is durable. */
  | "walreceiver-after-ingest"
  /** Start: layers that are on disk only have been uploaded; the claim that names them comes next. */
  | "claim-before-commit"
  /** Start: the epoch is ours. */
  | "claim-after-commit"
  /** Flush: a frozen layer is the next to be written. */
  | "flush-before-layer"
  /** Any layer that is made: the local copy is durable. */
  | "layer-after-local"
  /** Any layer that is made, or brought to the store. */
  | "layer-before-upload"
  | "layer-after-upload"
  /** Flush: the manifest that names the layer. */
  | "flush-before-commit"
  | "flush-after-commit"
  /** Compaction: its layers are durable; the manifest that names them and not what they replace. */
  | "compact-before-commit"
  | "compact-after-commit"
  /** Collection: the manifest with the new cut-off; objects; the manifest without their lines. */
  | "gc-before-cutoff"
  | "gc-after-cutoff"
  | "gc-before-delete"
  | "gc-after-delete"
  | "gc-after-forget"
  /** Branch: the parent's manifest that holds history for the child; the child's own. */
  | "branch-before-parent"
  | "branch-before-child"
  | "branch-after-child";

/** Told of each point as it is passed; the engine goes on when it has settled. What it throws ends what was being done. */
export type FaultPoints = (point: FaultPoint) => void | Promise<void>;
