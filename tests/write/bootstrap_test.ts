/** Taking in a base backup: lengths of forks, odd files, order and pieces, manifests; without a server but for pg_control. */
import { crc32c } from "../../src/bytes/crc32c.ts";
import {
  CorruptionError,
  FencedError,
  NotFoundError,
  ProtocolError,
  UnavailableError,
} from "../../src/errors.ts";
import { FAMILY_RELATION, FAMILY_SLRU } from "../../src/layer/key.ts";
import type { BackupDirectory } from "../../src/ports/backup_directory.ts";
import type { VarveEvent } from "../../src/ports/events.ts";
import { formatCrc32c } from "../../src/postgres/files/backup_manifest.ts";
import { SLRU_XACT } from "../../src/postgres/page/slru.ts";
import { readManifest } from "../../src/timeline/manifest_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { bootstrapFromFiles } from "../../src/write/bootstrap_from_files.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { startCluster } from "../support/postgres.ts";

const test = suite("write/bootstrap", { timeoutMs: 60_000, sanitize: false });
const PAGE = 8192;
const SEGMENT_BLOCKS = 131_072;
const SPC = 1663;
const DB = 5;

let control: Uint8Array;

test.before(async () => {
  await using cluster = await startCluster({ major: 17, checksums: false });
  await cluster.stop("fast");
  control = await Deno.readFile(`${cluster.dataDir}/global/pg_control`);
});

const text = (value: string) => new TextEncoder().encode(value);

/** Pages of these bytes, one after the other. */
function pages(...bytes: number[]): Uint8Array {
  const file = new Uint8Array(bytes.length * PAGE);
  bytes.forEach((byte, index) => byte === 0 || file.set(filledPage(byte), index * PAGE));
  return file;
}

/** A stopped server's data directory with these files, besides what every one has. */
function directoryOf(
  files: Record<string, Uint8Array | number>,
  options: { pieceBytes?: number; reverse?: boolean } = {},
): BackupDirectory & { files: Map<string, Uint8Array | number> } {
  const { pieceBytes = 100_000, reverse = false } = options;
  const all = new Map<string, Uint8Array | number>(
    Object.entries({ PG_VERSION: text("17\n"), "global/pg_control": control, ...files }),
  );
  return {
    description: "made-up backup",
    files: all,
    async *entries() {
      const entries = [...all].map(([path, content]) => ({
        path,
        type: "file" as const,
        size: typeof content === "number" ? content : content.length,
      }));
      yield* reverse ? entries.reverse() : entries;
    },
    async *read(path) {
      const content = all.get(path);
      if (content === undefined) throw new NotFoundError(`Cannot read ${path}: it is not there`);
      if (typeof content === "number") {
        const piece = new Uint8Array(1 << 20);
        for (let at = 0; at < content; at += piece.length) {
          yield piece.subarray(0, Math.min(piece.length, content - at));
        }
        return;
      }
      for (let at = 0; at < content.length; at += pieceBytes) yield content.subarray(at, at + pieceBytes);
    },
  };
}

/** Adds a manifest of the files that are there, and a label. */
async function withManifest(
  base: ReturnType<typeof directoryOf>,
  edit: (files: Record<string, unknown>[]) => void = () => {},
): Promise<void> {
  const files: Record<string, unknown>[] = [...base.files].map(([path, content]) => {
    const bytes = content as Uint8Array;
    return {
      Path: path,
      Size: bytes.length,
      "Checksum-Algorithm": "CRC32C",
      Checksum: formatCrc32c(crc32c(bytes, 0, bytes.length)),
    };
  });
  edit(files);
  const head =
    `{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": ${JSON.stringify(files)},\n"WAL-Ranges": [\n` +
    `{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }\n],\n`;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text(head)));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  base.files.set("backup_manifest", text(`${head}"Manifest-Checksum": "${hex}"}\n`));
  base.files.set(
    "backup_label",
    text(
      "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n" +
        "BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-01-01 00:00:00 UTC\nLABEL: x\nSTART TIMELINE: 1\n",
    ),
  );
}

