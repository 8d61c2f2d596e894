/**
 * `varve compact`: merges layers and makes images, from a process of its own; a follower may run meanwhile.
 *
 * @module
 */
import { PreconditionFailedError } from "../errors.ts";
import { formatLsn } from "../lsn.ts";
import { attachReader } from "../read/attach.ts";
import { compact, type CompactionResult, nextCompaction } from "../upkeep/compact.ts";
import type { CompactionPlan } from "../upkeep/compact_plan.ts";
import { type ImagePlan, type ImagesResult, makeImages, nextImages } from "../upkeep/images.ts";
import { UpkeepTarget } from "../upkeep/upkeep_target.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, flag, oneOf, type OptionValues } from "./config.ts";
import { EXIT_OK } from "./exit_codes.ts";
import { LAYER_WRITING, openLayerWriting } from "./layer_writing.ts";
import { openForReading, openForWriting } from "./stores.ts";
import { Shutdown } from "./shutdown.ts";
import { formatBytes, formatDuration, plural, sizeValue } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, STORE, TIMELINE, type VerbContext } from "./verb.ts";

const OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: TIMELINE,
  dryRun: flag("Only tell what would be done first"),
  all: flag("Merge all there is, also where reads have few layers to visit"),
  images: defaulted(
    "WHICH",
    "Images to make: due (where deltas have come together), all (wherever there are any) or none",
    "due",
    oneOf("due", "all", "none"),
  ),
  layerSize: defaulted("SIZE", "Size of a layer to aim at", "128MiB", sizeValue),
  memory: defaulted("SIZE", "Memory for layers that are read", "64MiB", sizeValue),
  compress: LAYER_WRITING.compress,
};

type CompactValues = OptionValues<typeof OPTIONS>;

export const compactVerb = defineVerb({
  name: "compact",
  summary: "Merge layers, and make images where deltas stack up, so that reads have few layers to visit.",
  details:
    "A follower does so by itself (--compact=auto); this is for one that does not, and for timelines that\n" +
    'nobody follows. Breaking it off leaves nothing half done. What is replaced stays until "varve gc" takes it.\n\n' +
    "  varve compact --store s3://bucket/prefix --images all",
  options: OPTIONS,
  run: ({ values }, context) => runCompact(values, context),
});

/** What is reported at the end. */
interface Report {
  readonly compactions: CompactionResult[];
  readonly images: ImagesResult[];
}

/** Somebody else compacts too: after so many times in a row, leave it to them. */
const CONFLICTS_MAX = 5;

async function runCompact(values: CompactValues, context: VerbContext): Promise<number> {
  const { terminal, clock, reporter } = context;
  const startedMs = clock.monotonicMs();
  using shutdown = new Shutdown(terminal);
  await using cleanup = new Cleanup();
  const { store } = values.dryRun
    ? await openForReading(values.store, context)
    : await openForWriting(values.store, context, undefined, shutdown.signal);
  cleanup.defer(() => store.close());
  const { codec } = openLayerWriting({ compress: values.compress, encoder: "off" }, cleanup);
  const report: Report = { compactions: [], images: [] };
  const options = {
    everything: values.all,
    layerBytes: values.layerSize,
    readBytes: values.memory,
    signal: shutdown.signal,
  };
  for (let conflicts = 0;;) {
    const attached = await attachReader({
      store,
      clock,
      timeline: values.timeline,
      events: reporter.onEvent,
    });
    try {
      const target = UpkeepTarget.ofGuest({ attached, store, clock, codec, events: reporter.onEvent });
      const imageOptions = { ...options, everything: values.images === "all" };
      if (values.dryRun) {
        const images = values.images === "none" ? undefined : await nextImages(target, imageOptions);
        await terminal.write(showPlan(values, nextCompaction(target, options), images));
        return EXIT_OK;
      }
      for (let done; (done = await compact(target, options)) !== undefined;) report.compactions.push(done);
      if (values.images !== "none") {
        const made = await makeImages(target, imageOptions);
        if (made !== undefined) report.images.push(made);
      }
      break;
    } catch (error) {
      // Broken off: what was committed stays, the rest is left over for collection.
      if (shutdown.exitCode !== undefined) return shutdown.exitCode;
      if (!(error instanceof PreconditionFailedError) || ++conflicts > CONFLICTS_MAX) throw error;
    } finally {
      await attached.close();
    }
  }
  await terminal.write(showReport(values, report, clock.monotonicMs() - startedMs));
  return EXIT_OK;
}

function showPlan(
  values: CompactValues,
  plan: CompactionPlan | undefined,
  images: ImagePlan | undefined,
): string {
  const imageBytes = images?.parts.reduce((sum, part) => sum + part.imageBytes, 0) ?? 0;
  if (values.json) {
    return jsonDocument({
      timeline: values.timeline,
      dryRun: true,
      compaction: plan === undefined ? null : {
        runs: plan.runs,
        layers: plan.inputs.map(({ name }) => name),
        bytes: plan.bytes,
        lsnStart: formatLsn(plan.lsnStart),
        lsnEnd: formatLsn(plan.lsnEnd),
      },
      images: images === undefined ? null : {
        lsn: formatLsn(images.lsn),
        count: images.parts.length,
        bytes: imageBytes,
      },
    });
  }
  const lines = [
    plan === undefined
      ? "Nothing to merge"
      : `Would merge ${plural(plan.inputs.length, "layer")} of ${plural(plan.runs, "run")}, ${
        formatBytes(plan.bytes)
      }, ${formatLsn(plan.lsnStart)} to ${formatLsn(plan.lsnEnd)}`,
    images === undefined
      ? "No images to make"
      : `Would make ${plural(images.parts.length, "image")} at ${formatLsn(images.lsn)}, about ${
        formatBytes(imageBytes)
      }`,
  ];
  return lines.join("\n") + "\n";
}

function showReport(values: CompactValues, { compactions, images }: Report, ms: number): string {
  const sum = (numbers: number[]) => numbers.reduce((total, each) => total + each, 0);
  const totals = {
    compactions: compactions.length,
    layersMerged: sum(compactions.map(({ inputs }) => inputs)),
    bytesRead: sum(compactions.map(({ inputBytes }) => inputBytes)),
    layersMade: sum(compactions.map(({ outputs }) => outputs)),
    bytesWritten: sum(compactions.map(({ outputBytes }) => outputBytes)),
    images: sum(images.map(({ images }) => images)),
    imageBytes: sum(images.map(({ imageBytes }) => imageBytes)),
  };
  // What is written here comes on top of what the flush wrote once.
  const amplification = totals.bytesRead === 0
    ? null
    : (totals.bytesRead + totals.bytesWritten + totals.imageBytes) / totals.bytesRead;
  if (values.json) {
    return jsonDocument({
      timeline: values.timeline,
      ...totals,
      writeAmplification: amplification,
      seconds: Math.round(ms) / 1000,
    });
  }
  const merged = totals.compactions === 0
    ? "Nothing to merge"
    : `Merged ${plural(totals.layersMerged, "layer")} (${
      formatBytes(totals.bytesRead)
    }) into ${totals.layersMade} (${formatBytes(totals.bytesWritten)})`;
  const imaged = totals.images === 0
    ? "no images made"
    : `${plural(totals.images, "image")} made (${formatBytes(totals.imageBytes)})`;
  const amplified = amplification === null ? "" : `; write amplification ${amplification.toFixed(2)}`;
  return `${merged}, ${imaged}, in ${formatDuration(ms)}${amplified}\n`;
}
