/**
 * `varve info`: the timelines of a store, what each was made from, and what can be read and restored of it.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import type { Manifest } from "../timeline/manifest.ts";
import { readManifest } from "../timeline/manifest_store.ts";
import { timelineOfManifestKey, timelinesPrefix } from "../timeline/object_keys.ts";
import { Cleanup } from "./cleanup.ts";
import { optional, type OptionValues } from "./config.ts";
import { EXIT_OK } from "./exit_codes.ts";
import { openForReading } from "./stores.ts";
import { formatBytes, plural, timelineValue } from "./values.ts";
import { describeHistory, historyRows, type WindowTimes, windowTimes } from "./info_history.ts";
import { type ShownWindow, shownWindow, windowRows } from "./info_window.ts";
import { COMMON, defineVerb, jsonDocument, STORE, type VerbContext } from "./verb.ts";

const OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: optional("NAME", "Only this one (default: all)", timelineValue),
};

export const infoVerb = defineVerb({
  name: "info",
  summary: "Show the timelines of a store and the LSNs that can be read.",
  options: OPTIONS,
  run: ({ values }, context) => runInfo(values, context),
});

async function runInfo(values: OptionValues<typeof OPTIONS>, context: VerbContext): Promise<number> {
  const { terminal, reporter } = context;
  await using cleanup = new Cleanup();
  const { store } = await openForReading(values.store, context);
  cleanup.defer(() => store.close());
  const names = values.timeline === undefined ? await listTimelines(store) : [values.timeline];
  const timelines: TimelineInfo[] = [];
  for (const name of names) {
    const stored = await readManifest(store, name);
    // One that is gone since it was listed is none.
    if (stored !== undefined) {
      const { manifest } = stored;
      const times = await windowTimes(store, manifest, context);
      timelines.push(describeTimeline(manifest, times, await shownWindow(store, manifest)));
    }
    if (stored === undefined && values.timeline !== undefined) {
      throw unknownTimeline(name, store, await listTimelines(store));
    }
  }
  const document = { store: store.description, timelines };
  const shown = { ...document, timelines: timelines.map(({ rows: _, ...rest }) => rest) };
  await terminal.write(reporter.json ? jsonDocument(shown) : asText(document));
  return EXIT_OK;
}

/** Names of all timelines, in order. */
async function listTimelines(store: ObjectStore): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of store.list(timelinesPrefix())) {
    const name = timelineOfManifestKey(key);
    if (name !== undefined) names.push(name);
  }
  return names;
}

function unknownTimeline(name: string, store: ObjectStore, known: string[]): NotFoundError {
  const hint = known.length === 0
    ? "It has no timelines at all; `varve follow` or `varve import` makes one."
    : `It has: ${known.join(", ")}.`;
  return new NotFoundError(`Cannot show timeline "${name}": ${store.description} has none of that name`, {
    hint,
  });
}

/** What is known of a timeline from its manifest. Sizes in bytes. */
interface TimelineInfo {
  readonly name: string;
  readonly systemId: string;
  readonly major: number;
  readonly tli: number;
  readonly walSegmentSize: number;
  readonly blockSize: number;
  readonly dataChecksums: boolean;
  /** Writers so far. */
  readonly epoch: number;
  readonly committedAt: string;
  readonly startLsn: string;
  /** What can be read, both ends included. */
  readonly window: WindowTimes & { readonly from: string; readonly to: string; readonly walBytes: number };
  readonly consistentLsn: string;
  readonly durableLsn: string;
  readonly layers: { readonly count: number; readonly delta: number; readonly image: number };
  readonly sizes: { readonly total: number; readonly delta: number; readonly image: number };
  /** What can be restored, by what the store has. */
  readonly recoverable: ShownWindow;
  readonly history: ReturnType<typeof describeHistory>;
  /** For people. */
  readonly rows: readonly [string, string][];
}

function describeTimeline(manifest: Manifest, times: WindowTimes, recoverable: ShownWindow): TimelineInfo {
  const { facts, consistentLsn, diskConsistentLsn, layers } = manifest;
  const count = { count: layers.length, delta: 0, image: 0 };
  const sizes = { total: 0, delta: 0, image: 0 };
  for (const { name, size } of layers) {
    const kind = parseLayerName(name)?.kind;
    sizes.total += size;
    if (kind === undefined) continue;
    count[kind]++;
    sizes[kind] += size;
  }
  const floorLsn = Math.max(consistentLsn, manifest.cutoffLsn) as Lsn;
  const from = formatLsn(floorLsn);
  const to = formatLsn(diskConsistentLsn);
  return {
    name: manifest.timeline,
    systemId: facts.systemId,
    major: facts.major,
    tli: manifest.tli,
    walSegmentSize: facts.walSegmentSize,
    blockSize: facts.blockSize,
    dataChecksums: facts.dataChecksums,
    epoch: manifest.epoch,
    committedAt: new Date(manifest.committedAtMs).toISOString(),
    startLsn: formatLsn(manifest.startLsn),
    window: { from, to, walBytes: Math.max(0, diskConsistentLsn - floorLsn), ...times },
    consistentLsn: formatLsn(consistentLsn),
    durableLsn: to,
    layers: count,
    sizes,
    recoverable,
    history: describeHistory(manifest),
    rows: [...windowRows(recoverable), ...historyRows(manifest, times)],
  };
}

function asText({ store, timelines }: { store: string; timelines: TimelineInfo[] }): string {
  if (timelines.length === 0) {
    return `${store} has no timelines. \`varve follow\` or \`varve import\` makes one.\n`;
  }
  return timelines.map((timeline) => {
    const { layers, sizes, window } = timeline;
    const isReadable = timeline.window.walBytes > 0 || window.from === window.to;
    const rows = [
      [
        "cluster",
        `PostgreSQL ${timeline.major}, system ${timeline.systemId}, timeline ${timeline.tli}, ` +
        `checksums ${timeline.dataChecksums ? "on" : "off"}, ${
          formatBytes(timeline.walSegmentSize)
        } segments`,
      ],
      [
        "window",
        isReadable
          ? `${window.from} to ${window.to}, ${formatBytes(window.walBytes)} of WAL`
          : `none yet: readable from ${window.from} on, WAL is durable up to ${window.to}`,
      ],
      ...timeline.rows,
      ["starts at", timeline.startLsn],
      [
        "layers",
        `${layers.count} (${layers.image} image, ${layers.delta} delta), ${formatBytes(sizes.total)}`,
      ],
      ["written", `${timeline.committedAt} by ${plural(timeline.epoch, "writer")} so far`],
    ];
    return `timeline ${timeline.name} in ${store}\n` +
      rows.map(([name, value]) => `  ${name.padEnd(10)} ${value}\n`).join("");
  }).join("\n");
}
