/**
 * CRC-32C as a WebAssembly module, assembled here: faster than the same in JavaScript by a fifth or more, because its
 * memory needs no bounds checks and is read eight bytes at a time at any alignment.
 *
 * A leaf, used by crc32c.ts only, which has the same in JavaScript for runtimes that compile no module at run time
 * (workerd, pages whose security policy forbids it). The module has a small memory of its own; bytes are copied in.
 *
 * Some kilobytes or more are folded first, four times as fast as looked up. x^209 + x^144 + x^54 + x^39 + x^14 + 1 is a
 * multiple of the polynomial P, the shortest of six terms; so is its 128th power, which in GF(2) is the same with all
 * exponents times 128 bits: x^(128*209) = x^(128*144) + x^(128*54) + x^(128*39) + x^(128*14) + 1 modulo P. So 16 bytes
 * anywhere may be taken away if they are xored into those 65, 155, 170, 195 and 209 times 16 bytes further on, and what
 * is left after all but the last 209 * 16 bytes have gone that way has the same CRC as the whole. The shortest multiple of
 * eight terms, x^79 + x^75 + ..., then leaves 79 * 16 of them.
 * ```
 * memory     0  16 tables of 256 words: table k at 1024 * k is the effect of a byte that k more bytes follow
 *        16384  16 bytes 00, 16 bytes ff: the 16 at 16384 + n have their last n set
 *        16416  16 bytes 00, 4 bytes ff, 12 bytes 00: those at 16416 + n have the first 4 of the last n set
 *        16448  16 words: what of four bytes ff is left to be xored once n bytes have passed
 *        16512  the bytes that were copied in, up to 128 KiB
 *     131072  209 * 16 bytes 00, then what each 16 bytes had become when they were taken away
 * ```
 *
 * @module
 */

const MASKS = 16384;
const FIRST_FOUR = 16416;
const LEFT_OF_FOUR = 16448;
const DATA = 16512;
const FOLDED = 131072;
/** Exponents of x, but for the factor 128: x to the first is the sum of x to the others. */
const FOLDS = [[209, 144, 54, 39, 14, 0], [79, 75, 71, 58, 18, 12, 1, 0]];
/** Bytes that are left by folding. */
const UNFOLDED = 16 * FOLDS[0][0];
/** Bytes that can be folded at a time. */
export const FOLD_MAX = 48 * 1024;
/** Below this looking up is quicker. */
export const FOLD_MIN = 2 * UNFOLDED;

/** The module's functions and the memory that they work on. */
export interface Crc32cModule {
  /** Bytes to work on are copied in here; positions below count from its beginning. */
  readonly data: Uint8Array;
  /** The bare register after `data[start, end)`. */
  update(crc: number, start: number, end: number): number;
  /** The same of {@linkcode FOLD_MIN} to {@linkcode FOLD_MAX} bytes, which it changes. Undefined without vectors. */
  readonly updateLong: ((crc: number, start: number, end: number) => number) | undefined;
  /**
   * Goes over WAL records laid end to end from `start`, 8-aligned, as long as they are whole, padding included, and their
   * `xl_crc` is right.
   * Returns where the first one begins that is not, or the end.
   */
  recordsEnd(start: number, end: number): number;
}

/** Makes the module, or returns undefined where the runtime does not let us. */
export function openCrc32cModule(tables: Int32Array): Crc32cModule | undefined {
  return open(tables, true) ?? open(tables, false);
}

function open(tables: Int32Array, hasVectors: boolean): Crc32cModule | undefined {
  try {
    const instance = new WebAssembly.Instance(new WebAssembly.Module(assemble(hasVectors)));
    const { memory, update, updateLong, recordsEnd } = instance.exports as {
      memory: WebAssembly.Memory;
      update(crc: number, start: number, end: number): number;
      updateLong?(crc: number, start: number, end: number): number;
      recordsEnd(start: number, end: number): number;
    };
    const words = new Int32Array(memory.buffer);
    words.set(tables);
    words.fill(-1, (MASKS + 16) >> 2, (MASKS + 32) >> 2);
    words[(FIRST_FOUR + 16) >> 2] = -1;
    for (let passed = 0; passed < 4; passed++) words[(LEFT_OF_FOUR >> 2) + passed] = -1 >>> (8 * passed);
    return {
      data: new Uint8Array(memory.buffer, DATA, FOLDED - DATA),
      update: (crc, start, end) => update(crc, DATA + start, DATA + end),
      updateLong: updateLong && ((crc, start, end) => updateLong(crc, DATA + start, DATA + end)),
      recordsEnd: (start, end) => recordsEnd(DATA + start, DATA + end) - DATA,
    };
  } catch {
    return undefined; // there is no WebAssembly, or none that is made at run time
  }
}

