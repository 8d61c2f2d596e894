/**
 * WAL records made up by tests, and a sink that writes down what it is told.
 *
 * @module
 */
import type { Lsn } from "../../../src/lsn.ts";
import { ClusterState } from "../../../src/postgres/effects/cluster_state.ts";
import type { EffectSink } from "../../../src/postgres/effects/effect_sink.ts";
import { applyEffects } from "../../../src/postgres/effects/effects.ts";
import { pg18 } from "../../../src/postgres/versions/pg18.ts";
import type { VersionProfile } from "../../../src/postgres/versions/profile.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";

/** Bytes put together field by field, little-endian. */
export class Bytes {
  readonly #parts: number[] = [];

  u8(...values: number[]): this {
    this.#parts.push(...values);
    return this;
  }
  u16(value: number): this {
    return this.u8(value & 0xff, value >>> 8 & 0xff);
  }
  u32(...values: number[]): this {
    for (const value of values) this.u16(value & 0xffff).u16(value >>> 16);
    return this;
  }
  u64(value: bigint | number): this {
    const wide = BigInt.asUintN(64, BigInt(value));
    return this.u32(Number(wide & 0xffffffffn), Number(wide >> 32n));
  }
  /** A text without terminating zero. */
  text(value: string): this {
    return this.u8(...new TextEncoder().encode(value));
  }
  zeros(count: number): this {
    return this.u8(...new Array<number>(count).fill(0));
  }
  done(): Uint8Array {
    return Uint8Array.from(this.#parts);
  }
}

export interface RecordParts {
  rmid: number;
  info: number;
  xid?: number;
  originId?: number;
  main?: Bytes | Uint8Array;
  endLsn?: number;
}

/** The bytes of a record without block references. Its CRC is zero. */
export function recordBytes(parts: RecordParts): Uint8Array {
  const main = parts.main instanceof Bytes ? parts.main.done() : parts.main ?? new Uint8Array(0);
  const headers = new Bytes();
  if (parts.originId) headers.u8(253).u16(parts.originId);
  if (main.length > 255) headers.u8(254).u32(main.length);
  else if (main.length > 0) headers.u8(255, main.length);
  const head = headers.done();
  const length = 24 + head.length + main.length;
  const start = new Bytes().u32(length, parts.xid ?? 0).u64(0).u8(parts.info, parts.rmid).u16(0).u32(0)
    .done();
  const bytes = new Uint8Array(length);
  bytes.set(start);
  bytes.set(head, 24);
  bytes.set(main, 24 + head.length);
  return bytes;
}

/** A record, decoded. */
export function makeRecord(profile: VersionProfile, parts: RecordParts): DecodedRecord {
  const record = new DecodedRecord(profile);
  record.decode(recordBytes(parts), 0, (parts.endLsn ?? 0x1000100) as Lsn);
  return record;
}

/** A sink that notes each call as text: `name argument argument`. */
export class RecordingSink {
  readonly calls: string[] = [];
  /** The byte arguments, in order. */
  readonly bytes: Uint8Array[] = [];
  readonly sink: EffectSink = new Proxy({} as EffectSink, {
    get: (_target, name) => (...values: unknown[]) => {
      const texts = values.filter((value) => value !== undefined).map((value) => this.#format(value));
      this.calls.push([String(name), ...texts].join(" "));
    },
  });

  #format(value: unknown): string {
    if (!(value instanceof Uint8Array)) return String(value);
    this.bytes.push(value);
    return `<${value.length} bytes>`;
  }
}

/** Applies one record and returns what the sink was told. */
export function effectsOf(
  parts: RecordParts,
  profile: VersionProfile = pg18,
  state = new ClusterState(),
): string[] {
  const recorder = new RecordingSink();
  applyEffects(makeRecord(profile, parts), state, recorder.sink);
  return recorder.calls;
}
