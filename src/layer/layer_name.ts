/**
 * Names of layers: ranges, the writer's epoch, and a random part, so that a name is never used for other bytes.
 *
 * Shared by both paths; this file alone spells them. Neon's grammar, but the key end is inclusive (the greatest key has
 * no successor), and a number drawn by the writer comes last: a name is known before its bytes are, so that a file can be
 * sent while it is made.
 * ```
 * image  KEY36-KEY36__LSN16-EPOCH8-UNIQUE8
 * delta  KEY36-KEY36__LSN16-LSN16-EPOCH8-UNIQUE8      LSN end exclusive
 * ```
 * Keys and LSNs are upper-case, epoch and unique part lower-case hexadecimal. Names sort by key, then LSN.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { compareKeys, decodeKey, encodeKey, type Key, KEY_SIZE } from "./key.ts";
import type { LayerKind } from "./layer_format.ts";

/** What a name says. */
export interface LayerName {
  kind: LayerKind;
  keyMin: Key;
  /** Inclusive. */
  keyMax: Key;
  lsnStart: Lsn;
  /** Exclusive; `lsnStart + 1` of an image layer. */
  lsnEnd: Lsn;
  /** 32 bits. */
  epoch: number;
  /** Drawn at random by the writer, 32 bits. */
  unique: number;
}

const PATTERN =
  /^([0-9A-F]{36})-([0-9A-F]{36})__([0-9A-F]{16})(?:-([0-9A-F]{16}))?-([0-9a-f]{8})-([0-9a-f]{8})$/;

/** Spells a name. */
export function formatLayerName(name: LayerName): string {
  const { kind, keyMin, keyMax, lsnStart, lsnEnd, epoch, unique } = name;
  const lsns = kind === "image" ? formatLsn16(lsnStart) : `${formatLsn16(lsnStart)}-${formatLsn16(lsnEnd)}`;
  return `${formatKey36(keyMin)}-${formatKey36(keyMax)}__${lsns}-${formatHex8(epoch)}-${formatHex8(unique)}`;
}

/** Reads a name; `undefined` if it is not one that {@linkcode formatLayerName} spells. */
export function parseLayerName(text: string): LayerName | undefined {
  const match = PATTERN.exec(text);
  if (match === null) return undefined;
  const [, keyMinText, keyMaxText, startText, endText, epochText, uniqueText] = match;
  const keyMin = parseKey36(keyMinText);
  const keyMax = parseKey36(keyMaxText);
  const lsnStart = parseInt(startText, 16) as Lsn;
  const lsnEnd = endText === undefined ? lsnStart + 1 as Lsn : parseInt(endText, 16) as Lsn;
  if (compareKeys(keyMin, keyMax) > 0 || lsnStart >= lsnEnd || !Number.isSafeInteger(lsnEnd)) {
    return undefined;
  }
  return {
    kind: endText === undefined ? "image" : "delta",
    keyMin,
    keyMax,
    lsnStart,
    lsnEnd,
    epoch: parseInt(epochText, 16),
    unique: parseInt(uniqueText, 16),
  };
}

/** A key as 36 upper-case hexadecimal digits. */
export function formatKey36(key: Key): string {
  const bytes = new Uint8Array(KEY_SIZE);
  encodeKey(bytes, 0, key, key.block);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("").toUpperCase();
}

function parseKey36(text: string): Key {
  const bytes = Uint8Array.from({ length: KEY_SIZE }, (_, i) => parseInt(text.slice(i * 2, i * 2 + 2), 16));
  return decodeKey(bytes, 0);
}

function formatLsn16(value: Lsn): string {
  return value.toString(16).toUpperCase().padStart(16, "0");
}

function formatHex8(value: number): string {
  return value.toString(16).padStart(8, "0");
}
