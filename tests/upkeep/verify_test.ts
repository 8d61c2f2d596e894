/**
 * Verification, of real servers' WAL: what is right is found right, and what is not is named: by a redo that is wrong in
 * one byte, by a layer with one byte bent, by one that is damaged.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import type { Lsn } from "../../src/lsn.ts";
import { VISIBILITYMAP_FORKNUM } from "../../src/postgres/page/masks.ts";
import { type RedoFunction, redoRecord } from "../../src/postgres/redo/registry.ts";
import { describeBlockChange } from "../../src/postgres/wal/describe_blocks.ts";
import { describeRecord, fullRecordTypeName } from "../../src/postgres/wal/describe.ts";
import { DecodedRecord } from "../../src/postgres/wal/record.ts";
import { RM_HEAP2_ID, RM_HEAP_ID } from "../../src/postgres/wal/rmgr.ts";
import { attachReader } from "../../src/read/attach.ts";
import { pageHistory } from "../../src/read/page_history.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { layerPrefix } from "../../src/timeline/object_keys.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import type { VerifyDifference } from "../../src/upkeep/verify_report.ts";
import { type StoreVerifyOptions, verifyStore } from "../../src/upkeep/verify_store.ts";
import type { VerifyOptions } from "../../src/upkeep/verify_wal.ts";
import { importTimeline } from "../../src/varve.ts";
import { bendHintImage, bendLayerPage } from "../support/bent_layer.ts";
import { followCluster } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { startCluster } from "../support/postgres.ts";
import { runSteps, type VerifiedWal, verifiedWal } from "../support/verified_wal.ts";
import {
  openWalDirectory,
  profileOfDataDirectory,
  readControlPoints,
  readRecords,
} from "../support/wal_files.ts";

const test = suite("upkeep/verify", { timeoutMs: 360_000, sanitize: false });

const clock = systemClock;
/** `FirstNormalObjectId`: of databases that were made later. */
const FIRST_NORMAL_OID = 16384;
let wal: VerifiedWal;

test.before(async () => {
  wal = await verifiedWal(18);
});

test.after(async () => {
  await wal?.cluster.dispose();
});

async function importWal(from: VerifiedWal, store: MemoryStore, verify: VerifyOptions) {
  const imported = await importTimeline({
    store,
    clock,
    base: backupDirectory(from.base),
    wal: segmentDirectory(from.wal),
    checkpointDistance: 4 * 1024 * 1024,
    verify,
  });
  await imported.follower.done;
  await imported.close();
  return imported.verifier!.report;
}

async function verifyOf(store: MemoryStore, options: StoreVerifyOptions = {}) {
  const attached = await attachReader({ store, clock });
  try {
    return await verifyStore(attached, options);
  } finally {
    await attached.close();
  }
}

function forEachRecord({ base, wal }: VerifiedWal, visit: (record: DecodedRecord) => void): void {
  const profile = profileOfDataDirectory(base);
  const record = new DecodedRecord(profile);
  for (const batch of readRecords(openWalDirectory(wal), readControlPoints(base).redoLsn, profile)) {
    for (let index = 0; index < batch.count; index++) {
      record.decode(batch.bytes, batch.offsets[index], batch.endLsns[index] as Lsn);
      visit(record);
    }
  }
}

async function judgeAll(from: VerifiedWal): Promise<void> {
  const store = new MemoryStore();
  const report = await importWal(from, store, {});
  const total = report.total();
  assert.is(total.differences, 0, report.format());
  assert.is(total.unsupported + total.unread, 0);
  assert.ok(total.pages > 8000, `${total.pages} pages compared`);
  assert.ok(total.positions > 100, `${total.positions} positions compared`);
  for (const type of ["Heap/INSERT", "Btree/INSERT_LEAF", "Gin/INSERT", "Gist/PAGE_UPDATE", "Hash/INSERT"]) {
    assert.ok(report.counts(type).pages > 50, `${type}: ${report.counts(type).pages} pages compared`);
  }
  assert.ok(report.counts("XLOG/FPI_FOR_HINT").pages > 10, "images for hint bits");
  const stored = await verifyOf(store);
  assert.is(stored.report.total().differences, 0, stored.report.format());
  assert.ok(stored.report.counts("XLOG/FPI_FOR_HINT").pages > 10, "stored images for hint bits");
  assert.ok(
    stored.report.counts("SPGist/ADD_LEAF").pages > 5,
    "stored images that their record is redone for",
  );
  assert.ok(stored.report.counts("Btree/INSERT_LEAF").positions > 5, "stored images judged by position");
  assert.ok(stored.report.counts("page rebuilt").pages > 500, "pages rebuilt");
  assert.ok(stored.report.counts("page of the base backup").pages > 500, "pages of the base backup");
  assert.ok(stored.progress.layers > 3 && stored.progress.entries > 5000);
}