async function bootstrap(base: BackupDirectory, store = new BentStore(), events: VarveEvent[] = []) {
  const clock = new ManualClock();
  // Names of layers only.
  clock.random = Math.random;
  const writer = await bootstrapFromFiles({
    base,
    store,
    timeline: "main",
    clock,
    events: (event) => events.push(event),
  });
  const attached = await attachReader({ store, clock });
  const at = writer.manifest.diskConsistentLsn;
  const options = { evenInconsistent: true };
  return {
    store,
    manifest: writer.manifest,
    size: (rel: number, fork = 0) =>
      attached.reader.relationSize({ spc: SPC, db: DB, rel }, fork, at, options),
    byte: async (rel: number, block: number, fork = 0) =>
      (await attached.reader.getPage({ spc: SPC, db: DB, rel }, fork, block, at, options))[200],
    reader: attached.reader,
    at,
    options,
  };
}

test("BootstrapImporter: pages are what files hold, in pieces of any length and files in any order", async () => {
  for (const pieceBytes of [1000, 8192, 8191, 50_000]) {
    for (const reverse of [false, true]) {
      const base = directoryOf({
        "base/5/16384": pages(1, 0, 3),
        "base/5/16384_vm": pages(4),
        "base/5/16385": new Uint8Array(0),
        "base/5/16386": pages(5, 6).subarray(0, PAGE + 100),
        "pg_xact/0000": pages(7),
      }, { pieceBytes, reverse });
      const { size, byte, reader, at } = await bootstrap(base);
      assert.equal([await size(16384), await byte(16384, 0), await byte(16384, 1), await byte(16384, 2)], [
        3,
        1,
        0,
        3,
      ]);
      assert.equal([await size(16384, 2), await byte(16384, 0, 2)], [1, 4]);
      assert.equal([await size(16385), await size(16387)], [0, undefined]);
      assert.equal([await size(16386), await byte(16386, 0), await byte(16386, 1)], [2, 5, 0]);
      assert.is((await reader.getSlruPage(SLRU_XACT, 0, at))![200], 7);
      assert.is(await reader.getSlruPage(SLRU_XACT, 1, at), undefined);
    }
  }
});

test("BootstrapImporter: a fork ends with its first file that is not full, whatever truncation left behind it", async () => {
  for (const reverse of [false, true]) {
    const base = directoryOf({
      "base/5/16384": pages(1, 2),
      "base/5/16384.1": new Uint8Array(0),
      "base/5/16384.2": new Uint8Array(0),
      "base/5/16385": pages(3),
      "base/5/16385.1": pages(4),
      "base/5/16386.1": pages(5),
    }, { reverse });
    const { size, reader, at, options } = await bootstrap(base);
    assert.equal([await size(16384), await size(16385), await size(16386)], [2, 1, 0]);
    const ever = await reader.listSizesEver(FAMILY_RELATION, at, options);
    assert.equal(ever.map(({ highWater }) => highWater), [
      SEGMENT_BLOCKS * 2,
      SEGMENT_BLOCKS + 1,
      SEGMENT_BLOCKS + 1,
    ]);
  }
});

test("BootstrapImporter: a large fork of zeros has its length, in layers of bounded size", async () => {
  const { size, byte, manifest } = await bootstrap(
    directoryOf({ "base/5/16384": SEGMENT_BLOCKS * PAGE, "base/5/16384.1": pages(9) }),
  );
  assert.is(await size(16384), SEGMENT_BLOCKS + 1);
  assert.equal([await byte(16384, 5), await byte(16384, SEGMENT_BLOCKS)], [0, 9]);
  assert.ok(manifest.layers.length >= 1);
});

test("BootstrapImporter leaves out long files of others, and says so", async () => {
  const events: VarveEvent[] = [];
  const { size } = await bootstrap(
    directoryOf({ "log/postgresql.log": 65 * 1024 * 1024, "base/5/16384": pages(1) }),
    new BentStore(),
    events,
  );
  assert.is(await size(16384), 1);
  assert.equal(events.filter(({ level }) => level === "warn").map(({ topic }) => topic), [
    "bootstrap.skipped",
  ]);
});

test("bootstrapFromFiles() refuses blocks that no relation has", async () => {
  await assert.rejects(bootstrap(directoryOf({ "base/5/16384.99999": pages(1) })), CorruptionError);
  await assert.rejects(bootstrap(directoryOf({ "base/5/16384.4294967295": pages(1) })), CorruptionError);
});

