/**
 * A timeline that is flushed and kept up, and its twin, which holds the same WAL in memory: whatever upkeep does to the
 * one, reads of both must agree at every LSN.
 *
 * @module
 */
import { NotFoundError } from "../../src/errors.ts";
import { FAMILY_RELATION } from "../../src/layer/key.ts";
import type { Lsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import type { TimelineReader } from "../../src/read/get_page.ts";
import { compact, type CompactOptions } from "../../src/upkeep/compact.ts";
import { type ImageOptions, makeImages } from "../../src/upkeep/images.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { assert } from "../support/harness.ts";
import {
  copyDatabaseRecord,
  createRecord,
  DB,
  dropDatabaseRecord,
  filledPage,
  imageRecord,
  pageRecord,
  SPC,
  truncateRecord,
} from "../support/made_wal.ts";
import type { SeededRandom } from "../support/random.ts";
import { WrittenTimeline, type WrittenTimelineOptions } from "../support/written_timeline.ts";

export const RELS = [16384, 16385, 16386, 20000] as const;
export const DBS = [DB, DB + 1] as const;
const BLOCKS = 12;

/** Small enough that a few records make several layers. */
export const SMALL = { layerBytes: 40_000, imageDeltaBytesMin: 1000 };

export class Twins {
  readonly kept: WrittenTimeline;
  readonly plain: WrittenTimeline;
  /** Ends of all records. */
  readonly lsns: Lsn[] = [];
  /** All records, and those of the timeline that this one is a branch of, up to there. */
  readonly #records: Uint8Array[] = [];
  readonly #random: SeededRandom;

  private constructor(kept: WrittenTimeline, plain: WrittenTimeline, random: SeededRandom) {
    this.kept = kept;
    this.plain = plain;
    this.#random = random;
  }

  static async open(random: SeededRandom, options: WrittenTimelineOptions = {}): Promise<Twins> {
    return new Twins(await WrittenTimeline.open(options), await WrittenTimeline.open(), random);
  }

  /** The number of the record that ends at an LSN, those of what this is a branch of counted first. */
  numberOf(lsn: Lsn): number {
    return this.#records.length - this.lsns.length + this.lsns.indexOf(lsn);
  }

  /** Twins of a branch that was made of this timeline at the end of record number `index`. */
  async branched(name: string, index: number, random: SeededRandom): Promise<Twins> {
    const { store, clock } = this.kept;
    const plain = await WrittenTimeline.open();
    const twins = new Twins(await WrittenTimeline.open({ store, clock, name }), plain, random);
    twins.#records.push(...this.#records.slice(0, index + 1));
    for (const record of twins.#records) await plain.write(record);
    twins.lsns.push(plain.timeline.lastRecordLsn);
    return twins;
  }

  get target(): UpkeepTarget {
    const { attached, store, clock, manifest } = this.kept;
    return UpkeepTarget.ofWriter({ attached, store, clock }, manifest);
  }

  async write(...records: Uint8Array[]): Promise<void> {
    this.#records.push(...records);
    this.lsns.push(...await this.kept.write(...records));
    await this.plain.write(...records);
  }

  /** Records of all that may happen to pages and their spaces. */
  async writeRandom(count: number): Promise<void> {
    for (let n = 0; n < count; n++) await this.write(this.#record());
  }

  #record(): Uint8Array {
    const random = this.#random;
    const rel = random.pick(RELS);
    const block = random.int(0, random.pick([1, 3, BLOCKS - 1]));
    return random.weighted<() => Uint8Array>([
      [30, () => pageRecord({ rel, block, put: [...random.bytes(random.int(1, 200))] })],
      [8, () => imageRecord({ rel, block, image: filledPage(random.int(1, 255)) })],
      [6, () => pageRecord({ rel, block, init: true, put: [...random.bytes(20)] })],
      [3, () => truncateRecord(rel, random.int(0, 4))],
      [2, () => createRecord(rel)],
      [1, () => dropDatabaseRecord(DB + 1)],
      [1, () => copyDatabaseRecord(DB + 1, DB)],
    ])();
  }

  async flush(): Promise<void> {
    await this.kept.flush();
  }

  async compact(options: CompactOptions = {}) {
    return await compact(this.target, { ...SMALL, ...options });
  }

  async makeImages(options: ImageOptions = {}) {
    return await makeImages(this.target, { ...SMALL, ...options });
  }

  /** Compares some LSNs, the newest among them; with the manifest's history too. */
  async check(samples = 4): Promise<void> {
    const lsns = [this.lsns.at(-1)!, ...Array.from({ length: samples }, () => this.#random.pick(this.lsns))];
    for (const lsn of lsns) await this.checkAt(this.kept.reader, lsn);
    const durable = this.kept.timeline.remoteConsistentLsn;
    const attached = await attachReader({
      store: this.kept.store,
      clock: this.kept.clock,
      timeline: this.kept.timeline.name,
    });
    for (const lsn of lsns) if (lsn <= durable) await this.checkAt(attached.reader, lsn);
    await attached.close();
  }

  /** Every relation's size and pages, and all sizes ever. */
  async checkAt(reader: TimelineReader, lsn: Lsn): Promise<void> {
    const plain = this.plain.reader;
    const ever = async (each: TimelineReader) =>
      (await each.listSizesEver(FAMILY_RELATION, lsn)).map(
        ({ space, blocks, highWater }) => [space.b, space.c, space.d, blocks ?? null, highWater].join("/"),
      );
    assert.equal(await ever(reader), await ever(plain), `sizes at ${lsn}`);
    for (const db of DBS) {
      for (const rel of RELS) {
        const relation = { spc: SPC, db, rel };
        const size = await plain.relationSize(relation, 0, lsn);
        assert.is(await reader.relationSize(relation, 0, lsn), size);
        for (let block = 0; block < (size ?? 0); block++) {
          const what = `block ${block} of ${db}/${rel} at ${lsn}`;
          assert.equal(
            await pageOf(reader, relation, block, lsn),
            await pageOf(plain, relation, block, lsn),
            what,
          );
        }
      }
    }
  }

  async close(): Promise<void> {
    await this.kept.close();
    await this.plain.close();
  }
}

async function pageOf(
  reader: TimelineReader,
  relation: { spc: number; db: number; rel: number },
  block: number,
  lsn: Lsn,
): Promise<string> {
  try {
    const page = await reader.getPage(relation, 0, block, lsn);
    let hash = 0;
    for (const byte of page) hash = (Math.imul(hash, 31) + byte) | 0;
    return `${hash} ${page.subarray(0, 8).toHex()} ${page.subarray(100, 110).toHex()}`;
  } catch (error) {
    if (error instanceof NotFoundError) return "none";
    throw error;
  }
}