/** WebAssembly in binary: sections and instructions are numbers in a row (W3C, WebAssembly Core Specification, 5). */
type Code = number[];

const I32 = 0x7f;
const I64 = 0x7e;
const END: Code = [0x0b];
const I32_NE: Code = [0x47];
const I32_LT_U: Code = [0x49];
const I32_GT_U: Code = [0x4b];
const I32_GE_U: Code = [0x4f];
const I32_ADD: Code = [0x6a];
const I32_SUB: Code = [0x6b];
const I32_AND: Code = [0x71];
const I32_XOR: Code = [0x73];
const I32_SHL: Code = [0x74];
const I32_SHR_U: Code = [0x76];
const I64_AND: Code = [0x83];
const I64_XOR: Code = [0x85];
const I64_SHR_U: Code = [0x88];
const I32_WRAP_I64: Code = [0xa7];
const I64_EXTEND_I32_U: Code = [0xad];
const V128_XOR: Code = [0xfd, 0x51];
const MEMORY_FILL: Code = [0xfc, 11, 0];

const get = (local: number): Code => [0x20, local];
const set = (local: number): Code => [0x21, local];
const tee = (local: number): Code => [0x22, local];
const i32 = (value: number): Code => [0x41, ...signed(value)];
const i64 = (value: number): Code => [0x42, ...signed(value)];
const load32 = (offset: number): Code => [0x28, 0, ...unsigned(offset)];
const load64 = (offset: number): Code => [0x29, 0, ...unsigned(offset)];
const store32 = (offset: number): Code => [0x36, 0, ...unsigned(offset)];
const load128 = (offset: number): Code => [0xfd, 0, 0, ...unsigned(offset)];
const store128 = (offset: number): Code => [0xfd, 11, 0, ...unsigned(offset)];
const call = (fn: number): Code => [0x10, fn];
const load8 = (offset: number): Code => [0x2d, 0, ...unsigned(offset)];
const block = (...body: Code[]): Code => [0x02, 0x40, ...body.flat(), ...END];
const loop = (...body: Code[]): Code => [0x03, 0x40, ...body.flat(), ...END];
const branch = (depth: number): Code => [0x0c, depth];
const branchIf = (depth: number): Code => [0x0d, depth];

function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [value & 0x7f | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): Code {
  return value >= -64 && value < 64 ? [value & 0x7f] : [value & 0x7f | 0x80, ...signed(value >> 7)];
}

/** Looks up byte `byte` of a 64-bit local in table `table`. */
function lookUp(local: number, byte: number, table: number): Code {
  // Shifted so that the byte comes to lie four times as high: words of a table are four bytes apart.
  const low = byte === 0 ? [...get(local), ...I32_WRAP_I64, ...i32(2), ...I32_SHL] : [];
  const word = byte === 0
    ? low
    : byte < 4
    ? [...get(local), ...I32_WRAP_I64, ...i32(8 * byte - 2), ...I32_SHR_U]
    : [...get(local), ...i64(8 * byte - 2), ...I64_SHR_U, ...I32_WRAP_I64];
  return [...word, ...i32(0x3fc), ...I32_AND, ...load32(1024 * table)];
}

/** The xor of all terms, in pairs of pairs: none waits for the one before. */
function xorAll(terms: Code[]): Code {
  if (terms.length === 1) return terms[0];
  const half = terms.length >> 1;
  return [...xorAll(terms.slice(0, half)), ...xorAll(terms.slice(half)), ...I32_XOR];
}

