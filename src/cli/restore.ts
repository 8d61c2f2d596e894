/**
 * `varve restore`: a data directory as of an LSN, a time, a transaction or a restore point, that stock PostgreSQL starts on.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import process from "node:process";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { RestoreTarget } from "../ports/restore_target.ts";
import { type AttachedTimeline, attachReader } from "../read/attach.ts";
import { timestampOfLsn } from "../read/time.ts";
import { AuthIdRelationId, findDatabase, readSharedNames } from "../restore/catalog_names.ts";
import type { RestoreSummary } from "../restore/options.ts";
import { bytesToFetch, type PreparedRestore, prepareRestore, writeRestore } from "../restore/restore.ts";
import { type VerifiedDirectory, verifyDirectory } from "../restore/verify.ts";
import { backupDirectory } from "../store/directory_files.ts";
import { restoreDirectory } from "../store/restore_directory.ts";
import { restoreTar } from "../store/restore_tar.ts";
import { type BootReport, bootServer } from "./boot_server.ts";
import { Cleanup } from "./cleanup.ts";
import type { OptionValues } from "./config.ts";
import { EXIT_CORRUPTION, EXIT_FAILED, EXIT_OK, UsageError } from "./exit_codes.ts";
import { BytesProgress } from "./progress.ts";
import { ownerOf, RESTORE_OPTIONS, targetLsn } from "./restore_options.ts";
import { Shutdown } from "./shutdown.ts";
import { openForReading, type StoreTally } from "./stores.ts";
import { formatBytes, formatDuration, formatRate, plural } from "./values.ts";
import { defineVerb, jsonDocument, type VerbContext } from "./verb.ts";

type RestoreValues = OptionValues<typeof RESTORE_OPTIONS>;

/** `BOOTSTRAP_SUPERUSERID`. */
const BOOTSTRAP_SUPERUSER = 10;
const DEFAULT_SUPERUSER = "postgres";

export const restoreVerb = defineVerb({
  name: "restore",
  summary: "Write a data directory as of any LSN or time, that stock PostgreSQL starts on.",
  details:
    "DIR must be empty or new; with --as tar it is - for standard output. What is written has a name of its own\n" +
    "until it is whole. The cluster gets a fresh timeline number, so that its WAL archive never mixes with the\n" +
    "primary's; its configuration is as it was backed up, archive_command included: look at it before you start.\n\n" +
    "  varve restore --store s3://bucket/prefix --at '2025-06-01 12:00:00+02' /var/lib/postgresql/17/restored\n" +
    "  varve restore --store … --at 0/16B3748 --verify --boot /usr/lib/postgresql/17/bin DIR",
  options: RESTORE_OPTIONS,
  operands: "DIR",
  run: ({ values, operands }, context) => runRestore(values, operands, context),
});

/** What `--json` shows, and what the receipt holds. Durations in milliseconds. */
interface Receipt {
  readonly timeline: string;
  readonly directory: string;
  readonly restored: Omit<RestoreSummary, "lsn" | "checkPointLsn"> & { lsn: string; checkPointLsn: string };
  /** When the last transaction at or before the LSN ended. */
  readonly time: string | null;
  readonly database: string | null;
  readonly dryRun: boolean;
  readonly bytesToFetch: number;
  readonly requests: number;
  readonly bytesRead: number;
  readonly planMs: number;
  readonly writeMs: number;
  readonly verifyMs: number | null;
  readonly verify: VerifiedDirectory | null;
  readonly boot: BootReport | null;
}

async function runRestore(values: RestoreValues, operands: string[], context: VerbContext): Promise<number> {
  const directory = checkOperands(values, operands, context);
  const { clock, reporter } = context;
  const startedMs = clock.monotonicMs();
  using shutdown = new Shutdown(context.terminal);
  await using cleanup = new Cleanup();
  try {
    const { store, tally } = await openForReading(values.store, context);
    cleanup.defer(() => store.close());
    const attached = await attachReader({
      store,
      clock,
      timeline: values.timeline,
      events: reporter.onEvent,
    });
    cleanup.defer(() => attached.close());
    const { signal } = shutdown;
    const lsn = await targetLsn(attached.reader, values, signal);
    const options = {
      store,
      clock,
      signal,
      as: values.as === "standby" ? "standby" as const : "primary" as const,
      tli: values.keepTli ? "keep" as const : values.tli,
      database: values.db === undefined
        ? undefined
        : await findDatabase(attached.reader, values.db, lsn, signal),
    };
    // Before minutes of reading: a directory that cannot be written to is refused at once.
    const target = values.dryRun ? undefined : await openTarget(directory, values, context);
    const prepared = await prepareRestore(attached, lsn, options).catch(async (error) => {
      await target?.abort();
      throw error;
    });
    const run = { values, context, attached, prepared, tally, directory, startedMs, signal };
    return target === undefined ? await tell(run, {}) : await carryOut(run, target, options);
  } catch (error) {
    if (shutdown.exitCode !== undefined && shutdown.signal.aborted) return shutdown.exitCode;
    throw error;
  }
}