test("importTimeline({ verify }) and verifyStore() find nothing wrong with PostgreSQL 18", () =>
  judgeAll(wal));

test("importTimeline({ verify }) and verifyStore() find nothing wrong with PostgreSQL 14", async () => {
  await using older = await verifiedWal(14, { wal_compression: "on" });
  await judgeAll(older);
});

/** Redo that flips a byte of the row that one record inserts; which one and where is told. */
function wrongRedo(rel: number) {
  const wrong = { lsn: 0 as Lsn, block: 0, offset: 0 };
  const redo: RedoFunction = (page, record, target, context) => {
    redoRecord(page, record, target, context);
    const isInsert = record.rmid === RM_HEAP_ID && record.opInfo === 0 && record.blockRel[0] === rel;
    if (!isInsert || target.blockIndex !== 0 || target.block !== 5) return;
    if (wrong.lsn === 0) {
      Object.assign(wrong, { lsn: record.endLsn, block: target.block, offset: page.upper + 25 });
    }
    if (wrong.lsn === record.endLsn) page.u8[wrong.offset] ^= 0x5a;
  };
  return { wrong, redo };
}

test("importTimeline({ verify }) knows that visibility maps of a copied database come without content", async () => {
  await using copied = await verifiedWal(15, {}, async (cluster) => {
    await cluster.exec("CREATE DATABASE copied STRATEGY wal_log");
    await cluster.exec("CREATE TABLE more AS SELECT i FROM generate_series(1, 50) i", "copied");
    await cluster.exec("VACUUM", "copied");
  });
  let judged = 0;
  forEachRecord(copied, (record) => {
    const isMap = record.rmid === RM_HEAP2_ID && record.blockFork[0] === VISIBILITYMAP_FORKNUM;
    if (isMap && record.blockDb[0] >= FIRST_NORMAL_OID && record.hasImage(0)) judged++;
  });
  assert.ok(judged > 0, "maps of the copied database were changed");
  const report = await importWal(copied, new MemoryStore(), {});
  assert.is(report.total().differences, 0, report.format());
});

test("importTimeline({ verify }) tells of a redo that is wrong in one byte, once, with both pages", async () => {
  const { wrong, redo } = wrongRedo(wal.rel);
  const found: VerifyDifference[] = [];
  const onDifference = (difference: VerifyDifference) => found.push(difference);
  const report = await importWal(wal, new MemoryStore(), { redo, onDifference });
  assert.ok(wrong.lsn > 0, "the record came");
  assert.is(report.total().differences, 1, report.format());
  const [{ lsn, type, block, offset, got, expected, gotPage, expectedPage, record }] = found;
  assert.is(lsn, wrong.lsn);
  assert.is(type, "Heap/INSERT");
  assert.is(block, `1663/5/${wal.rel} blk 5`);
  assert.match(record, /^Heap\/INSERT end /);
  assert.is(offset, wrong.offset);
  assert.is(got! ^ expected!, 0x5a);
  assert.is(gotPage![offset!] ^ expectedPage![offset!], 0x5a);
});

test("verifyStore() tells of a layer with one byte of an image bent: LSN, block, offset", async () => {
  const store = new MemoryStore();
  await importWal(wal, store, { rate: 0.01 });
  const bent = await bendHintImage(store, clock, wal.rel);
  const found: VerifyDifference[] = [];
  const { report } = await verifyOf(store, { onDifference: (difference) => found.push(difference) });
  assert.ok(found.length > 0, report.format());
  const first = found.find(({ lsn }) => lsn === bent.lsn)!;
  assert.is(first.type, "XLOG/FPI_FOR_HINT");
  assert.is(first.block, `relation 1663/5/${wal.rel}/0 block ${bent.key.block}`);
  assert.is(first.offset, bent.offset);
  assert.is(first.gotPage![bent.offset] ^ first.expectedPage![bent.offset], 0x5a);
  for (const { block } of found) assert.is(block, first.block, "no other page differs");
});

test("verifyStore() judges pages that image layers have by the records below them", async () => {
  const store = new MemoryStore();
  await importWal(wal, store, { rate: 0.01 });
  const attached = await attachReader({ store, clock });
  await makeImages(UpkeepTarget.ofGuest({ attached, store, clock }), { everything: true });
  await attached.close();
  const { report } = await verifyOf(store);
  assert.is(report.total().differences, 0, report.format());
  assert.ok(report.counts("image of a layer").pages > 500, report.format());
  const bent = await bendLayerPage(store, clock, wal.rel);
  const found: VerifyDifference[] = [];
  const { report: second } = await verifyOf(store, { onDifference: (difference) => found.push(difference) });
  assert.is(second.total().differences, 1, second.format());
  const [{ lsn, type, block, offset, record }] = found;
  assert.equal({ lsn, type, offset }, { lsn: bent.lsn, type: "image of a layer", offset: bent.offset });
  assert.is(block, `relation 1663/5/${wal.rel}/0 block ${bent.key.block}`);
  assert.match(record, /^[0-9A-F]{36}-/, "the layer's name");
});

