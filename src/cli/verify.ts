/**
 * `varve verify`: what lies in a store, read through and judged.
 *
 * @module
 */
import { formatLsn, type Lsn } from "../lsn.ts";
import { attachReader } from "../read/attach.ts";
import { type StoreVerifyProgress, verifyStore } from "../upkeep/verify_store.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, optional, type OptionValues } from "./config.ts";
import { UsageError } from "./exit_codes.ts";
import { openForReading } from "./stores.ts";
import { formatBytes, formatDuration, lsnOr, lsnValue, plural } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, STORE, TIMELINE, type VerbContext } from "./verb.ts";
import { differenceSaver, exitCodeOfReport, shareValue, VERIFY_DIR } from "./verification.ts";

const OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: TIMELINE,
  from: optional("LSN", "Layers and images from here on; default: all", lsnValue),
  to: defaulted(
    "LSN|latest",
    "Layers and images up to here, and all pages as of here",
    "latest",
    lsnOr("latest"),
  ),
  sample: defaulted(
    "RATE",
    "Share of images and pages that is judged; layers are always read whole",
    "1",
    shareValue,
  ),
  verifyDir: VERIFY_DIR,
};

export const verifyVerb = defineVerb({
  name: "verify",
  summary: "Check every layer of a timeline, and judge its pages by the images that PostgreSQL wrote.",
  details: "Ends with 1 if anything is damaged or differs.\n\n" +
    "  varve verify --store s3://bucket/prefix --sample 0.05",
  options: OPTIONS,
  run: ({ values }, context) => runVerify(values, context),
});

/** Between two lines of progress. */
const TELL_MS = 5000;

async function runVerify(values: OptionValues<typeof OPTIONS>, context: VerbContext): Promise<number> {
  const { terminal, clock, reporter } = context;
  const startedMs = clock.monotonicMs();
  await using cleanup = new Cleanup();
  const { store } = await openForReading(values.store, context);
  cleanup.defer(() => store.close());
  const attached = await attachReader({ store, clock, timeline: values.timeline, events: reporter.onEvent });
  cleanup.defer(() => attached.close());
  const { lastRecordLsn } = attached.timeline;
  const to: Lsn = values.to === "latest" ? lastRecordLsn : values.to;
  if (values.from !== undefined && values.from > to) {
    throw new UsageError(
      `Cannot verify from ${formatLsn(values.from)} to ${formatLsn(to)}: it ends before it starts`,
    );
  }
  let toldMs = startedMs;
  const { report, progress } = await verifyStore(attached, {
    from: values.from,
    to,
    rate: values.sample,
    onDifference: differenceSaver(values.verifyDir, context),
    onProgress(progress) {
      const now = clock.monotonicMs();
      if (now - toldMs < TELL_MS) return;
      toldMs = now;
      reporter.progress("verify.progress", progressLine(progress), { ...progress });
    },
  });
  const ms = clock.monotonicMs() - startedMs;
  if (reporter.json) {
    await terminal.write(jsonDocument({
      timeline: values.timeline,
      store: store.description,
      ...report.summary(),
      layers: progress.layers,
      layerBytes: progress.layerBytes,
      entries: progress.entries,
      seconds: Math.round(ms) / 1000,
    }));
  } else {
    await terminal.write(
      `${plural(progress.layers, "layer")}, ${formatBytes(progress.layerBytes)}, ` +
        `${progress.entries} values read in ${formatDuration(ms)}; checksums, order and headers of all are ` +
        `${report.total().differences === 0 ? "right" : "checked"}\n${report.format()}`,
    );
  }
  return exitCodeOfReport(report);
}

function progressLine({ layers, layersTotal, layerBytes, entries, pages }: StoreVerifyProgress): string {
  return `${layers} of ${plural(layersTotal, "layer")}, ${
    formatBytes(layerBytes)
  }, ${entries} values, ${pages} pages`;
}