function checkOperands(values: RestoreValues, operands: string[], { terminal }: VerbContext): string {
  const [directory] = operands;
  if (operands.length !== 1) throw new UsageError("Cannot restore to several directories", "Name one DIR.");
  if ((values.as === "tar") !== (directory === "-")) {
    throw new UsageError(
      values.as === "tar" ? "Cannot write a tar stream to a directory" : "Cannot restore to -",
      "A tar stream goes to standard output: varve restore --as tar … - > cluster.tar",
    );
  }
  if (values.as === "tar") {
    if (terminal.isOutputTerminal && !values.dryRun) {
      throw new UsageError("Cannot write a tar stream to a terminal", "Send it to a file or program.");
    }
    if (values.verify !== undefined || values.boot !== undefined) {
      throw new UsageError("Cannot verify or boot a tar stream", "Unpack it, or restore to a directory.");
    }
  }
  if (values.as === "standby" && (values.boot !== undefined || values.tli !== undefined)) {
    throw new UsageError(
      "Cannot boot a standby, nor give it a timeline number of its own",
      "Leave out --boot and --tli.",
    );
  }
  return directory;
}

async function openTarget(
  directory: string,
  values: RestoreValues,
  context: VerbContext,
): Promise<RestoreTarget> {
  const owner = values.owner === undefined ? undefined : await ownerOf(values.owner);
  if (values.as === "tar") {
    const mtime = Math.floor(context.clock.now() / 1000);
    return restoreTar({ write: (bytes) => context.terminal.write(bytes), mtime, owner });
  }
  if (owner === undefined && process.getuid?.() === 0) {
    context.reporter.onEvent({
      level: "warn",
      topic: "restore.owner",
      message: "Run by root without --owner: the files will be root's, and PostgreSQL does not run as root",
    });
  }
  return await restoreDirectory(directory, {
    tablespaceMap: values.tablespaceMap,
    force: values.force,
    fsync: !values.noSync,
    owner,
  });
}

interface Run {
  readonly values: RestoreValues;
  readonly context: VerbContext;
  readonly attached: AttachedTimeline;
  readonly prepared: PreparedRestore;
  readonly tally: StoreTally;
  readonly directory: string;
  readonly startedMs: number;
  readonly signal: AbortSignal;
}

interface Results {
  readonly writeStartMs?: number;
  readonly writeMs?: number;
  readonly verifyMs?: number;
  readonly verify?: VerifiedDirectory;
  readonly boot?: BootReport;
}

async function carryOut(
  run: Run,
  target: RestoreTarget,
  options: Parameters<typeof writeRestore>[3],
): Promise<number> {
  const { values, context, attached, prepared, directory, signal } = run;
  const { clock } = context;
  const progress = new BytesProgress(context, "restore.progress", "restoring:");
  const writeStartMs = clock.monotonicMs();
  try {
    await writeRestore(attached, prepared, target, { ...options, onProgress: progress.update });
  } finally {
    progress.end();
  }
  const writeMs = clock.monotonicMs() - writeStartMs;
  let verify: VerifiedDirectory | undefined;
  let verifyMs: number | undefined;
  if (values.verify !== undefined) {
    const startMs = clock.monotonicMs();
    verify = await verifyDirectory(backupDirectory(directory), { lsn: prepared.plan.lsn, signal });
    verifyMs = clock.monotonicMs() - startMs;
  }
  const boot = values.boot === undefined ? undefined : await bootServer({
    binaries: values.boot,
    dataDir: directory,
    user: await superuserOf(run),
    database: values.db,
    owner: values.owner === undefined ? undefined : await ownerOf(values.owner),
    clock,
    signal,
  });
  return await tell(run, { writeStartMs, writeMs, verifyMs, verify, boot });
}

/** The superuser that initdb made, under its present name. */
async function superuserOf({ attached, prepared, signal }: Run): Promise<string> {
  const roles = await readSharedNames(attached.reader, AuthIdRelationId, prepared.plan.lsn, signal);
  return roles.find(({ oid }) => oid === BOOTSTRAP_SUPERUSER)?.name ?? DEFAULT_SUPERUSER;
}

