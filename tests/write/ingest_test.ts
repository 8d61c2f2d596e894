/** Ingest: forks that grow, shrink, go and come back; sizes; databases copied; all read from memory and from layers. */
import {
  CorruptionError,
  NotFoundError,
  ProtocolError,
  UnavailableError,
  UnsupportedError,
} from "../../src/errors.ts";
import {
  FAMILY_RELATION,
  FAMILY_RELATION_SIZE,
  VALUE_DROPPED,
  VALUE_KIND_MASK,
} from "../../src/layer/key.ts";
import type { Modification } from "../../src/layer/modification.ts";
import type { Lsn } from "../../src/lsn.ts";
import { ClusterState } from "../../src/postgres/effects/cluster_state.ts";
import type { RecordBatch } from "../../src/postgres/wal/record_batch.ts";
import { databaseContent } from "../../src/read/database_content.ts";
import { type IngestOptions, ingestWal } from "../../src/write/ingest.ts";
import { assert, suite } from "../support/harness.ts";
import {
  batchOf,
  copyDatabaseRecord,
  createRecord,
  DB,
  dropDatabaseRecord,
  filledPage,
  imageRecord,
  pageRecord,
  recordOf,
  truncateRecord,
} from "../support/made_wal.ts";
import { settle } from "../support/manual_clock.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("write/ingest");
const REL = 16384;

/** Runs a check on what is in memory, then on layers, then on layers as another process finds them. */
async function everywhere(
  written: WrittenTimeline,
  check: (written: WrittenTimeline) => Promise<void>,
): Promise<void> {
  await check(written);
  await written.flush();
  await check(written);
  await written.close();
  const again = await WrittenTimeline.open({ store: written.store });
  await check(again);
  await again.close();
}

/** Byte 200 of a page tells the image it was made of, byte 100 what was put on it. */
const imageByte = async (written: WrittenTimeline, block: number, at?: Lsn) =>
  (await written.page(REL, block, at))[200];
const putByte = async (written: WrittenTimeline, block: number, at?: Lsn) =>
  (await written.page(REL, block, at))[100];

test("WalIngest: a gap over an earlier life reads as zeros, and the earlier life where it was", async () => {
  const written = await WrittenTimeline.open();
  const first = [0, 1, 2, 3, 4, 5].map((block) => imageRecord({ block, image: filledPage(0x10 + block) }));
  const before = (await written.write(...first)).at(-1)!;
  const cut = await written.writeOne(truncateRecord(REL, 1));
  const after = await written.writeOne(imageRecord({ block: 4, image: filledPage(0x44) }));
  await everywhere(written, async (written) => {
    assert.is(await written.size(REL, before), 6);
    assert.is(await imageByte(written, 3, before), 0x13);
    assert.is(await written.size(REL, cut), 1);
    assert.is(await written.size(REL, after), 5);
    assert.is(await imageByte(written, 0, after), 0x10);
    for (const block of [1, 2, 3]) assert.is(await imageByte(written, block, after), 0, `block ${block}`);
    assert.is(await imageByte(written, 4, after), 0x44);
    await assert.rejects(written.page(REL, 5, after), NotFoundError);
  });
});

test("WalIngest: a relation dropped with its database and made again shows nothing of before", async () => {
  const written = await WrittenTimeline.open();
  await written.write(...[0, 1, 2].map((block) => imageRecord({ block, image: filledPage(0x21) })));
  const dropped = await written.writeOne(dropDatabaseRecord(DB));
  const created = await written.writeOne(createRecord(REL));
  const grown = await written.writeOne(imageRecord({ block: 2, image: filledPage(0x22) }));
  await everywhere(written, async (written) => {
    assert.is(await written.size(REL, dropped), undefined);
    assert.is(await written.size(REL, created), 0);
    assert.is(await imageByte(written, 1, grown), 0);
    assert.is(await imageByte(written, 2, grown), 0x22);
  });
});

test("WalIngest: blocks made out of order by one record start from zeros, over an earlier life too", async () => {
  for (const earlier of [false, true]) {
    const written = await WrittenTimeline.open();
    if (earlier) {
      await written.write(
        ...[0, 1, 2, 3, 4, 5].map((block) => imageRecord({ block, image: filledPage(0x33) })),
      );
      await written.writeOne(truncateRecord(REL, 0));
    }
    const at = await written.writeOne(pageRecord({ block: 5, put: [5] }, { block: 3, put: [3] }));
    await everywhere(written, async (written) => {
      assert.is(await written.size(REL, at), 6);
      assert.is(await putByte(written, 5, at), 5);
      assert.is(await putByte(written, 3, at), 3);
      for (const block of [0, 1, 2, 3, 4, 5]) {
        assert.is(await imageByte(written, block, at), 0, `block ${block}, earlier life: ${earlier}`);
      }
    });
  }
});

