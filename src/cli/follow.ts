/**
 * `varve follow`: follows a server into a timeline until it is told to stop.
 *
 * Ends in order (everything received is flushed first) at the first SIGINT or SIGTERM, at `--until`, and when the source
 * could not be reached for `--give-up-after`.
 *
 * @module
 */
import { postgresSource } from "../deps/postgres_source.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import { openLocalLayers } from "../store/local_layers.ts";
import { follow, type Following } from "../varve.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, flag, oneOf, optional, type OptionValues, text } from "./config.ts";
import { readText, sourceConnection } from "./credentials.ts";
import { UsageError } from "./exit_codes.ts";
import { LAYER_WRITING, openLayerWriting } from "./layer_writing.ts";
import { Outage } from "./outage.ts";
import { BytesProgress, FollowingProgress } from "./progress.ts";
import { RETENTION, retentionChange } from "./retention.ts";
import { Shutdown } from "./shutdown.ts";
import type { StatusServer } from "./status_server.ts";
import { openForWriting } from "./stores.ts";
import { writeSummary } from "./summary.ts";
import { durationValue, listenValue, lsnOr, sizeValue, slotValue } from "./values.ts";
import { COMMON, defineVerb, STORE, TIMELINE, type VerbContext } from "./verb.ts";
import { exitCodeOfReport, VERIFYING, verifyOptions } from "./verification.ts";

/** Options of verbs that write a timeline. */
export const WRITING = {
  store: STORE,
  timeline: TIMELINE,
  checkpointDistance: defaulted("SIZE", "WAL after which what is in memory is flushed", "256MiB", sizeValue),
  flushInterval: defaulted(
    "DURATION",
    "Age at which it is flushed even if there is less",
    "10m",
    durationValue,
  ),
  cache: optional("DIR", "Keeps local copies of layers here; one process at a time", text),
  cacheSize: optional(
    "SIZE",
    "Bytes of local copies; beyond, those used longest ago go, once stored (default: no limit)",
    sizeValue,
  ),
  ...LAYER_WRITING,
  ...VERIFYING,
};

const OPTIONS = {
  ...COMMON,
  ...WRITING,
  source: optional("URL", "postgres://user@host:port; the password better in PGPASSWORD or ~/.pgpass", text),
  sourceFile: optional("PATH", "File that holds the source's URL", text),
  slot: defaulted("NAME", "Replication slot, made where it is missing", "varve", slotValue),
  noSlot: flag("No slot: the server may recycle WAL before it is stored"),
  until: optional(
    "LSN|caught-up",
    "Stop there; caught-up: at the end of WAL when we connected",
    lsnOr("caught-up"),
  ),
  acknowledge: defaulted(
    "WHERE",
    "When the server may forget WAL: once it is in the store, or on disk (needs --cache)",
    "store",
    oneOf("store", "disk"),
  ),
  compact: defaulted(
    "WHEN",
    "Merge layers and make images beside following: auto, or off (then run varve compact now and then)",
    "auto",
    oneOf("auto", "off"),
  ),
  compactMemory: defaulted("SIZE", "Memory for layers that are being merged", "32MiB", sizeValue),
  ...RETENTION,
  grace: defaulted(
    "DURATION",
    "Objects of removed layers stay so long, for readers that are under way",
    "1h",
    durationValue,
  ),
  giveUpAfter: optional(
    "DURATION",
    "Fail when the source could not be reached for so long; else it is tried for ever",
    durationValue,
  ),
  feedback: defaulted(
    "KIND",
    "postgres, or neon when the source is a Neon safekeeper",
    "postgres",
    oneOf("postgres", "neon"),
  ),
  listen: optional(
    "HOST:PORT",
    "Serves the status page and metrics, for example on 127.0.0.1:9898",
    listenValue,
  ),
  listenTokenFile: optional(
    "PATH",
    "File with the bearer token that they ask for; or VARVE_LISTEN_TOKEN itself",
    text,
  ),
};

type FollowValues = OptionValues<typeof OPTIONS>;

export const followVerb = defineVerb({
  name: "follow",
  summary: "Follow a PostgreSQL server into a timeline; begins with a base backup if there is none yet.",
  details: "libpq's PG… variables say what the source's URL does not. SIGINT and SIGTERM stop it in order.",
  options: OPTIONS,
  run: ({ values }, context) => runFollow(values, context),
});

