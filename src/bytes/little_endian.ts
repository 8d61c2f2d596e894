/**
 * Little-endian reads and writes at any alignment, as plain functions over a Uint8Array.
 *
 * A leaf for hot loops: no DataView (its setters are 7x slower on Bun), no bounds errors of its own. Callers check
 * lengths first; reads outside the array yield 0 bits, never a neighbour's bytes.
 *
 * @module
 */

// PostgreSQL's pages and WAL are in the byte order of the server; every platform we read is little-endian, and so
// must be the host, because pages are edited through aliased typed arrays.
if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) {
  throw new RangeError(
    "Cannot run varve on a big-endian host: pages are edited in place in little-endian order",
  );
}

export function getU16(bytes: Uint8Array, offset: number): number {
  return bytes[offset] | (bytes[offset + 1] << 8);
}

export function getU32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] | (bytes[offset + 1] << 8) | (bytes[offset + 2] << 16) |
    (bytes[offset + 3] << 24)) >>> 0;
}

export function getI32(bytes: Uint8Array, offset: number): number {
  return bytes[offset] | (bytes[offset + 1] << 8) | (bytes[offset + 2] << 16) | (bytes[offset + 3] << 24);
}

/** A u64 as a number; exact below 2^53. */
export function getU64(bytes: Uint8Array, offset: number): number {
  return getU32(bytes, offset + 4) * 0x1_0000_0000 + getU32(bytes, offset);
}

/** A u64 or i64 that may use all 64 bits (system identifiers, timestamps). */
export function getI64(bytes: Uint8Array, offset: number): bigint {
  return (BigInt(getI32(bytes, offset + 4)) << 32n) | BigInt(getU32(bytes, offset));
}

export function setU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
}

export function setU32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
  bytes[offset + 2] = value >>> 16;
  bytes[offset + 3] = value >>> 24;
}

/** Writes a non-negative safe integer as u64. */
export function setU64(bytes: Uint8Array, offset: number, value: number): void {
  setU32(bytes, offset, value % 0x1_0000_0000);
  setU32(bytes, offset + 4, Math.floor(value / 0x1_0000_0000));
}