test("WalIngest: a record may change a block of a gap later, without an image", async () => {
  const written = await WrittenTimeline.open();
  const gap = await written.writeOne(pageRecord({ block: 3, put: [3] }));
  const filled = await written.writeOne(pageRecord({ block: 1, put: [1] }));
  await everywhere(written, async (written) => {
    assert.is(await putByte(written, 1, gap), 0);
    assert.is(await putByte(written, 1, filled), 1);
    assert.is(await putByte(written, 2, filled), 0);
  });
});

test("WalIngest: images and records that make their page end what was before", async () => {
  const written = await WrittenTimeline.open();
  const image = await written.writeOne(imageRecord({ block: 0, image: filledPage(0x51) }));
  const changed = await written.writeOne(pageRecord({ block: 0, put: [7] }));
  const made = await written.writeOne(pageRecord({ block: 0, put: [8], init: true }));
  await everywhere(written, async (written) => {
    assert.equal([await imageByte(written, 0, image), await putByte(written, 0, image)], [0x51, 0x51]);
    assert.equal([await imageByte(written, 0, changed), await putByte(written, 0, changed)], [0x51, 7]);
    assert.equal([await imageByte(written, 0, made), await putByte(written, 0, made)], [0, 8]);
  });
});

/** Sizes in a modification, by LSN. */
function sizesIn(written: WrittenTimeline, modification: Modification): number[] {
  const lsns: number[] = [];
  for (let index = 0; index < modification.count; index++) {
    if (written.timeline.spaces.familyOf(modification.space[index]) === FAMILY_RELATION_SIZE) {
      lsns.push(modification.lsn[index]);
    }
  }
  return lsns;
}

test("WalIngest: one record writes one size of a fork, however often it grows", async () => {
  const written = await WrittenTimeline.open();
  const batch = batchOf(written.timeline.lastRecordLsn, [
    pageRecord({ block: 0, put: [1] }, { block: 1, put: [1] }, { block: 2, put: [1] }),
    pageRecord({ block: 1, put: [2] }),
    truncateRecord(REL, 1),
  ]);
  const lsns: number[] = [];
  for await (const modification of written.ingest.ingest(batch)) lsns.push(...sizesIn(written, modification));
  assert.equal(lsns, [batch.endLsns[0], batch.endLsns[2]]);
  await written.close();
});

test("WalIngest: running over the same records again yields the same values", async () => {
  const records = [
    pageRecord({ block: 5, put: [5] }, { block: 3, put: [3] }),
    truncateRecord(REL, 2),
    imageRecord({ block: 4, image: filledPage(9) }),
  ];
  const texts: string[] = [];
  for (let round = 0; round < 2; round++) {
    const written = await WrittenTimeline.open();
    const batch = batchOf(written.timeline.lastRecordLsn, records);
    for await (const m of written.ingest.ingest(batch)) {
      const rows = Array.from(
        { length: m.count },
        (_, i) => [m.space[i], m.block[i], m.lsn[i], m.flags[i]].join(" "),
      );
      texts.push(rows.join("\n"));
    }
    await written.close();
  }
  assert.is(texts[0], texts[1]);
});

test("WalIngest refuses a record that is not aligned, and InvalidBlockNumber", async () => {
  const written = await WrittenTimeline.open();
  const batch = batchOf(written.timeline.lastRecordLsn, [pageRecord({ block: 0, put: [1] })]);
  batch.endLsns[0] += 4;
  await assert.rejects(written.ingest.ingest(batch).next(), ProtocolError);
  await assert.rejects(written.write(pageRecord({ block: 0xffff_ffff, put: [1] })), CorruptionError);
  await written.close();
});

/** A database of two relations: one with pages of zeros between others, one empty. */
async function withTemplate(): Promise<WrittenTimeline> {
  const written = await WrittenTimeline.open();
  await written.write(
    imageRecord({ block: 0, image: filledPage(0x61) }, { block: 3, image: filledPage(0x64) }),
    createRecord(REL + 1),
    imageRecord({ block: 0, rel: REL + 2, fork: 2, image: filledPage(0x71) }),
  );
  return written;
}
const COPY = 77;

