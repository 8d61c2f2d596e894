import { pageChecksum } from "../../../src/postgres/page/checksum.ts";
import { BLCKSZ, Page } from "../../../src/postgres/page/page.ts";
import { assert, suite } from "../../support/harness.ts";
import { POSTGRES_MAJORS, startCluster } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";

const test = suite("postgres/page/checksum", { sanitize: false });

/** FNV as checksum_impl.h has it, one lane after the other, in whole numbers. */
function slowChecksum(page: Page, block: number): number {
  const words = page.u32.slice();
  words[2] = (words[2] & 0xffff0000) >>> 0;
  // deno-fmt-ignore -- a table
  const offsets = [
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
  ];
  const mix = (sum: bigint, word: bigint) => {
    const mixed = sum ^ word;
    return BigInt.asUintN(32, mixed * 16777619n) ^ (mixed >> 17n);
  };
  let result = 0n;
  offsets.forEach((offset, lane) => {
    let sum = BigInt(offset);
    for (let at = lane; at < words.length; at += 32) sum = mix(sum, BigInt(words[at]));
    result ^= mix(mix(sum, 0n), 0n);
  });
  return Number((result ^ BigInt(block)) % 65535n) + 1;
}

test("pageChecksum() is the definition's, and does not depend on the checksum that is there", () => {
  const random = seededRandom("postgres/page/checksum");
  for (let round = 0; round < 20; round++) {
    const page = Page.from(random.bytes(BLCKSZ));
    const block = random.uint32();
    const expected = slowChecksum(page, block);
    assert.is(pageChecksum(page, block), expected);
    const before = page.u8.slice();
    assert.is(pageChecksum(page, block), expected);
    assert.equal(page.u8, before);
    page.checksum = random.int(0, 65535);
    assert.is(pageChecksum(page, block), expected);
  }
});

test("pageChecksum() is what real servers wrote, in all majors", async () => {
  for (const major of POSTGRES_MAJORS) {
    await using cluster = await startCluster({ major, checksums: true, start: false });
    let pages = 0;
    for (const { name } of Deno.readDirSync(`${cluster.dataDir}/base/1`)) {
      if (!/^\d+(_fsm|_vm)?$/.test(name)) continue;
      const bytes = Deno.readFileSync(`${cluster.dataDir}/base/1/${name}`);
      for (let block = 0; block < bytes.length / BLCKSZ; block++) {
        const page = Page.from(bytes.subarray(block * BLCKSZ, (block + 1) * BLCKSZ));
        if (page.isNew()) continue;
        if (pageChecksum(page, block) !== page.checksum) {
          assert.unreachable(`${major}: ${name} block ${block}`);
        }
        if (pageChecksum(page, block + 1) === page.checksum) {
          assert.unreachable(`${name} block ${block}: fits another too`);
        }
        pages++;
      }
    }
    assert.ok(pages > 300, `${major}: ${pages} pages`);
  }
});

test.run();
