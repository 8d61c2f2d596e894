/**
 * Writes a layer file: entries in, finished chunks out.
 *
 * Write path (flush) and upkeep (compaction, images). Synchronous, and copies each value once into the open block; no
 * object is made per entry. Memory is the open block, the chunks not yet taken, and some 20 bytes of index per block.
 * The layout is drawn in layer_format.ts.
 *
 * @module
 */
import { type BlockCodec, CODEC_ID_MAX, CODEC_NONE } from "../bytes/block_codec.ts";
import { crc32c } from "../bytes/crc32c.ts";
import { setU32 } from "../bytes/little_endian.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { compareKeys, decodeKey, encodeKey, type Key, KEY_SIZE, type KeySpace } from "./key.ts";
import {
  BLOCK_BYTES_MAX,
  BLOCK_BYTES_MIN,
  BLOCK_HEADER_LENGTH,
  DEFAULT_BLOCK_BYTES,
  encodeFooter,
  encodeHeader,
  footerChecksum,
  HEADER_LENGTH,
  type LayerKind,
  VALUE_LENGTH_MAX,
} from "./layer_format.ts";
import { CHUNK_LENGTH, ChunkBuffer } from "./chunk_buffer.ts";
import { IndexRowWriter, putKey } from "./layer_index_rows.ts";
import { setVarint, VARINT_LENGTH_MAX } from "./varint.ts";

/** The most bytes an entry takes besides its value (and the four of a hole). */
const ENTRY_OVERHEAD_MAX = 1 + KEY_SIZE + VARINT_LENGTH_MAX + 1 + VARINT_LENGTH_MAX + 4;
/** Below this a plain loop copies faster than `set`, which needs a view of the source. */
const LOOP_COPY_MAX = 96;

export interface LayerWriterOptions {
  kind: LayerKind;
  /** No entry is older. An image layer's entries all have this very LSN. */
  lsnStart: Lsn;
  /** Exclusive; may be left to {@linkcode LayerWriter.finish}. */
  lsnEnd?: Lsn;
  /** Image layers: promises that every key of the range that exists at the LSN is here. Default: false. */
  complete?: boolean;
  /** Compresses blocks; a block that does not shrink is stored as it is. Default: none. */
  codec?: BlockCodec;
  /** Bytes of a block before compression to aim at. Default: 32 KiB. */
  blockBytes?: number;
  /** Bytes of the chunks that the file is taken in. Default: 512 KiB. */
  chunkBytes?: number;
}

export interface FinishOptions {
  /** Exclusive. Default: the one given at the start, else the greatest LSN of an entry plus one. */
  lsnEnd?: Lsn;
  /** Widens the key range beyond the entries, for a complete image whose first or last keys do not exist. */
  keyMin?: Key;
  /** Inclusive. */
  keyMax?: Key;
}

/** What is known of a finished layer: all that its name, its descriptor and the manifest need. */
export interface LayerSummary {
  kind: LayerKind;
  complete: boolean;
  keyMin: Key;
  /** Inclusive. */
  keyMax: Key;
  lsnStart: Lsn;
  /** Exclusive. */
  lsnEnd: Lsn;
  /** Bytes of the file. */
  size: number;
  entryCount: number;
  blockCount: number;
  /** Bytes of all blocks before compression. */
  rawBytes: number;
  /** CRC-32C of the footer, which covers the index's and so every block's: stands for the whole file. */
  checksum: number;
}

/** See the module's description. */
export class LayerWriter {
  readonly #kind: LayerKind;
  readonly #complete: boolean;
  readonly #lsnStart: Lsn;
  /** Every entry is below it. */
  readonly #lsnLimit: number;
  readonly #lsnEndGiven: Lsn | undefined;
  readonly #codec: BlockCodec | undefined;
  readonly #blockBytes: number;

  #space: KeySpace | undefined;
  /** The previous entry's key; `#block` is -1 while its space has none yet. */
  readonly #key = new Uint8Array(KEY_SIZE);
  #block = -1;
  #lsn = -1;
  #lsnMax = -1;
  /** Key of the last entry before the current space. */
  readonly #lastKey = new Uint8Array(KEY_SIZE);
  /** How many leading bytes `#lastKey` and the current space share. */
  #spaceShared = 0;
  readonly #scratch = new Uint8Array(KEY_SIZE);
  #keyMin: Key | undefined;
  #entryCount = 0;

