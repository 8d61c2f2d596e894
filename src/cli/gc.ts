/**
 * `varve gc`: what retention no longer needs and what crashes have left behind goes from the store. A follower may run.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { formatLsn } from "../lsn.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { attachReader } from "../read/attach.ts";
import { readManifest, updateManifest } from "../timeline/manifest_store.ts";
import { collect, type CollectionPlan, isEmptyPlan, planCollection } from "../upkeep/gc.ts";
import { findOrphans, listTimelines, type Orphan } from "../upkeep/orphans.ts";
import { changedRetention } from "../upkeep/retain.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, flag, type OptionValues } from "./config.ts";
import { EXIT_OK } from "./exit_codes.ts";
import { RETENTION, retentionChange } from "./retention.ts";
import { openForReading, openForWriting } from "./stores.ts";
import { durationValue, formatBytes, plural } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, STORE, TIMELINE, type VerbContext } from "./verb.ts";

const OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: TIMELINE,
  all: flag("All timelines in the store, and what is left of those that never came to be"),
  ...RETENTION,
  grace: defaulted(
    "DURATION",
    "Removed layers and unnamed objects stay so long, for readers and writers under way",
    "1h",
    durationValue,
  ),
  confirm: flag("Do it; without, it is only told what would be done"),
};

type GcValues = OptionValues<typeof OPTIONS>;

export const gcVerb = defineVerb({
  name: "gc",
  summary: "Collect history that is not kept any more, and objects that crashes have left behind.",
  details:
    "What is above the cut-off stays, and below it exactly the LSNs that pins and branches hold. A layer goes when images\n" +
    'make up for it: "varve compact" makes them, as does a follower. Its object is deleted a grace time later.\n\n' +
    "  varve gc --store s3://bucket/prefix --keep 7d --confirm",
  options: OPTIONS,
  run: ({ values }, context) => runGc(values, context),
});

/** What is told of one timeline. */
interface Outcome {
  readonly timeline: string;
  /** Absent where there is no manifest. */
  readonly plan?: CollectionPlan;
  readonly orphans: readonly Orphan[];
}

async function runGc(values: GcValues, context: VerbContext): Promise<number> {
  await using cleanup = new Cleanup();
  const open = values.confirm ? openForWriting : openForReading;
  const { store } = await open(values.store, context);
  cleanup.defer(() => store.close());
  const names = values.all ? await listTimelines(store) : [values.timeline];
  const outcomes: Outcome[] = [];
  for (const name of names) outcomes.push(await collectOne(store, name, values, context));
  const { terminal } = context;
  await terminal.write(values.json ? jsonDocument(asJson(values, outcomes)) : asText(values, outcomes));
  return EXIT_OK;
}

async function collectOne(
  store: ObjectStore,
  timeline: string,
  values: GcValues,
  { clock, reporter }: VerbContext,
): Promise<Outcome> {
  const stored = await readManifest(store, timeline);
  if (stored === undefined) {
    const orphans = await findOrphans({ store, timeline, nowMs: clock.now(), graceMs: values.grace });
    if (orphans.length === 0 && !values.all) {
      throw new NotFoundError(
        `Cannot collect timeline "${timeline}": ${store.description} has none of that name`,
      );
    }
    if (values.confirm) { for (const { key } of orphans) await store.delete(key); }
    return { timeline, orphans };
  }
  const attached = await attachReader({ store, clock, timeline, events: reporter.onEvent });
  try {
    const change = retentionChange(values);
    const policy = change && changedRetention(attached.manifest.retention, change);
    const options = { store, clock, reader: attached.reader, policy, graceMs: values.grace };
    const plan = await planCollection(attached.manifest, options);
    if (values.confirm && (policy !== undefined || !isEmptyPlan(plan))) {
      await collect(plan, (edit, signal) => updateManifest(store, clock, timeline, edit, signal), options);
    }
    return { timeline, plan, orphans: plan.orphans };
  } finally {
    await attached.close();
  }
}

function asJson({ confirm }: GcValues, outcomes: readonly Outcome[]) {
  return {
    done: confirm,
    timelines: outcomes.map(({ timeline, plan, orphans }) => ({
      timeline,
      cutoffLsn: plan === undefined ? null : formatLsn(plan.cutoffLsn),
      previousCutoffLsn: plan === undefined ? null : formatLsn(plan.previousCutoffLsn),
      removed: sum(plan?.layers ?? []),
      deleted: sum(plan?.expired ?? []),
      waiting: sum(plan?.waiting ?? []),
      orphans: { ...sum(orphans), keys: orphans.map(({ key }) => key) },
      expiredPins: plan?.expiredPins ?? [],
      danglingBranches: (plan?.danglingBranches ?? []).map(({ timeline: name }) => name),
    })),
  };
}

function sum(objects: readonly { size: number }[]): { count: number; bytes: number } {
  return { count: objects.length, bytes: objects.reduce((bytes, { size }) => bytes + size, 0) };
}

function asText({ confirm }: GcValues, outcomes: readonly Outcome[]): string {
  const lines: string[] = [];
  let isNothing = true;
  for (const { timeline, plan, orphans } of outcomes) {
    const rows = [...(plan === undefined ? [] : planRows(plan)), ...objectRow("orphans", "deleted", orphans)];
    if (rows.length === 0) continue;
    isNothing = false;
    lines.push(`timeline ${timeline}`, ...rows.map(([name, value]) => `  ${name.padEnd(10)} ${value}`));
  }
  if (isNothing) return "Nothing to collect.\n";
  if (!confirm) lines.push("Nothing was changed: run it again with --confirm.");
  return lines.join("\n") + "\n";
}

function planRows(plan: CollectionPlan): [string, string][] {
  const { cutoffLsn, previousCutoffLsn, expiredPins, danglingBranches } = plan;
  return [
    ...(cutoffLsn === previousCutoffLsn
      ? []
      : [["cut-off", `${formatLsn(previousCutoffLsn)} to ${formatLsn(cutoffLsn)}`] as [string, string]]),
    ...expiredPins.map((name): [string, string] => ["pin", `${name} has expired`]),
    ...danglingBranches.map(({ timeline }): [string, string] => ["branch", `${timeline} does not exist`]),
    ...objectRow("layers", "no longer needed", plan.layers),
    ...objectRow("removed", "deleted, their grace time is over", plan.expired),
    ...objectRow("waiting", "until their grace time is over", plan.waiting),
  ];
}

function objectRow(name: string, what: string, objects: readonly { size: number }[]): [string, string][] {
  if (objects.length === 0) return [];
  const { count, bytes } = sum(objects);
  return [[name, `${plural(count, "object")}, ${formatBytes(bytes)}: ${what}`]];
}