/** The register after the 16 bytes in two locals, into the first of which it has been xored. */
function fold16(first: number, second: number): Code {
  const terms = Array.from(
    { length: 16 },
    (_, index) => lookUp(index < 8 ? first : second, index & 7, 15 - index),
  );
  return xorAll(terms);
}

/** The same of the four bytes in the lower half of a 64-bit local. */
function fold4(local: number): Code {
  return xorAll([0, 1, 2, 3].map((byte) => lookUp(local, byte, 3 - byte)));
}

/** `for (; end - at >= size; at += size) body`. */
function forEach(size: number, at: number, end: number, ...body: Code[]): Code {
  const left = [...get(end), ...get(at), ...I32_SUB, ...i32(size)];
  return block(
    left,
    I32_LT_U,
    branchIf(0),
    loop(...body, get(at), i32(size), I32_ADD, set(at), left, I32_GE_U, branchIf(0)),
  );
}

/** Xors the register into the 64 bits on the stack. */
const xorIn = (crc: number): Code => [...get(crc), ...I64_EXTEND_I32_U, ...I64_XOR];
const word64 = (local: number): Code => [...get(local), ...load32(0), ...I64_EXTEND_I32_U];

function updateBody(): Code {
  const [crc, at, end, first, second] = [0, 1, 2, 3, 4];
  const step16 = [get(at), load64(0), xorIn(crc), set(first), get(at), load64(8), set(second)];
  const shifted = [...get(crc), ...i32(8), ...I32_SHR_U];
  const index = [...get(crc), ...get(at), ...load8(0), ...I32_XOR, ...i32(0xff), ...I32_AND];
  return [
    forEach(16, at, end, ...step16, fold16(first, second), set(crc)),
    forEach(4, at, end, word64(at), xorIn(crc), set(first), fold4(first), set(crc)),
    forEach(1, at, end, index, i32(2), I32_SHL, load32(0), shifted, I32_XOR, set(crc)),
    get(crc),
    END,
  ].flat();
}

/** Folds twice: see the head of the file. The register is xored into the first four bytes, and 0 goes on instead of it. */
function updateLongBody(): Code {
  const [crc, at, end] = [0, 1, 2];
  return [
    [...get(at), ...get(at), ...load32(0), ...get(crc), ...I32_XOR, ...store32(0)],
    ...FOLDS.map(fold),
    [...i32(0), ...get(at), ...get(end), ...call(0)],
    END,
  ].flat();
}

/** Folds what lies from local 1 to local 2; local 1 is then where the rest begins. */
function fold([from, ...into]: readonly number[]): Code {
  const [at, end, folded, stop] = [1, 2, 3, 4];
  const reach = 16 * from;
  const add = (local: number, bytes: number): Code => [...get(local), ...i32(bytes), ...I32_ADD];
  // The 16 bytes at `at + offset`, with all that has been folded into them.
  const sum = (offset: number): Code => [
    ...get(at),
    ...load128(offset),
    ...into.flatMap((each) => [...get(folded), ...load128(16 * each + offset), ...V128_XOR]),
  ];
  const take = (offset: number): Code => [...get(folded), ...sum(offset), ...store128(reach + offset)];
  const advance = (bytes: number): Code => [...add(folded, bytes), ...set(folded)];
  return [
    [...i32(FOLDED + UNFOLDED - reach), ...set(folded)],
    [...get(end), ...get(at), ...I32_SUB, ...i32(reach), ...I32_SUB, ...i32(-16), ...I32_AND],
    [...get(at), ...I32_ADD, ...set(stop)],
    forEach(64, at, stop, take(0), take(16), take(32), take(48), advance(64)),
    forEach(16, at, stop, take(0), advance(16)),
    // What is left takes in what has gone before it, and nothing of itself.
    [...add(folded, reach), ...i32(0), ...i32(reach), ...MEMORY_FILL],
    [...add(at, reach), ...set(stop)],
    forEach(16, at, stop, get(at), sum(0), store128(0), advance(16)),
    [...add(stop, -reach), ...set(at)],
  ].flat();
}

