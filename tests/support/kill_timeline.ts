/**
 * Small timelines over made-up WAL, for processes that are killed: made in no time, and judged page by page by a model.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { formatLayerName } from "../../src/layer/layer_name.ts";
import { formatLsn, type Lsn } from "../../src/lsn.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { ManifestWriter } from "../../src/timeline/manifest_store.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { type History, RELATIONS } from "../simulation/history.ts";
import { DB, SPC } from "./made_wal.ts";
import type { SeededRandom } from "./random.ts";
import { TEST_FACTS } from "./written_timeline.ts";

/** Makes a timeline that holds the history's base backup. */
export async function startTimeline(store: ObjectStore, timeline: string, history: History): Promise<void> {
  const { startLsn, consistentLsn, base } = history;
  const { kind, keyMin, keyMax, lsnStart, lsnEnd, size, checksum, complete } = base.summary;
  const name = formatLayerName({ kind, keyMin, keyMax, lsnStart, lsnEnd, epoch: 1, unique: 0 });
  await store.put(layerKey(timeline, name), base.file);
  await ManifestWriter.create(store, systemClock, {
    timeline,
    facts: TEST_FACTS,
    tli: 1,
    startLsn,
    consistentLsn,
    diskConsistentLsn: startLsn,
    layers: [{ name, size, checksum, complete, level: 0 }],
  });
}

/** What is wrong with a timeline's pages, at its newest LSN and some others; undefined: nothing. */
export async function judgeTimeline(
  store: ObjectStore,
  timeline: string,
  history: History,
  random: SeededRandom,
  moments: number,
): Promise<string | undefined> {
  const attached = await attachReader({ store, clock: systemClock, timeline });
  try {
    const { timeline: { floorLsn, lastRecordLsn }, reader } = attached;
    if (lastRecordLsn < floorLsn) return undefined;
    const ends = history.endsBetween(floorLsn, lastRecordLsn);
    const lsns = [lastRecordLsn, floorLsn, ...Array.from({ length: moments }, () => random.pick(ends))];
    for (const at of ends.length === 0 ? lsns.slice(0, 2) : lsns) {
      const wrong = await judgeAt(reader, history, at);
      if (wrong !== undefined) return `timeline "${timeline}", ${wrong}`;
    }
    return undefined;
  } finally {
    await attached.close();
  }
}

async function judgeAt(
  reader: Awaited<ReturnType<typeof attachReader>>["reader"],
  history: History,
  at: Lsn,
): Promise<string | undefined> {
  for (const rel of RELATIONS) {
    const relation = { spc: SPC, db: DB, rel };
    const blocks = history.sizeAt(rel, at);
    const got = await reader.relationSize(relation, 0, at) ?? 0;
    if (got !== blocks) return `${rel} at ${formatLsn(at)}: expected ${blocks} blocks, got ${got}`;
    for (let block = 0; block < blocks; block++) {
      const wrong = history.judgePage(rel, block, at, await reader.getPage(relation, 0, block, at));
      if (wrong !== undefined) return `block ${block} of ${rel} at ${formatLsn(at)}: ${wrong}`;
    }
  }
  return undefined;
}
