/**
 * The manifest: the one mutable object of a timeline, and the authority on what it consists of.
 *
 * Both paths. A layer exists when the manifest names it; WAL up to `diskConsistentLsn` is in those layers; anything else
 * in the store is an orphan and anything newer must be streamed again. JSON, so that people can read it.
 *
 * Ordering (DESIGN 8): layer objects first, then the manifest that names them. Nothing counts as durable before.
 *
 * @module
 */
import { CorruptionError, UnsupportedError } from "../errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../lsn.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import type { ClusterFacts } from "./facts.ts";

/** The format that this build writes; each number says what it added. 1: first. */
export const MANIFEST_FORMAT = 1;

/** One layer as the manifest names it; key and LSN ranges are in the name. */
export interface ManifestLayer {
  readonly name: string;
  /** Bytes of the object. */
  readonly size: number;
  /** CRC-32C of the file's footer, which stands for the whole file. */
  readonly checksum: number;
  /** Image layers: absence of a key in it proves that the key does not exist (false for base backups). */
  readonly complete: boolean;
}

/** See the module's description. Immutable: changes make a new one. */
export interface Manifest {
  readonly timeline: string;
  readonly facts: ClusterFacts;
  /** Writer epoch: grows with every writer that takes over. */
  readonly epoch: number;
  /** Nonce of the commit, so that a writer can tell whether a commit whose answer was lost was its own. */
  readonly commitId: string;
  /** PostgreSQL's timeline number that `diskConsistentLsn` is on. */
  readonly tli: number;
  /** Where history begins: the redo start of the base backup. */
  readonly startLsn: Lsn;
  /** Reads are right from here on: the end of the base backup. */
  readonly consistentLsn: Lsn;
  /** All WAL up to this record end is in the layers named here. */
  readonly diskConsistentLsn: Lsn;
  readonly layers: readonly ManifestLayer[];
  /** When this was committed, milliseconds since the epoch. */
  readonly committedAtMs: number;
}

/** What the manifest says of a layer. */
export function manifestLayer(descriptor: LayerDescriptor): ManifestLayer {
  const { name, size, checksum, complete } = descriptor;
  return { name, size, checksum, complete };
}

/**
 * The layer that a manifest's line stands for.
 *
 * @throws {CorruptionError} If the name is none.
 */
export function describeManifestLayer(layer: ManifestLayer, object: string): LayerDescriptor {
  const parsed = parseLayerName(layer.name);
  if (parsed === undefined) {
    throw new CorruptionError(`Cannot read the manifest: "${layer.name}" is no layer name`, { object });
  }
  const { kind, keyMin, keyMax, lsnStart, lsnEnd, epoch } = parsed;
  return { ...layer, kind, keyMin, keyMax, lsnStart, lsnEnd, epoch };
}

/** The manifest's JSON text as bytes. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const { timeline, facts, epoch, commitId, tli, layers, committedAtMs } = manifest;
  return new TextEncoder().encode(JSON.stringify(
    {
      format: MANIFEST_FORMAT,
      timeline,
      facts,
      epoch,
      commitId,
      tli,
      startLsn: formatLsn(manifest.startLsn),
      consistentLsn: formatLsn(manifest.consistentLsn),
      diskConsistentLsn: formatLsn(manifest.diskConsistentLsn),
      committedAt: new Date(committedAtMs).toISOString(),
      layers,
    },
    undefined,
    1,
  ));
}

/**
 * Reads a manifest.
 *
 * @param object Its key, for errors.
 * @throws {UnsupportedError} If a newer build wrote it.
 * @throws {CorruptionError} If it is not a manifest.
 */
export function decodeManifest(bytes: Uint8Array, object: string): Manifest {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CorruptionError("Cannot read the manifest: not JSON", { object }, { cause });
  }
  const fields = new Fields(json, object);
  const format = fields.integer("format");
  if (format > MANIFEST_FORMAT) {
    throw new UnsupportedError(
      `Cannot read ${object}: its format is ${format}, this build knows up to ${MANIFEST_FORMAT}`,
      {
        hint: "A newer varve wrote it: use that version or a later one.",
      },
    );
  }
  const facts = fields.object("facts");
  return {
    timeline: fields.text("timeline"),
    facts: {
      systemId: facts.text("systemId"),
      major: facts.integer("major"),
      walSegmentSize: facts.integer("walSegmentSize"),
      blockSize: facts.integer("blockSize"),
      dataChecksums: facts.boolean("dataChecksums"),
      walLogHints: facts.boolean("walLogHints"),
    },
    epoch: fields.integer("epoch"),
    commitId: fields.text("commitId"),
    tli: fields.integer("tli"),
    startLsn: fields.lsn("startLsn"),
    consistentLsn: fields.lsn("consistentLsn"),
    diskConsistentLsn: fields.lsn("diskConsistentLsn"),
    layers: fields.array("layers").map((layer) => ({
      name: layer.text("name"),
      size: layer.integer("size"),
      checksum: layer.integer("checksum"),
      complete: layer.boolean("complete"),
    })),
    committedAtMs: Date.parse(fields.text("committedAt")),
  };
}

/** Typed access to untrusted JSON; every miss is a CorruptionError that names the field. */
class Fields {
  readonly #json: Record<string, unknown>;
  readonly #object: string;

  constructor(json: unknown, object: string) {
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      throw new CorruptionError("Cannot read the manifest: expected an object", { object });
    }
    this.#json = json as Record<string, unknown>;
    this.#object = object;
  }

  #fail(name: string, expected: string): never {
    throw new CorruptionError(`Cannot read the manifest: field "${name}"`, {
      object: this.#object,
      expected,
      got: typeof this.#json[name],
    });
  }
  text(name: string): string {
    const value = this.#json[name];
    return typeof value === "string" ? value : this.#fail(name, "a string");
  }
  integer(name: string): number {
    const value = this.#json[name];
    return typeof value === "number" && Number.isSafeInteger(value) && value >= 0
      ? value
      : this.#fail(name, "a non-negative integer");
  }
  boolean(name: string): boolean {
    const value = this.#json[name];
    return typeof value === "boolean" ? value : this.#fail(name, "a boolean");
  }
  lsn(name: string): Lsn {
    try {
      return parseLsn(this.text(name));
    } catch (cause) {
      if (cause instanceof CorruptionError) throw cause;
      return this.#fail(name, "an LSN");
    }
  }
  object(name: string): Fields {
    return new Fields(this.#json[name], this.#object);
  }
  array(name: string): Fields[] {
    const value = this.#json[name];
    if (!Array.isArray(value)) this.#fail(name, "an array");
    return value.map((item) => new Fields(item, this.#object));
  }
}