/**
 * A record's CRC is over what follows its header of 24 bytes, then over the header's first 20. The body's odd bytes come
 * first here, with zeros in front that leave a register of 0 as it is; the initial value, all ones, is xored into the first
 * four bytes instead. So every record is whole steps of 16 bytes, and few branches are guessed wrong.
 */
function recordsEndBody(): Code {
  const [at, end, total, crc, from, stop, odd, first, second] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const masked = (offset: number): Code =>
    [
      [...get(from), ...load64(offset), ...get(odd), ...load64(MASKS + offset), ...I64_AND],
      [...get(odd), ...load64(FIRST_FOUR + offset), ...I64_XOR],
    ].flat();
  const step = (from: number, offset: number): Code =>
    [
      [...get(from), ...load64(offset), ...xorIn(crc), ...set(first)],
      [...get(from), ...load64(offset + 8), ...set(second), ...fold16(first, second), ...set(crc)],
    ].flat();
  const wanted = [...get(at), ...load32(20), ...i32(-1), ...I32_XOR];
  return [
    block(loop(
      [...get(end), ...get(at), ...I32_SUB, ...i32(24), ...I32_LT_U, ...branchIf(1)],
      [...get(at), ...load32(0), ...tee(total), ...i32(24), ...I32_LT_U, ...branchIf(1)],
      // Its padding must be there as well: the next one begins at or before the end.
      [
        ...get(total),
        ...get(end),
        ...get(at),
        ...I32_SUB,
        ...i32(-8),
        ...I32_AND,
        ...I32_GT_U,
        ...branchIf(1),
      ],
      [...get(at), ...get(total), ...I32_ADD, ...set(stop)],
      [...get(total), ...i32(24), ...I32_SUB, ...i32(15), ...I32_AND, ...tee(odd)],
      [...get(at), ...i32(24 - 16), ...I32_ADD, ...I32_ADD, ...set(from)],
      [...masked(0), ...set(first), ...masked(8), ...set(second), ...fold16(first, second)],
      [...get(odd), ...i32(2), ...I32_SHL, ...load32(LEFT_OF_FOUR), ...I32_XOR, ...set(crc)],
      [...get(from), ...i32(16), ...I32_ADD, ...set(from)],
      forEach(16, from, stop, step(from, 0)),
      step(at, 0),
      [...get(at), ...load32(16), ...I64_EXTEND_I32_U, ...xorIn(crc), ...set(first), ...fold4(first)],
      [...wanted, ...I32_NE, ...branchIf(1)],
      [...get(at), ...get(total), ...i32(7), ...I32_ADD, ...i32(-8), ...I32_AND, ...I32_ADD, ...set(at)],
      branch(0),
    )),
    get(at),
    END,
  ].flat();
}

function assemble(hasVectors: boolean): Uint8Array<ArrayBuffer> {
  const vector = (items: Code[]): Code => [...unsigned(items.length), ...items.flat()];
  const section = (id: number, content: Code): Code => [id, ...unsigned(content.length), ...content];
  const name = (text: string): Code => [text.length, ...Array.from(text, (letter) => letter.charCodeAt(0))];
  const body = (locals: Code[], code: Code): Code => {
    const content = [...vector(locals), ...code];
    return [...unsigned(content.length), ...content];
  };
  const long = (...items: Code[]): Code[] => hasVectors ? items : [];
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
    ...section(1, vector([[0x60, 3, I32, I32, I32, 1, I32], [0x60, 2, I32, I32, 1, I32]])),
    ...section(3, vector([[0], [1], ...long([0])])),
    ...section(5, vector([[1, 3, 3]])), // memory: exactly three pages of 64 KiB
    ...section(
      7,
      vector([
        [...name("update"), 0, 0],
        [...name("recordsEnd"), 0, 1],
        ...long([...name("updateLong"), 0, 2]),
        [...name("memory"), 2, 0],
      ]),
    ),
    ...section(
      10,
      vector([
        body([[2, I64]], updateBody()),
        body([[5, I32], [2, I64]], recordsEndBody()),
        ...long(body([[2, I32]], updateLongBody())),
      ]),
    ),
  ]);
}