async function checkCopy(written: WrittenTimeline, at: Lsn): Promise<void> {
  const byte = async (rel: number, block: number, fork = 0) =>
    (await written.page(rel, block, at, fork, COPY))[200];
  assert.equal([await byte(REL, 0), await byte(REL, 1), await byte(REL, 2), await byte(REL, 3)], [
    0x61,
    0,
    0,
    0x64,
  ]);
  assert.is(await written.size(REL, at, 0, COPY), 4);
  assert.is(await written.size(REL + 1, at, 0, COPY), 0);
  assert.is(await byte(REL + 2, 0, 2), 0x71);
  const listed = (await written.reader.listSizes(FAMILY_RELATION, at)).filter(({ space }) =>
    space.b === COPY
  );
  assert.equal(listed.map(({ space, blocks }) => [space.c, space.d, blocks]), [[REL, 0, 4], [REL + 1, 0, 0], [
    REL + 2,
    2,
    1,
  ]]);
}

test("WalIngest: a copied database is its template as of the record before", async () => {
  const written = await withTemplate();
  const at = await written.writeOne(copyDatabaseRecord(COPY, DB));
  await written.write(imageRecord({ block: 0, image: filledPage(0x99) }));
  await everywhere(written, (written) => checkCopy(written, at));
});

test("WalIngest: a database copied over an earlier one of its oid, with a freeze at every place", async () => {
  for (let freezeAt = 0; freezeAt < 6; freezeAt++) {
    const written = await withTemplate();
    // The earlier life: longer, and a relation that the template does not have.
    await written.write(
      imageRecord(...[0, 1, 2, 3, 4, 5].map((block) => ({ block, db: COPY, image: filledPage(0xee) }))),
      imageRecord({ block: 0, db: COPY, rel: REL + 9, image: filledPage(0xef) }),
      ...(freezeAt % 2 === 0 ? [] : [dropDatabaseRecord(COPY)]),
    );
    await written.flush();
    let modifications = 0;
    written.beforeAppend = () => {
      if (modifications++ >= freezeAt) written.timeline.freeze();
    };
    const at = await written.writeOne(copyDatabaseRecord(COPY, DB));
    written.timeline.freeze();
    await everywhere(written, async (written) => {
      await checkCopy(written, at);
      assert.is(await written.size(REL + 9, at, 0, COPY), undefined);
    });
  }
});

test("WalIngest: no key of a copied database is written twice with different values", async () => {
  const written = await withTemplate();
  await written.write(
    imageRecord(...[0, 1, 2, 3, 4, 5].map((block) => ({ block, db: COPY, image: filledPage(0xee) }))),
  );
  const batch = batchOf(written.timeline.lastRecordLsn, [copyDatabaseRecord(COPY, DB)]);
  const seen = new Set<string>();
  for await (const m of written.ingest.ingest(batch)) {
    for (let i = 0; i < m.count; i++) {
      const key = `${m.space[i]}/${m.block[i]}@${m.lsn[i]}`;
      assert.not.ok(
        seen.has(key),
        `${JSON.stringify(written.timeline.spaces.get(m.space[i]))} block ${m.block[i]}`,
      );
      seen.add(key);
      assert.ok((m.flags[i] & VALUE_KIND_MASK) !== VALUE_DROPPED || seen.size > 0);
    }
    written.timeline.append(m);
  }
  await written.close();
});

test("WalIngest: a writer that died in the middle of a copy does it again", async () => {
  const written = await withTemplate();
  await written.flush();
  const batch = batchOf(written.timeline.lastRecordLsn, [copyDatabaseRecord(COPY, DB)]);
  const ingesting = written.ingest.ingest(batch);
  for (let taken = 0; taken < 2; taken++) written.timeline.append((await ingesting.next()).value!);
  written.timeline.freeze();
  await written.flush();
  await written.close();
  const again = await WrittenTimeline.open({ store: written.store });
  assert.is(again.timeline.lastRecordLsn, batch.startLsn);
  assert.is(await again.size(REL, undefined, 0, COPY), undefined);
  const at = await again.writeOne(copyDatabaseRecord(COPY, DB));
  await everywhere(again, (written) => checkCopy(written, at));
});

const CUSTOM_MANAGER = 128;

