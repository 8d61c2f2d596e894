/**
 * Real PostgreSQL servers, 14 to 18, on loopback: for tests, benches and the demo.
 *
 * ```ts
 * await using cluster = await startCluster({ major: 17, settings: { wal_level: "logical" } });
 * const [{ version }] = await cluster.sql()`SELECT version()`;
 * ```
 *
 * A server ends and its files go with `await using`, with `cluster.dispose()`, and when this process ends in whatever
 * way. It needs no root and, run by root, takes another user.
 *
 * @module
 */
import { guard } from "./processes.ts";
import { type Certificates, makeCertificates } from "./certificates.ts";
import { type PostgresBinaries, postgresBinaries, type PostgresMajor } from "./postgres_binaries.ts";
import { copyTemplate, initialise, type InitOptions, SUPERUSER_PASSWORD } from "./postgres_template.ts";
import { Cluster, formatSettings, type Settings } from "./postgres_cluster.ts";
import { freePort } from "./ports.ts";
import { removeTree, scratchDirectory } from "./temp.ts";

export { Cluster, type Settings, type StopMode } from "./postgres_cluster.ts";
export { POSTGRES_MAJORS, type PostgresMajor } from "./postgres_binaries.ts";

export interface ClusterOptions {
  major: PostgresMajor;
  /** Runs this build of the major on a data directory that the usual one has made. Default: the usual one. */
  server?: PostgresBinaries;
  /** Data page checksums. Default: true. */
  checksums?: boolean;
  /** Lines of `postgresql.conf`, over {@linkcode DEFAULT_SETTINGS}. */
  settings?: Settings;
  /** Power of two from 1 to 1024. Default: 16. */
  walSegmentSizeMb?: number;
  /** How connections prove who they are. Default: trust. */
  auth?: "trust" | "scram";
  /** Offers TLS with a certificate for these host names, or for localhost and 127.0.0.1. Default: no TLS. */
  tls?: boolean | { hosts: string[] };
  /** Replaces the lines of `pg_hba.conf`. */
  hba?: string[];
  /** Runs initdb anew, for a system identifier that no other cluster has (0.3 to 1.2 s). */
  ownSystemIdentifier?: boolean;
  /**
   * Takes this data directory (restored, backed up) instead of a fresh one: it is moved under the cluster's own
   * folder and removed with it. `settings` then go to the command line, `checksums`, `auth` and `tls` do not count.
   */
  dataDir?: string;
  /** Keeps the files off memory: for what measures disks, or grows beyond a few GiB. */
  onDisk?: boolean;
  /** Starts the server. Default: true. */
  start?: boolean;
}

/** No fsync, all else as a small primary has it. */
export const DEFAULT_SETTINGS: Settings = {
  fsync: "off",
  full_page_writes: "on",
  wal_level: "replica",
  max_wal_senders: 10,
  max_replication_slots: 10,
  max_prepared_transactions: 10,
  max_connections: 60,
  shared_buffers: "32MB",
  // Segments of the other kinds would outlive a killed server.
  dynamic_shared_memory_type: "mmap",
};

/** Makes a cluster with a port of its own, and starts it. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const binaries = await postgresBinaries(options.major);
  const rootDir = await Deno.realPath(
    await Deno.makeTempDir({
      prefix: `varve-pg${options.major}-`,
      dir: options.onDisk ? undefined : await scratchDirectory(),
    }),
  );
  const dataDir = `${rootDir}/data`;
  const guardian = guard(`${dataDir}/postmaster.pid`, rootDir);
  try {
    await Deno.chmod(rootDir, 0o755);
    if (binaries.user.uid !== undefined) {
      await Deno.chown(rootDir, binaries.user.uid, binaries.user.gid ?? null);
    }
    const tls = await fillDataDirectory(options, dataDir);
    const cluster = new Cluster({
      binaries: options.server ?? binaries,
      rootDir,
      dataDir,
      port: freePort(),
      password: options.auth === "scram" ? SUPERUSER_PASSWORD : undefined,
      tls,
      commandLine: options.dataDir === undefined ? {} : { ...DEFAULT_SETTINGS, ...options.settings },
      guardian,
    });
    if (options.start ?? true) await cluster.start();
    return cluster;
  } catch (error) {
    await removeTree(rootDir);
    await guardian.release();
    throw error;
  }
}

async function fillDataDirectory(
  options: ClusterOptions,
  dataDir: string,
): Promise<Certificates | undefined> {
  const binaries = await postgresBinaries(options.major);
  if (options.dataDir !== undefined) {
    await adoptDirectory(options.dataDir, dataDir, binaries.user);
    return undefined;
  }
  const init: InitOptions = {
    checksums: options.checksums ?? true,
    walSegmentSizeMb: options.walSegmentSizeMb ?? 16,
    auth: options.auth ?? "trust",
  };
  if (options.ownSystemIdentifier) await initialise(binaries, init, dataDir);
  else await copyTemplate(binaries, init, dataDir);
  const settings: Settings = { ...DEFAULT_SETTINGS, ...options.settings };
  let tls: Certificates | undefined;
  if (options.tls) {
    tls = await makeCertificates(options.tls === true ? ["localhost", "127.0.0.1"] : options.tls.hosts);
    await writeAs(binaries.user, `${dataDir}/server.crt`, tls.certificate);
    await writeAs(binaries.user, `${dataDir}/server.key`, tls.key);
    settings.ssl ??= "on";
  }
  const conf = `${dataDir}/postgresql.conf`;
  await Deno.writeTextFile(conf, formatSettings(settings), { append: true });
  if (options.hba !== undefined) {
    await Deno.writeTextFile(`${dataDir}/pg_hba.conf`, options.hba.join("\n") + "\n");
  }
  return tls;
}

async function writeAs(user: { uid?: number; gid?: number }, path: string, text: string): Promise<void> {
  await Deno.writeTextFile(path, text, { mode: 0o600 });
  if (user.uid !== undefined) await Deno.chown(path, user.uid, user.gid ?? null);
}

/** Moves a data directory to where a cluster has it, with the rights that a server insists on. */
async function adoptDirectory(from: string, to: string, user: { uid?: number; gid?: number }): Promise<void> {
  try {
    await Deno.rename(from, to);
  } catch {
    await new Deno.Command("cp", { args: ["-R", from, to] }).output(); // another file system
    await removeTree(from);
  }
  if (user.uid !== undefined) await chownTree(to, user.uid, user.gid ?? null);
  await Deno.chmod(to, 0o700);
}

async function chownTree(path: string, uid: number, gid: number | null): Promise<void> {
  await Deno.chown(path, uid, gid);
  for await (const entry of Deno.readDir(path)) {
    if (entry.isDirectory) await chownTree(`${path}/${entry.name}`, uid, gid);
    else if (entry.isFile) await Deno.chown(`${path}/${entry.name}`, uid, gid);
  }
}