test("verifyStore() tells of a layer that is damaged, and of one that is gone, and goes on", async () => {
  const store = new MemoryStore();
  await importWal(wal, store, { rate: 0.01 });
  const layers: string[] = [];
  for await (const { key } of store.list(layerPrefix("main"))) layers.push(key);
  const { bytes } = await store.get(layers[0]);
  bytes[bytes.length >> 1] ^= 1;
  await store.put(layers[0], bytes);
  await store.delete(layers[1]);
  const { report, progress } = await verifyOf(store, { rate: 0.01 });
  const names = report.differences.filter(({ type }) => type === "layer").map(({ record }) => record);
  assert.equal(names.sort(), layers.slice(0, 2).map((key) => key.slice(layerPrefix("main").length)).sort());
  assert.is(progress.layers, progress.layersTotal);
});

test("follow({ verify }) judges a sample beside a server that is written to", async () => {
  await using cluster = await startCluster({ major: 17, checksums: true, settings: { autovacuum: "off" } });
  const following = await followCluster(cluster, new MemoryStore(), { verify: { rate: 0.5 } });
  await runSteps(cluster);
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  const { report, passedBytes } = following.verifier!;
  const { pages, positions, differences } = report.total();
  assert.is(differences, 0, report.format());
  assert.ok(pages + positions > 200, `${pages} pages, ${positions} positions, ${passedBytes} bytes passed`);
  assert.is(report.summary().toLsn !== null, true);
});

test("pageHistory() lists what touched a page, down to the beginning, and what began it", async () => {
  const store = new MemoryStore();
  await importWal(wal, store, { rate: 0.01 });
  const attached = await attachReader({ store, clock });
  const { reader, timeline, codecs } = attached;
  const relation = { spc: 1663, db: 5, rel: wal.rel };
  const events = [];
  for await (const event of pageHistory(reader, codecs.image, relation, 0, 0)) events.push(event);
  for (let index = 1; index < events.length; index++) assert.ok(events[index].lsn < events[index - 1].lsn);
  const types = new Set(events.map(({ manager, opcode }) => `${manager}/${opcode}`));
  for (const type of ["Heap/INSERT", "Heap/INSERT+INIT", "Heap/DELETE", "XLOG/FPI_FOR_HINT"]) {
    assert.ok(types.has(type), `${type} is among ${[...types].join(", ")}`);
  }
  const first = events.at(-1)!;
  assert.is(first.opcode, "INSERT+INIT");
  assert.is(first.startsAnew, true);
  assert.match(first.change, /^row inserted, page made anew; off 1, flags 0x/);
  const images = events.filter(({ kind }) => kind === "image");
  assert.ok(images.length > 3, "history goes on below images");
  assert.ok(images.some(({ xid, change }) => xid! > 0 && /bytes differ/.test(change)), "images in records");
  // Each event is a version of its own: the page read there carries that LSN, or its hint bits came without.
  for (const { lsn, kind } of events.slice(0, 20)) {
    const page = await reader.getPage(relation, 0, 0, lsn);
    assert.ok(page.length === 8192 && kind !== "dropped");
  }
  const [from, to] = [events[10].lsn, events[5].lsn];
  const part = [];
  for await (const event of pageHistory(reader, codecs.image, relation, 0, 0, { from, to })) {
    part.push(event.lsn);
  }
  assert.equal(part, events.slice(5, 11).map(({ lsn }) => lsn));
  const map = [];
  for await (const event of pageHistory(reader, codecs.image, relation, 2, 0)) map.push(event);
  assert.ok(map.some(({ change }) => /^bits set in the visibility map/.test(change)));
  assert.ok(map.some(({ change }) => /^bits cleared in the visibility map/.test(change)));
  assert.ok(timeline.lastRecordLsn >= events[0].lsn);
  await attached.close();
});

test("describeBlockChange() has words for every page that a record names", () => {
  const types = new Set<string>();
  forEachRecord(wal, (record) => {
    if (record.blockCount > 0) types.add(fullRecordTypeName(record.profile, record.rmid, record.info));
    for (let block = 0; block < record.blockCount; block++) {
      assert.match(describeBlockChange(record, block), /^[a-z][^|@]+/, describeRecord(record));
    }
  });
  assert.ok(types.size > 40, `${types.size} types`);
});

test.run();