test("WalIngest: records of unknown managers are counted, and their pages still grow", async () => {
  const written = await WrittenTimeline.open();
  await written.writeOne(recordOf(CUSTOM_MANAGER, 0, [{ block: 2, put: [1] }], new Uint8Array(0)));
  assert.equal(written.ingest.counters, { unsupportedRecords: 1, unsupportedPages: 0 });
  assert.is(await written.size(REL), 3);
  await assert.rejects(written.page(REL, 2), UnsupportedError);
  assert.is(await putByte(written, 1), 0);
  await written.close();
});

test("WalIngest: a template's page that cannot be rebuilt cannot be read in the copy, until it is written whole", async () => {
  const written = await withTemplate();
  await written.writeOne(recordOf(CUSTOM_MANAGER, 0, [{ block: 1, put: [1] }], new Uint8Array(0)));
  const at = await written.writeOne(copyDatabaseRecord(COPY, DB));
  assert.is(written.ingest.counters.unsupportedPages, 1);
  const healed = await written.writeOne(imageRecord({ block: 1, db: COPY, image: filledPage(0x42) }));
  await everywhere(written, async (written) => {
    const byte = async (block: number, lsn: Lsn) => (await written.page(REL, block, lsn, 0, COPY))[200];
    assert.is(await byte(0, at), 0x61);
    await assert.rejects(byte(1, at), UnsupportedError);
    assert.is(await byte(1, healed), 0x42);
  });
});

/** A timeline of a template, and the stage over it with a reader of databases that a test bends. */
async function stageOverTemplate(
  bend: (read: IngestOptions["readDatabase"]) => IngestOptions["readDatabase"],
) {
  const written = await withTemplate();
  const { timeline, reader, clock } = written;
  const stage = ingestWal({
    timeline,
    state: new ClusterState(),
    clock,
    readDatabase: bend((spc, db, lsn, signal) => databaseContent(reader, spc, db, lsn, signal)),
  });
  return { written, stage };
}

test("ingestWal(): a copy that the store interrupts is made anew when it answers again", async () => {
  let failures = 3;
  const { written, stage } = await stageOverTemplate((read) => async (...where) => {
    if (failures-- > 1) throw new UnavailableError("The store is away");
    const content = await read(...where);
    if (failures > -1) {
      const pages = content.pages;
      content.pages = (async function* () {
        for await (const group of pages) {
          yield group.slice(0, 2);
          throw new UnavailableError("The store is away again");
        }
      })();
    }
    return content;
  });
  written.clock.autoAdvance = true;
  const batch = batchOf(written.timeline.lastRecordLsn, [copyDatabaseRecord(COPY, DB)]);
  const writer = stage.writable.getWriter();
  const fed = writer.write(batch).then(() => writer.close());
  for await (const modification of stage.readable) written.timeline.append(modification);
  await fed;
  assert.ok(written.clock.sleeps.length >= 3);
  await everywhere(written, (written) => checkCopy(written, batch.endLsn));
});

test("ingestWal() reads on in a copied database only as fast as the sink takes it in", async () => {
  let groupsRead = 0;
  const { written, stage } = await stageOverTemplate((read) => async (...where) => ({
    ...await read(...where),
    pages: (async function* () {
      for (; groupsRead < 1000; groupsRead++) yield [];
    })(),
  }));
  const batch = batchOf(written.timeline.lastRecordLsn, [copyDatabaseRecord(COPY, DB)]);
  const writer = stage.writable.getWriter();
  const fed = writer.write(batch);
  const reader = stage.readable.getReader();
  for (let taken = 0; taken < 5; taken++) written.timeline.append((await reader.read()).value!);
  await settle();
  assert.ok(groupsRead < 5, `read ${groupsRead} groups ahead`);
  await reader.cancel("enough");
  await fed.catch(() => {});
  await written.close();
});

test("ingestWal() fails at both ends with what is wrong", async () => {
  const { written, stage } = await stageOverTemplate((read) => read);
  const writer = stage.writable.getWriter();
  const fed = writer.write(
    batchOf(written.timeline.lastRecordLsn, [pageRecord({ block: 0xffff_ffff, put: [1] })]),
  );
  fed.catch(() => {});
  const error = await assert.rejects(stage.readable.getReader().read(), CorruptionError);
  assert.is(await writer.closed.catch((reason) => reason), error);
  await written.close();
});

test("ingestWal(): what is wrong with the source reaches the sink as it is", async () => {
  const { written, stage } = await stageOverTemplate((read) => read);
  const source = new ReadableStream<RecordBatch>({
    pull: (controller) => controller.error(new UnavailableError("gone")),
  });
  await assert.rejects(source.pipeThrough(stage).getReader().read(), /gone/);
  await written.close();
});

test.run();