  /** The open block, before compression. */
  #raw: Uint8Array;
  #rawLength = BLOCK_HEADER_LENGTH;
  #rawEntries = 0;
  readonly #firstKey = new Uint8Array(KEY_SIZE);
  #firstLsn = 0;
  #continues = false;

  readonly #index = new IndexRowWriter();
  #rawBytes = 0;

  readonly #chunks: ChunkBuffer;
  #finished = false;

  /** @throws {RangeError} If an option is out of range. */
  constructor(options: LayerWriterOptions) {
    const { kind, lsnStart, lsnEnd, complete = false, codec, blockBytes = DEFAULT_BLOCK_BYTES } = options;
    if (!Number.isInteger(blockBytes) || blockBytes < BLOCK_BYTES_MIN || blockBytes > BLOCK_BYTES_MAX) {
      throw new RangeError(
        `Cannot write blocks of ${blockBytes} bytes: expected ${BLOCK_BYTES_MIN} to ${BLOCK_BYTES_MAX}`,
      );
    }
    if (complete && kind !== "image") {
      throw new RangeError("Cannot write a complete delta layer: only images are");
    }
    if (codec !== undefined && !(codec.id > CODEC_NONE && codec.id <= CODEC_ID_MAX)) {
      throw new RangeError(
        `Cannot write blocks with a codec of number ${codec.id}: expected 1 to ${CODEC_ID_MAX}`,
      );
    }
    this.#kind = kind;
    this.#complete = complete;
    this.#lsnStart = lsnStart;
    this.#lsnEndGiven = kind === "image" ? lsnStart + 1 as Lsn : lsnEnd;
    this.#lsnLimit = this.#lsnEndGiven ?? Number.MAX_SAFE_INTEGER;
    this.#codec = codec;
    this.#blockBytes = blockBytes;
    this.#chunks = new ChunkBuffer(options.chunkBytes);
    this.#raw = this.#newBlockBuffer();
    if (this.#lsnLimit <= lsnStart || (lsnEnd !== undefined && lsnEnd !== this.#lsnEndGiven)) {
      throw new RangeError(
        `Cannot write a layer from LSN ${formatLsn(lsnStart)} to ${formatLsn(lsnEnd ?? lsnStart)}`,
      );
    }
    this.#chunks.append(encodeHeader(kind), HEADER_LENGTH);
  }

  /** Bytes of the file so far, without the open block, index and footer. */
  get writtenBytes(): number {
    return this.#chunks.written;
  }
  get entryCount(): number {
    return this.#entryCount + this.#rawEntries;
  }

