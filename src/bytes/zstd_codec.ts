/**
 * What varve needs of Zstandard, as an interface: `wal_compression = zstd` is the only user of it in PostgreSQL.
 *
 * A leaf. The algorithm comes from outside (src/deps has a pure one and the runtime's own), and is handed to whoever
 * restores page images; without one such images are refused with an UnsupportedError.
 *
 * @module
 */

/** Decompresses single Zstandard frames. */
export interface ZstdDecoder {
  /**
   * Decompresses one frame that must yield exactly `rawSize` bytes.
   *
   * Never allocates more than about `rawSize` plus the codec's fixed tables, whatever the frame claims.
   *
   * @returns The bytes, or `undefined` if the frame is invalid or yields another number of bytes.
   */
  decompress(frame: Uint8Array, rawSize: number): Uint8Array | undefined;
}

const MAGIC = 0xfd2fb528;

/**
 * `Frame_Content_Size` of a frame's header, `undefined` when there is none or the bytes are no frame. A check before
 * decompression: a frame that announces another size than expected is refused without being touched.
 */
export function zstdContentSize(frame: Uint8Array): number | undefined {
  if (frame.length < 6) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  const descriptor = frame[4];
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionarySize = [0, 1, 2, 4][descriptor & 3];
  const at = 5 + (singleSegment ? 0 : 1) + dictionarySize;
  const sizeFlag = descriptor >>> 6;
  const width = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 1 << sizeFlag;
  if (width === 0 || at + width > frame.length) return undefined;
  if (width === 1) return frame[at];
  if (width === 2) return view.getUint16(at, true) + 256;
  if (width === 4) return view.getUint32(at, true);
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}