async function runFollow(values: FollowValues, context: VerbContext): Promise<number> {
  const { reporter, terminal, clock } = context;
  const startedMs = clock.monotonicMs();
  if (values.acknowledge === "disk" && values.cache === undefined) {
    throw new UsageError(
      "Cannot acknowledge what is on disk: --cache is missing",
      "Say where layers are kept on disk.",
    );
  }
  const retention = retentionChange(values);
  if (retention !== undefined && values.compact === "off") {
    throw new UsageError(
      "Cannot keep to --keep and --keep-wal with --compact=off: collection needs the images that it makes",
      "Leave out --compact=off, or run varve compact and varve gc now and then.",
    );
  }
  const connection = await sourceConnection(values, context.env, reporter);
  const token = await listenToken(values, context);
  using shutdown = new Shutdown(terminal);
  await using cleanup = new Cleanup();
  let server: StatusServer | undefined;
  const opened = await openForWriting(
    values.store,
    context,
    (call) => server?.metrics.onStoreCall(call),
    shutdown.signal,
  ).catch((error) => exitIfAsked(error, shutdown));
  if (typeof opened === "number") return opened;
  const { store } = opened;
  cleanup.defer(() => store.close());
  if (values.listen !== undefined) {
    const { startStatusServer } = await import("./status_server.ts");
    server = await startStatusServer({ listen: values.listen, store, token }, context);
    const { close } = server;
    cleanup.defer(close);
  }
  const backup = new BytesProgress({ terminal, reporter, clock }, "bootstrap.progress", "base backup:");
  const outage = new Outage(clock, values.giveUpAfter);
  const following = await follow({
    store,
    clock,
    source: { ...postgresSource, connection },
    timeline: values.timeline,
    local: await localLayers(values),
    fetching: { localBytes: values.cacheSize },
    ...openLayerWriting(values, cleanup),
    acknowledge: values.acknowledge,
    slot: values.noSlot || values.feedback === "neon" ? null : values.slot,
    feedback: values.feedback,
    until: values.until === "caught-up" ? undefined : values.until,
    checkpointDistance: values.checkpointDistance,
    flushIntervalMs: values.flushInterval,
    verify: verifyOptions(values, context),
    upkeep: values.compact === "auto" ? { readBytes: values.compactMemory } : false,
    retention,
    collection: { graceMs: values.grace },
    events: (event) => {
      if (event.topic === "bootstrap.done") backup.end();
      server?.metrics.onEvent(event);
      outage.onEvent(event);
      reporter.onEvent(event);
    },
    onBackupProgress: (progress) => {
      backup.update(progress);
      server?.board.onBackupProgress(progress);
    },
    onConnections: (change) => {
      server?.metrics.onConnections(change);
      outage.onConnections(change);
    },
    signal: shutdown.signal,
  }).catch((error) => exitIfAsked(error, shutdown)).finally(() => backup.end());
  if (typeof following === "number") return following;
  cleanup.defer(() => following.close());
  server?.board.add(following, connection.description);
  await runToEnd(values, following, { shutdown, outage }, context);
  await writeSummary({ ...following, opened, startedMs }, context);
  return exitCodeOfReport(following.verifier?.report);
}

/** Runs until something ends it; throws why, where that was not in order. */
async function runToEnd(
  values: FollowValues,
  following: Following,
  { shutdown, outage }: { shutdown: Shutdown; outage: Outage },
  { terminal, reporter, clock }: VerbContext,
): Promise<void> {
  const { follower, connection } = following;
  const progress = new FollowingProgress({ terminal, reporter, clock }, { ...following, connection });
  const ended = new AbortController();
  // Its outcome is that of `done`, which is waited for below.
  const stop = (message: string) => {
    reporter.onEvent({ level: "info", topic: "follow.stopping", message });
    follower.stop().catch(() => {});
  };
  shutdown.onAsked(() => stop("Asked to stop: flushing what was received; a second signal ends at once"));
  outage.onGiveUp(() => stop("Giving up on the source: flushing what was received"));
  if (values.until === "caught-up") {
    waitUntilCaughtUp(following, clock, ended.signal).then(
      (lsn) => stop(`Caught up at ${formatLsn(lsn)}`),
      () => {},
    );
  }
  try {
    await follower.done;
  } finally {
    ended.abort();
    progress.end();
  }
  if (outage.failure !== undefined) throw outage.failure;
}

/** Between two looks, and how long nothing may come in before that is taken for the end. */
const LOOK_MS = 50;
const QUIET_MS = 1000;

/**
 * Resolves with the last record's end once everything was taken in that the server had when we connected. Its last bytes
 * may be the beginning of a record whose rest is still to be written: then, once nothing has come for a moment.
 */
async function waitUntilCaughtUp(
  { timeline, connection }: Pick<Following, "timeline" | "connection">,
  clock: VerbContext["clock"],
  signal: AbortSignal,
): Promise<Lsn> {
  let target: Lsn | null = null;
  let last = { lsn: timeline.lastRecordLsn, atMs: clock.monotonicMs() };
  for (;;) {
    const { caughtUp, streamingLsn } = connection.current;
    if (caughtUp) target ??= streamingLsn ?? timeline.lastRecordLsn;
    const { lastRecordLsn } = timeline;
    const now = clock.monotonicMs();
    if (lastRecordLsn !== last.lsn) last = { lsn: lastRecordLsn, atMs: now };
    const isQuiet = now - last.atMs >= QUIET_MS;
    if (target !== null && caughtUp && (lastRecordLsn >= target || isQuiet)) return lastRecordLsn;
    await clock.sleep(LOOK_MS, signal);
  }
}

async function localLayers(
  values: { cache: string | undefined; timeline: string },
): Promise<LocalLayers | undefined> {
  // Copies that the timeline does not name are removed: each has a directory of its own.
  return values.cache === undefined ? undefined : await openLocalLayers(`${values.cache}/${values.timeline}`);
}

async function listenToken(values: FollowValues, { env }: VerbContext): Promise<string | undefined> {
  const token = values.listenTokenFile === undefined
    ? env.VARVE_LISTEN_TOKEN || undefined
    : (await readText("token file", values.listenTokenFile)).trim();
  if (token === undefined || /^[\x21-\x7e]+$/.test(token)) return token;
  throw new UsageError("Cannot use the token for --listen: expected one or more visible ASCII characters");
}

/** The exit code where a signal has broken off the start; else the error goes on. */
export function exitIfAsked(error: unknown, shutdown: Shutdown): number {
  if (shutdown.exitCode === undefined) throw error;
  return shutdown.exitCode;
}
