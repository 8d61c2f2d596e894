/**
 * What tests of the status endpoint share: a timeline without a server, a connection that is told what to show, and a
 * strict reader of Prometheus' text.
 *
 * @module
 */
import type { KeySpace } from "../../src/layer/key.ts";
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import { LayerMap } from "../../src/layer/layer_map.ts";
import { lsn } from "../../src/lsn.ts";
import type { TimelineParts } from "../../src/status/watched_timeline.ts";
import { Timeline } from "../../src/timeline/timeline.ts";
import { ConnectionStatusWatch } from "../../src/write/source/status.ts";

export const START_LSN = lsn(0x100_0000);
export const END_LSN = lsn(0x200_0000);

/** A layer that nobody can read. */
export function someLayer(
  name: string,
  kind: "delta" | "image",
  size: number,
  from: number,
): LayerDescriptor {
  const key = { family: 0, a: 1, b: 2, c: 3, d: 0, block: 0 };
  const [lsnStart, lsnEnd] = [lsn(from), lsn(kind === "image" ? from + 1 : from + 0x1000)];
  return {
    name,
    kind,
    keyMin: key,
    keyMax: key,
    lsnStart,
    lsnEnd,
    size,
    checksum: 0,
    complete: true,
    level: 0,
    epoch: 1,
  };
}

/** A timeline with one image layer of 1000 bytes and one delta layer of 500. */
export function someTimeline(name = "main"): Timeline {
  return new Timeline({
    name,
    facts: {
      systemId: "7300000000000000001",
      major: 17,
      walSegmentSize: 16 * 1024 * 1024,
      blockSize: 8192,
      dataChecksums: true,
      walLogHints: false,
    },
    tli: 1,
    startLsn: START_LSN,
    consistentLsn: lsn(START_LSN + 0x100),
    diskConsistentLsn: END_LSN,
    layers: LayerMap.of([
      someLayer("layer-image", "image", 1000, START_LSN),
      someLayer("layer-delta", "delta", 500, END_LSN - 0x1000),
    ]),
  });
}

/** A fork with a size, as ingest notes it. */
export function setSize(timeline: Timeline, space: Partial<KeySpace>, blocks: number): void {
  const id = timeline.spaces.internSpace({ family: 0, a: 1663, b: 5, c: 1, d: 0, ...space });
  timeline.sizes.set(id, blocks);
}

/** Parts as of a follower; `end` and `fail` settle it. */
export function someFollowing(timeline = someTimeline()) {
  const connection = new ConnectionStatusWatch();
  const { promise: done, resolve: end, reject: fail } = Promise.withResolvers<void>();
  done.catch(() => {});
  const counters = { unsupportedRecords: 3, unsupportedPages: 0 };
  const parts: TimelineParts = { timeline, connection, follower: { counters, done } };
  return { parts, timeline, connection, end, fail };
}

/** One line of Prometheus' text. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/**
 * Reads Prometheus' text format 0.0.4, whole.
 *
 * @throws {Error} If a line is malformed, or a sample belongs to no announced metric.
 */
export function parsePrometheus(text: string): Sample[] {
  const types = new Map<string, string>();
  const helped = new Set<string>();
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const meta = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line);
    if (meta?.[1] === "HELP") helped.add(meta[2]);
    else if (meta?.[1] === "TYPE" && /^(counter|gauge|histogram)$/.test(meta[3])) types.set(meta[2], meta[3]);
    else samples.push(parseSample(line));
  }
  for (const { name } of samples) {
    const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, "");
    if (!types.has(family) || !helped.has(family)) throw new Error(`No TYPE and HELP for ${name}`);
    if (types.get(family) === "counter" && !family.endsWith("_total")) {
      throw new Error(`${family} is no _total`);
    }
  }
  return samples;
}

function parseSample(line: string): Sample {
  const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (NaN|[+-]Inf|-?[\d.]+(?:e[+-]?\d+)?)$/.exec(line);
  if (match === null) throw new Error(`Malformed line: ${line}`);
  const labels: Record<string, string> = {};
  for (const label of (match[2] ?? "").matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)",?/g)) {
    labels[label[1]] = label[2];
  }
  return { name: match[1], labels, value: Number(match[3].replace("Inf", "Infinity")) };
}

/** The value of the one sample with this name and these labels; undefined if there is none. */
export function sampleOf(
  samples: Sample[],
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const fitting = samples.filter((sample) =>
    sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)
  );
  if (fitting.length > 1) throw new Error(`Several samples of ${name}`);
  return fitting[0]?.value;
}
