/**
 * The manifest's text: JSON with LSNs as `X/Y` and times in ISO 8601, so that people can read it. Untrusted when read.
 *
 * Both paths. Reads every format up to the one it writes. The last field is the CRC-32C of all text before it: a writer
 * writes back what it has read, so that a bit that is turned over on the way here would stay wrong for good.
 *
 * @module
 */
import { crc32c } from "../bytes/crc32c.ts";
import { CorruptionError, UnsupportedError } from "../errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../lsn.ts";
import {
  type BranchPoint,
  type Manifest,
  MANIFEST_FORMAT,
  type ManifestLayer,
  type ManifestPin,
  type RemovedLayer,
  type RetentionPolicy,
} from "./manifest.ts";
import { isTimelineName } from "./object_keys.ts";

/** The manifest's JSON text as bytes. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const { timeline, facts, epoch, commitId, claimId, tli, layers, retention, ancestor } = manifest;
  return sealed(JSON.stringify(
    {
      format: MANIFEST_FORMAT,
      timeline,
      facts,
      epoch,
      commitId,
      claimId,
      tli,
      startLsn: formatLsn(manifest.startLsn),
      consistentLsn: formatLsn(manifest.consistentLsn),
      diskConsistentLsn: formatLsn(manifest.diskConsistentLsn),
      cutoffLsn: formatLsn(manifest.cutoffLsn),
      committedAt: formatTime(manifest.committedAtMs),
      retention,
      pins: manifest.pins.map(({ name, lsn, expiresAtMs }) => ({
        name,
        lsn: formatLsn(lsn),
        expiresAt: expiresAtMs === undefined ? undefined : formatTime(expiresAtMs),
      })),
      ancestor: ancestor && encodeBranch(ancestor),
      branches: manifest.branches.map(encodeBranch),
      removed: manifest.removed.map(({ name, size, atMs }) => ({ name, size, at: formatTime(atMs) })),
      layers,
    },
    undefined,
    1,
  ));
}

/** What an object's text ends with; the checksum is of all before it. */
const SEAL = /^,\n "checksum": "([0-9a-f]{8})"\n\}$/;
const SEAL_LENGTH = ',\n "checksum": "00000000"\n}'.length;

function sealed(text: string): Uint8Array {
  const content = text.slice(0, -"\n}".length);
  return new TextEncoder().encode(
    `${content},\n "checksum": "${checksumOf(new TextEncoder().encode(content))}"\n}`,
  );
}

function checksumOf(bytes: Uint8Array, end: number = bytes.length): string {
  return crc32c(bytes, 0, end).toString(16).padStart(8, "0");
}

/** Whether the text has a checksum. @throws {CorruptionError} If that is not its own. */
function checkSeal(bytes: Uint8Array, object: string): boolean {
  const end = Math.max(0, bytes.length - SEAL_LENGTH);
  const expected = SEAL.exec(new TextDecoder().decode(bytes.subarray(end)))?.[1];
  if (expected === undefined) return false;
  const got = checksumOf(bytes, end);
  if (got === expected) return true;
  throw new CorruptionError("Cannot read the manifest: wrong checksum", { object, expected, got });
}

function encodeBranch({ timeline, lsn }: BranchPoint): { timeline: string; lsn: string } {
  return { timeline, lsn: formatLsn(lsn) };
}

function formatTime(ms: number): string {
  return new Date(ms).toISOString();
}

/**
 * Reads a manifest.
 *
 * @param object Its key, for errors.
 * @throws {UnsupportedError} If a newer build wrote it.
 * @throws {CorruptionError} If it is not a manifest.
 */
export function decodeManifest(bytes: Uint8Array, object: string): Manifest {
  const isSealed = checkSeal(bytes, object);
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
  if (!isSealed && format !== 1) {
    throw new CorruptionError("Cannot read the manifest: no checksum at its end", { object });
  }
  const facts = fields.object("facts");
  const consistentLsn = fields.lsn("consistentLsn");
  return {
    timeline: fields.timelineName("timeline"),
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
    ...(fields.has("claimId") && { claimId: fields.text("claimId") }),
    tli: fields.integer("tli"),
    startLsn: fields.lsn("startLsn"),
    consistentLsn,
    diskConsistentLsn: fields.lsn("diskConsistentLsn"),
    layers: fields.array("layers").map((layer) => decodeLayer(layer, format)),
    committedAtMs: fields.time("committedAt"),
    ...(format < 2
      ? { cutoffLsn: consistentLsn, retention: {}, pins: [], branches: [], removed: [] }
      : decodeHistory(fields)),
  };
}

function decodeLayer(layer: Fields, format: number): ManifestLayer {
  return {
    name: layer.text("name"),
    size: layer.integer("size"),
    checksum: layer.integer("checksum"),
    complete: layer.boolean("complete"),
    level: format < 2 ? 0 : layer.integer("level"),
  };
}

/** What format 2 added. */
function decodeHistory(
  fields: Fields,
): Pick<Manifest, "cutoffLsn" | "retention" | "pins" | "branches" | "ancestor" | "removed"> {
  return {
    cutoffLsn: fields.lsn("cutoffLsn"),
    retention: decodeRetention(fields.object("retention")),
    pins: fields.array("pins").map(decodePin),
    branches: fields.array("branches").map(decodeBranch),
    ...(fields.has("ancestor") && { ancestor: decodeBranch(fields.object("ancestor")) }),
    removed: fields.array("removed").map(decodeRemoved),
  };
}

function decodeRetention(fields: Fields): RetentionPolicy {
  return {
    ...(fields.has("keepMs") && { keepMs: fields.integer("keepMs") }),
    ...(fields.has("keepWalBytes") && { keepWalBytes: fields.integer("keepWalBytes") }),
  };
}

function decodePin(fields: Fields): ManifestPin {
  return {
    name: fields.text("name"),
    lsn: fields.lsn("lsn"),
    ...(fields.has("expiresAt") && { expiresAtMs: fields.time("expiresAt") }),
  };
}

function decodeBranch(fields: Fields): BranchPoint {
  return { timeline: fields.timelineName("timeline"), lsn: fields.lsn("lsn") };
}

function decodeRemoved(fields: Fields): RemovedLayer {
  return { name: fields.text("name"), size: fields.integer("size"), atMs: fields.time("at") };
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
  /** A part of objects' keys. */
  timelineName(name: string): string {
    const text = this.text(name);
    return isTimelineName(text) ? text : this.#fail(name, "a timeline name");
  }
  has(name: string): boolean {
    return this.#json[name] !== undefined;
  }
  /** Milliseconds since the epoch. */
  time(name: string): number {
    const ms = Date.parse(this.text(name));
    return Number.isNaN(ms) ? this.#fail(name, "an ISO 8601 time") : ms;
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