/** Writes the receipt, tells the result, and returns the exit code. */
async function tell(run: Run, results: Results): Promise<number> {
  const { values, context, directory } = run;
  const { terminal, reporter } = context;
  const receipt = await makeReceipt(run, results);
  if (!values.dryRun && values.as !== "tar" && (values.receipt !== undefined || values.boot !== undefined)) {
    await writeFile(values.receipt ?? `${directory.replace(/\/+$/, "")}.receipt.json`, jsonDocument(receipt));
  }
  const text = reporter.json ? jsonDocument(receipt) : asText(receipt);
  // Standard output is the stream's.
  if (values.as === "tar" && !values.dryRun) terminal.line(text.trimEnd());
  else await terminal.write(text);
  if ((results.verify?.problemCount ?? 0) > 0) return EXIT_CORRUPTION;
  return (results.boot?.problemCount ?? 0) > 0 ? EXIT_FAILED : EXIT_OK;
}

async function makeReceipt(run: Run, results: Results): Promise<Receipt> {
  const { values, context, attached, prepared, tally, directory, startedMs, signal } = run;
  const { plan, summary } = prepared;
  const time = await timeOf(attached, plan.lsn, signal);
  const planEndMs = results.writeStartMs ?? context.clock.monotonicMs();
  return {
    timeline: values.timeline,
    directory,
    restored: {
      ...summary,
      lsn: formatLsn(summary.lsn),
      checkPointLsn: formatLsn(summary.checkPointLsn),
    },
    time,
    database: values.db ?? null,
    dryRun: values.dryRun,
    bytesToFetch: bytesToFetch(attached, plan),
    requests: tally.requests,
    bytesRead: tally.bytesRead,
    planMs: planEndMs - startedMs,
    writeMs: results.writeMs ?? 0,
    verifyMs: results.verifyMs ?? null,
    verify: results.verify ?? null,
    boot: results.boot ?? null,
  };
}

async function timeOf(attached: AttachedTimeline, lsn: Lsn, signal: AbortSignal): Promise<string | null> {
  const found = await timestampOfLsn(attached.reader, lsn, { signal }).catch(() => undefined);
  return found === undefined ? null : new Date(found.unixMicros / 1000).toISOString();
}

function asText(receipt: Receipt): string {
  const { restored, verify, boot } = receipt;
  const amount = `${plural(restored.relations, "relation")} of ${plural(restored.databases, "database")}, ${
    plural(restored.files, "file")
  }, ${formatBytes(restored.bytes)}`;
  const moment = `LSN ${restored.lsn}${receipt.time === null ? "" : ` (${receipt.time})`}`;
  if (receipt.dryRun) {
    return `would restore ${receipt.timeline} as of ${moment} to ${receipt.directory}: ${amount}; ` +
      `fetches at most ${formatBytes(receipt.bytesToFetch)}\n`;
  }
  const lines = [
    `restored ${receipt.timeline} as of ${moment} to ${receipt.directory}`,
    `  wrote     ${amount} in ${formatDuration(receipt.writeMs)}, ${
      formatRate(restored.bytes / Math.max(receipt.writeMs, 1) * 1000)
    }`,
    `  fetched   ${formatBytes(receipt.bytesRead)} in ${plural(receipt.requests, "request")}`,
    `  timeline  ${restored.tli}${
      restored.tli === restored.parentTli ? "" : `, which left ${restored.parentTli}`
    }`,
  ];
  if (restored.preparedTransactions > 0) {
    lines.push(
      `  prepared  ${plural(restored.preparedTransactions, "transaction")}: commit or roll them back`,
    );
  }
  if (verify !== null) {
    lines.push(
      `  verified  ${plural(verify.pages, "page")}, ${plural(verify.checksums, "checksum")}: ${
        found(verify)
      }`,
    );
  }
  if (boot !== null) {
    const checked = boot.amcheck
      ? `${plural(boot.heaps, "heap")} and ${plural(boot.indexes, "index").replace("indexs", "indexes")}: ${
        found(boot)
      }`
      : "amcheck is not installed: nothing checked";
    lines.push(`  booted    in ${formatDuration(boot.startMs)}; ${checked}`);
    lines.push(...boot.complaints.map((line) => `  log       ${line}`));
  }
  lines.push(
    ...[...verify?.problems ?? [], ...boot?.problems ?? []].map((problem) => `  problem   ${problem}`),
  );
  if (restored.role === "standby") {
    lines.push(
      `  standby   set primary_conninfo; the primary must still have WAL from ${restored.checkPointLsn} on`,
    );
  }
  return lines.join("\n") + "\n";
}

function found({ problemCount }: { problemCount: number }): string {
  return problemCount === 0 ? "no problem found" : plural(problemCount, "problem");
}
