/**
 * Varints of layer files: LEB128, seven bits a byte, least significant first, of numbers up to 2^53 - 1.
 *
 * A leaf of the layer format. Reading is bounded by {@linkcode VARINT_LENGTH_MAX} bytes whatever the input.
 *
 * @module
 */

/** The most bytes a varint takes: 8 x 7 bits hold 2^53 - 1. */
export const VARINT_LENGTH_MAX = 8;

/** Writes a non-negative safe integer; returns where it ends. */
export function setVarint(target: Uint8Array, at: number, value: number): number {
  // Numbers above 31 bits shed low groups by division, as bit operations would cut them.
  while (value > 0x7fffffff) {
    target[at++] = (value % 0x80) | 0x80;
    value = Math.floor(value / 0x80);
  }
  while (value > 0x7f) {
    target[at++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  target[at++] = value;
  return at;
}

/** Reads varints one after the other. Beyond the end it reads zeros: callers compare {@linkcode at} with their end. */
export class VarintReader {
  readonly bytes: Uint8Array;
  /** Where the next read starts. */
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  /** The next number, or -1 if it is longer than allowed or not a safe integer. */
  next(): number {
    const { bytes } = this;
    let at = this.at;
    let byte = bytes[at++];
    if (byte < 0x80) {
      this.at = at;
      return byte;
    }
    let value = byte & 0x7f;
    let scale = 0x80;
    for (let count = 1; byte >= 0x80; count++) {
      if (count === VARINT_LENGTH_MAX) return -1;
      byte = bytes[at++];
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
    }
    this.at = at;
    return value <= Number.MAX_SAFE_INTEGER ? value : -1;
  }
}
