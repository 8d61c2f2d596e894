/**
 * What the tests of the source share: reaching a test server, and reading its WAL and its files for comparison.
 *
 * @module
 */
import { postgresSource } from "../../../src/deps/postgres_source.ts";
import { systemClock } from "../../../src/deps/system_clock.ts";
import { type Lsn, parseLsn } from "../../../src/lsn.ts";
import type { VarveEvent } from "../../../src/ports/events.ts";
import { resolveConnection } from "../../../src/write/source/connection_options.ts";
import { openSession, type SourceAccess } from "../../../src/write/source/session.ts";
import type { SegmentDirectory } from "../../../src/write/source/archive.ts";
import type { WalChunk } from "../../../src/write/source/wal_source.ts";
import type { Cluster } from "../../support/postgres.ts";

/** Collects events instead of printing them. */
export interface RecordedAccess extends SourceAccess {
  recorded: VarveEvent[];
}

/** How to reach a server; `parameters` go behind the URL's question mark. */
export async function accessTo(
  cluster: Cluster | string,
  parameters = "sslmode=disable",
): Promise<RecordedAccess> {
  const base = typeof cluster === "string" ? cluster : cluster.replicationUrl;
  const connection = await resolveConnection({
    url: `${base}?${parameters}`,
    readTextFile: Deno.readTextFile,
  });
  const recorded: VarveEvent[] = [];
  return {
    driver: postgresSource.driver,
    connection,
    clock: systemClock,
    events: (event) => void recorded.push(event),
    recorded,
  };
}

/** Where the server's WAL ends, flushed. */
export async function flushedLsn(cluster: Cluster): Promise<Lsn> {
  const [{ position }] = await cluster.exec("SELECT pg_current_wal_flush_lsn() AS position");
  return parseLsn(position);
}

/** Where the server says that its WAL ends, asked as the source does. */
export async function identify(access: SourceAccess) {
  await using session = await openSession(access);
  return session.identity;
}

/** Writes about `mebibytes` of WAL. */
export async function writeWal(cluster: Cluster, mebibytes: number, table = "filler"): Promise<void> {
  await cluster.exec(
    `CREATE TABLE IF NOT EXISTS ${table} (id int, filler text);
     INSERT INTO ${table} SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, ${
      mebibytes * 1100
    }) AS i`,
  );
}

/** A source's chunks, joined, each checked to begin where the one before ended. */
export class ReceivedWal {
  start: Lsn | undefined;
  end = 0 as Lsn;
  bytes = 0;
  readonly chunks: WalChunk[] = [];
  readonly #keep: boolean;

  /** @param keep Whether to keep the bytes, or only count them. */
  constructor(keep = true) {
    this.#keep = keep;
  }

  take(chunk: WalChunk): void {
    if (this.start === undefined) this.start = chunk.startLsn;
    else if (chunk.startLsn !== this.end) throw new Error(`Gap: ${this.end} before ${chunk.startLsn}`);
    if (chunk.data.buffer.byteLength !== chunk.data.length) {
      throw new Error("The chunk is a view of something larger");
    }
    this.end = chunk.startLsn + chunk.data.length as Lsn;
    this.bytes += chunk.data.length;
    if (this.#keep) this.chunks.push(chunk);
  }
}

/** Reads until WAL up to `until` has come; cancels the stream then, unless told not to. */
export async function receiveUntil(
  stream: ReadableStream<WalChunk>,
  until: Lsn | (() => Lsn),
  received = new ReceivedWal(),
): Promise<ReceivedWal> {
  const target = typeof until === "function" ? until : () => until;
  for await (const chunk of stream) {
    received.take(chunk);
    if (received.end >= target()) break;
  }
  return received;
}

/** Throws at the first byte of `received` that differs from the server's own segment files. */
export async function compareWithSegments(
  cluster: Cluster,
  received: ReceivedWal,
  segmentSize: number,
): Promise<void> {
  let open: { name: string; bytes: Uint8Array } | undefined;
  for (const { startLsn, data, tli } of received.chunks) {
    for (let at = 0; at < data.length;) {
      const lsn = startLsn + at;
      const name = segmentName(lsn as Lsn, tli, segmentSize);
      if (open?.name !== name) {
        open = { name, bytes: await Deno.readFile(`${cluster.dataDir}/pg_wal/${name}`) };
      }
      const inSegment = lsn % segmentSize;
      const length = Math.min(data.length - at, segmentSize - inSegment);
      if (!equalBytes(data.subarray(at, at + length), open.bytes.subarray(inSegment, inSegment + length))) {
        throw new Error(`WAL differs from ${name} in ${inSegment}..${inSegment + length}`);
      }
      at += length;
    }
  }
}

/** `XLogFileName`. */
export function segmentName(lsn: Lsn, tli: number, segmentSize: number): string {
  const number = Math.floor(lsn / segmentSize);
  const perId = 0x1_0000_0000 / segmentSize;
  const hex = (value: number) => value.toString(16).toUpperCase().padStart(8, "0");
  return hex(tli) + hex(Math.floor(number / perId)) + hex(number % perId);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Processes of the server that send WAL or a backup at this moment. */
export async function walSenders(cluster: Cluster): Promise<number> {
  const [{ count }] = await cluster.exec(
    "SELECT count(*)::int AS count FROM pg_stat_activity WHERE backend_type = 'walsender'",
  );
  return count;
}

/** A folder of the file system, as the archive source reads it. */
export function directoryOf(path: string): SegmentDirectory {
  return {
    description: path,
    list: async () => {
      const files = [];
      for await (const { name, isFile } of Deno.readDir(path)) {
        if (isFile) files.push({ name, size: (await Deno.stat(`${path}/${name}`)).size });
      }
      return files;
    },
    read: async (name, offset, length) => {
      using file = await Deno.open(`${path}/${name}`);
      await file.seek(offset, Deno.SeekMode.Start);
      const bytes = new Uint8Array(length);
      let at = 0;
      for (
        let got = await file.read(bytes);
        got !== null && got > 0;
        got = await file.read(bytes.subarray(at))
      ) at += got;
      return bytes.subarray(0, at);
    },
  };
}