  /**
   * Makes `space` the current one, for {@linkcode addBlock}.
   *
   * @throws {RangeError} If it sorts before the current one, or a number in it is out of range.
   */
  beginSpace(space: KeySpace): void {
    const previous = this.#space;
    if (space === previous) return;
    checkSpace(space);
    const key = this.#scratch;
    encodeKey(key, 0, space, 0);
    let shared = 0;
    if (previous !== undefined) {
      while (shared < SPACE_LENGTH && key[shared] === this.#key[shared]) shared++;
      if (shared === SPACE_LENGTH) return;
      if (key[shared] < this.#key[shared]) throw new RangeError("Cannot add to a layer: spaces must ascend");
    }
    if (this.#block >= 0) {
      this.#lastKey.set(this.#key);
      this.#spaceShared = shared;
    } else {
      // The space before had no entry: what is shared with the last that has some is the lesser of both.
      this.#spaceShared = Math.min(this.#spaceShared, shared);
    }
    this.#key.set(key);
    this.#space = space;
    this.#block = -1;
  }

  /** {@linkcode beginSpace} and {@linkcode addBlock} in one. */
  add(
    space: KeySpace,
    block: number,
    lsn: Lsn,
    flags: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    hole = -1,
  ): void {
    if (space !== this.#space) this.beginSpace(space);
    this.addBlock(block, lsn, flags, bytes, offset, length, hole);
  }

  /**
   * Adds an entry of the current space: `bytes[offset, offset + length)`, copied before this returns.
   *
   * @param hole If not negative, these four bytes, little-endian, go in front of the value: offset and length of a
   * full-page image's hole, as the memory layer keeps them.
   * @throws {RangeError} If (block, lsn) does not ascend, the LSN lies outside the layer, or a number is out of range.
   * @throws {TypeError} If no space was begun, or the layer is finished.
   */
  addBlock(
    block: number,
    lsn: Lsn,
    flags: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    hole = -1,
  ): void {
    const previous = this.#block;
    if (
      block < previous || (block === previous && lsn <= this.#lsn) ||
      !(lsn >= this.#lsnStart && lsn < this.#lsnLimit) ||
      block >>> 0 !== block || (flags & 0xff) !== flags || length < 0 || offset < 0 ||
      offset + length > bytes.length ||
      length > VALUE_LENGTH_MAX - 4 || this.#space === undefined || this.#finished
    ) this.#refuse(block, lsn, flags, bytes, offset, length);

    const valueLength = hole < 0 ? length : length + 4;
    const needed = this.#rawLength + ENTRY_OVERHEAD_MAX + valueLength;
    if (needed > this.#blockBytes && this.#rawEntries > 0) this.#endBlock();
    if (this.#rawLength + ENTRY_OVERHEAD_MAX + valueLength > this.#raw.length) {
      this.#enlargeBlock(valueLength);
    }

    const raw = this.#raw;
    let at = this.#rawLength;
    if (this.#rawEntries === 0) {
      this.#beginBlock(block, lsn);
      at = putKey(raw, at, this.#key, 0);
      at = setVarint(raw, at, lsn - this.#lsnStart);
    } else if (block === previous) {
      raw[at++] = KEY_SIZE;
      at = setVarint(raw, at, lsn - this.#lsn);
    } else {
      // Leading bytes shared: of the space if it is new, else of the block number.
      const shared = previous < 0 ? this.#spaceShared : SPACE_LENGTH + (Math.clz32(block ^ previous) >> 3);
      setBlockNumber(this.#key, block);
      at = putKey(raw, at, this.#key, shared);
      at = setVarint(raw, at, lsn - this.#lsnStart);
    }
    raw[at++] = flags;
    at = setVarint(raw, at, valueLength);
    if (hole >= 0) {
      setU32(raw, at, hole);
      at += 4;
    }
    if (length <= LOOP_COPY_MAX) {
      for (const end = offset + length; offset < end;) raw[at++] = bytes[offset++];
    } else {
      raw.set(bytes.subarray(offset, offset + length), at);
      at += length;
    }
    this.#rawLength = at;
    this.#rawEntries++;
    this.#block = block;
    this.#lsn = lsn;
    if (lsn > this.#lsnMax) this.#lsnMax = lsn;
  }

  /** The chunks finished since the last call, in order of the file; they belong to the caller. */
  take(): Uint8Array[] {
    return this.#chunks.take();
  }

  /**
   * Ends the file; the rest of it is in {@linkcode take}.
   *
   * @throws {RangeError} If there is neither an entry nor a key range, or a range does not hold the entries.
   */
  finish(options: FinishOptions = {}): LayerSummary {
    if (this.#finished) throw new TypeError("Cannot finish a layer twice");
    if (this.#rawEntries > 0) this.#endBlock();
    const range = this.#finalRange(options);
    this.#finished = true;
    const indexOffset = this.#chunks.written;
    const index = this.#index.bytes();
    this.#chunks.append(index, index.length);
    const counts = {
      entryCount: this.#entryCount,
      blockCount: this.#index.rowCount,
      rawBytes: this.#rawBytes,
    };
    const footer = encodeFooter({
      ...range,
      ...counts,
      kind: this.#kind,
      complete: this.#complete,
      blockBytes: this.#blockBytes,
      indexOffset,
      indexLength: index.length,
      indexCrc: crc32c(index, 0, index.length),
    });
    this.#chunks.append(footer, footer.length);
    this.#chunks.end();
    this.#raw = new Uint8Array(0);
    const checksum = footerChecksum(footer);
    return {
      ...range,
      ...counts,
      kind: this.#kind,
      complete: this.#complete,
      size: this.#chunks.written,
      checksum,
    };
  }

  #finalRange(options: FinishOptions): { keyMin: Key; keyMax: Key; lsnStart: Lsn; lsnEnd: Lsn } {
    const lsnEnd = options.lsnEnd ?? this.#lsnEndGiven ?? Math.max(this.#lsnMax, this.#lsnStart) + 1 as Lsn;
    if (lsnEnd <= this.#lsnMax || lsnEnd <= this.#lsnStart || lsnEnd > this.#lsnLimit) {
      throw new RangeError(
        `Cannot finish a layer at LSN ${formatLsn(lsnEnd)}: entries or the start lie beyond it`,
      );
    }
    const first = this.#keyMin;
    const last = first === undefined ? undefined : decodeKey(this.#block < 0 ? this.#lastKey : this.#key, 0);
    const keyMin = options.keyMin ?? first;
    const keyMax = options.keyMax ?? last;
    if (keyMin === undefined || keyMax === undefined) {
      throw new RangeError("Cannot finish a layer without entries: expected a key range");
    }
    const holds = compareKeys(keyMin, keyMax) <= 0 &&
      (first === undefined || compareKeys(keyMin, first) <= 0) &&
      (last === undefined || compareKeys(last, keyMax) <= 0);
    if (!holds) throw new RangeError("Cannot finish a layer: the key range does not hold its entries");
    return { keyMin, keyMax, lsnStart: this.#lsnStart, lsnEnd };
  }

  /** Notes what the index will say of the block that the entry opens, and makes its key the current one. */
  #beginBlock(block: number, lsn: number): void {
    this.#continues = this.#block === block;
    setBlockNumber(this.#key, block);
    this.#firstKey.set(this.#key);
    this.#firstLsn = lsn;
    this.#keyMin ??= decodeKey(this.#key, 0);
  }

  #endBlock(): void {
    const rawLength = this.#rawLength;
    setU32(this.#raw, 0, this.#rawEntries);
    let stored = this.#raw;
    let storedLength = rawLength;
    let codec = CODEC_NONE;
    if (this.#codec !== undefined) {
      const compressed = this.#codec.compress(this.#raw.subarray(0, rawLength));
      if (compressed.length < rawLength) {
        stored = compressed;
        storedLength = compressed.length;
        codec = this.#codec.id;
      }
    }
    const crc = crc32c(stored, 0, storedLength);
    const firstLsn = this.#firstLsn - this.#lsnStart;
    this.#index.add(this.#firstKey, firstLsn, storedLength, rawLength, codec, this.#continues, crc);
    this.#chunks.append(stored, storedLength);
    this.#entryCount += this.#rawEntries;
    this.#rawBytes += rawLength;
    this.#rawLength = BLOCK_HEADER_LENGTH;
    this.#rawEntries = 0;
    // A value of many megabytes must not cost them for good.
    if (this.#raw.length > this.#blockBytes + CHUNK_LENGTH) this.#raw = this.#newBlockBuffer();
  }

  #newBlockBuffer(): Uint8Array {
    return new Uint8Array(this.#blockBytes + ENTRY_OVERHEAD_MAX);
  }

  #enlargeBlock(valueLength: number): void {
    const grown = new Uint8Array(this.#rawLength + ENTRY_OVERHEAD_MAX + valueLength);
    grown.set(this.#raw.subarray(0, this.#rawLength));
    this.#raw = grown;
  }

  #refuse(block: number, lsn: Lsn, flags: number, bytes: Uint8Array, offset: number, length: number): never {
    if (this.#finished) throw new TypeError("Cannot add to a layer: it is finished");
    if (this.#space === undefined) throw new TypeError("Cannot add to a layer: no space was begun");
    if (block >>> 0 !== block) throw new RangeError(`Cannot add to a layer: block ${block} is not 32 bits`);
    if (!(lsn >= this.#lsnStart && lsn < this.#lsnLimit)) {
      throw new RangeError(
        `Cannot add to a layer: LSN ${lsn} lies outside ${this.#lsnStart} to ${this.#lsnLimit}`,
      );
    }
    if (block < this.#block || (block === this.#block && lsn <= this.#lsn)) {
      throw new RangeError(
        `Cannot add to a layer: (block, LSN) must ascend, got (${block}, ${lsn}) after (${this.#block}, ${this.#lsn})`,
      );
    }
    if ((flags & 0xff) !== flags) {
      throw new RangeError(`Cannot add to a layer: flags ${flags} are not 8 bits`);
    }
    throw new RangeError(
      `Cannot add to a layer: value [${offset}, ${
        offset + length
      }) outside its ${bytes.length} bytes or too long`,
    );
  }
}

/** Key bytes in front of the block number. */
const SPACE_LENGTH = KEY_SIZE - 4;

function checkSpace(space: KeySpace): void {
  const { family, a, b, c, d } = space;
  if ((family & 0xff) !== family || a >>> 0 !== a || b >>> 0 !== b || c >>> 0 !== c || (d & 0xff) !== d) {
    throw new RangeError(
      `Cannot write a key of space ${family}/${a}/${b}/${c}/${d}: a number is out of range`,
    );
  }
}

function setBlockNumber(key: Uint8Array, block: number): void {
  key[14] = block >>> 24;
  key[15] = block >>> 16;
  key[16] = block >>> 8;
  key[17] = block;
}
