/**
 * The checksum of a data page, `pd_checksum`: 32 interleaved FNV-1a-like sums.
 *
 * Restore computes it for every page it writes to a cluster with checksums; verification and base backups check it.
 *
 * Source: PostgreSQL src/include/storage/checksum_impl.h (14-18). Lane `j` takes words `j`, `j + 32`, ...: per word
 * `sum = (sum ^ word) * FNV_PRIME ^ (sum ^ word) >>> 17`; then two rounds of zero, all lanes xored, xored with the block
 * number, reduced to 1..65535. `pd_checksum` itself counts as zero.
 *
 * @module
 */
import { BLCKSZ, type Page } from "./page.ts";

const FNV_PRIME = 16777619;
const N_SUMS = 32;
const WORDS = BLCKSZ / 4;
/** `pd_checksum` is the lower half of this word. */
const CHECKSUM_WORD = 2;

// deno-fmt-ignore -- a table
const BASE_OFFSETS = Int32Array.of(
  0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
  0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
  0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
  0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
);

/**
 * The value that `pd_checksum` of the page must have as block `block` of its fork. Does not change the page; a page
 * that is new has none, and the result means nothing then.
 */
export function pageChecksum(page: Page, block: number): number {
  const words = page.u32;
  let result = 0;
  // Four lanes at a time: independent multiplications that the processor overlaps, few enough to stay in registers.
  for (let lane = 0; lane < N_SUMS; lane += 4) {
    let a: number = BASE_OFFSETS[lane];
    let b: number = BASE_OFFSETS[lane + 1];
    let c: number = BASE_OFFSETS[lane + 2];
    let d: number = BASE_OFFSETS[lane + 3];
    for (let index = lane; index < WORDS; index += N_SUMS) {
      a ^= words[index];
      b ^= words[index + 1];
      c ^= index === CHECKSUM_WORD - 2 ? words[index + 2] & 0xffff0000 : words[index + 2];
      d ^= words[index + 3];
      a = Math.imul(a, FNV_PRIME) ^ a >>> 17;
      b = Math.imul(b, FNV_PRIME) ^ b >>> 17;
      c = Math.imul(c, FNV_PRIME) ^ c >>> 17;
      d = Math.imul(d, FNV_PRIME) ^ d >>> 17;
    }
    result ^= finish(a) ^ finish(b) ^ finish(c) ^ finish(d);
  }
  return ((result ^ block) >>> 0) % 65535 + 1;
}

/** Two rounds of zero, for more mixing. */
function finish(sum: number): number {
  const once = Math.imul(sum, FNV_PRIME) ^ sum >>> 17;
  return Math.imul(once, FNV_PRIME) ^ once >>> 17;
}