test("bootstrapFromFiles() refuses files that are longer or shorter than announced", async () => {
  for (const change of [1, -1]) {
    const base = directoryOf({ "base/5/16384": pages(1) });
    const read = base.read;
    base.read = async function* (path) {
      for await (const piece of read(path)) {
        yield path !== "base/5/16384"
          ? piece
          : change < 0
          ? piece.subarray(1)
          : new Uint8Array(piece.length + 1);
      }
    };
    await assert.rejects(bootstrap(base), ProtocolError);
  }
});

test("bootstrapFromFiles() checks every file against the manifest, and the manifest itself", async () => {
  const make = () =>
    directoryOf({ "base/5/16384": pages(1, 2), "postgresql.auto.conf": text("# nothing\n") });
  const good = make();
  await withManifest(good);
  // As pg_basebackup -R does after the manifest was made.
  good.files.set("postgresql.auto.conf", text("primary_conninfo = 'host=example'\n"));
  good.files.set("standby.signal", new Uint8Array(0));
  const { byte, manifest } = await bootstrap(good);
  assert.is(await byte(16384, 1), 2);
  assert.equal([manifest.startLsn, manifest.consistentLsn], [0x2000028, 0x2000100]);

  const damages: ((base: ReturnType<typeof directoryOf>) => void)[] = [
    (base) => base.files.set("base/5/16384", pages(1, 3)),
    (base) => base.files.set("base/5/16384", pages(1)),
    (base) => base.files.set("base/5/16384", pages(1, 2, 0)),
    (base) => base.files.delete("base/5/16384"),
    (base) => {
      const bytes = base.files.get("backup_manifest") as Uint8Array;
      const at = new TextDecoder().decode(bytes).indexOf("0/2000100");
      base.files.set("backup_manifest", bytes.map((byte, index) => index === at + 8 ? byte + 1 : byte));
    },
  ];
  for (const [index, damage] of damages.entries()) {
    const base = make();
    await withManifest(base);
    damage(base);
    const store = new BentStore();
    await assert.rejects(bootstrap(base, store), CorruptionError, `damage ${index}`);
    assert.is(await readManifest(store, "main"), undefined, "no timeline");
  }
});

test("bootstrapFromFiles() that breaks off leaves no timeline, and the next one is not disturbed by its orphans", async () => {
  const base = directoryOf({ "base/5/16384": pages(1, 2), "pg_xact/0000": pages(7) });
  const store = new BentStore();
  store.before = (method, key) => {
    if (method === "put" && key.endsWith("manifest.json")) throw new UnavailableError("The store is away");
  };
  await assert.rejects(bootstrap(base, store), UnavailableError);
  assert.is(await readManifest(store.below, "main"), undefined);
  assert.ok(store.keysOf("put", "/layers/").length > 0, "an orphan");
  store.comeBack();
  const { size, manifest, reader, at } = await bootstrap(base, store);
  assert.is(await size(16384), 2);
  assert.is(manifest.layers.length, 1);
  assert.is((await reader.listSizes(FAMILY_SLRU, at)).length, 1);
});

test("bootstrapFromFiles() twice at once: one makes the timeline, the other is fenced", async () => {
  const store = new BentStore();
  const outcomes = await Promise.allSettled(
    [1, 2].map((byte) => {
      const clock = new ManualClock();
      clock.chances = [byte / 10, byte / 20, byte / 30];
      const base = directoryOf({ "base/5/16384": pages(byte) });
      return bootstrapFromFiles({ base, store, timeline: "main", clock });
    }),
  );
  const won = outcomes.findIndex(({ status }) => status === "fulfilled");
  const lost = outcomes[1 - won];
  assert.ok(lost.status === "rejected" && lost.reason instanceof FencedError);
  const { reader, timeline } = await attachReader({ store, clock: new ManualClock() });
  const page = await reader.getPage({ spc: SPC, db: DB, rel: 16384 }, 0, 0, timeline.lastRecordLsn);
  assert.is(page[200], won + 1, "the winner's layers are read");
});

test.run();
