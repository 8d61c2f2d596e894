/**
 * `varve branch`: makes, lists and deletes branches.
 *
 * @module
 */
import { formatLsn } from "../lsn.ts";
import { attachReader } from "../read/attach.ts";
import { readManifest } from "../timeline/manifest_store.ts";
import { createBranch, deleteTimeline, listBranches, type TimelineListing } from "../upkeep/branch.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, flag, optional, type OptionValues } from "./config.ts";
import { EXIT_OK, UsageError } from "./exit_codes.ts";
import { MOMENT_ARGUMENT, momentValue, resolveMoment } from "./moments.ts";
import { openForReading, openForWriting } from "./stores.ts";
import { plural, timelineValue } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, STORE, type VerbContext } from "./verb.ts";

const OPTIONS = {
  ...COMMON,
  store: STORE,
  from: defaulted("NAME", "Timeline to branch off", "main", timelineValue),
  at: defaulted(MOMENT_ARGUMENT, "Where; its history up to there is the branch's", "latest", momentValue),
  list: flag("List all timelines and what they are branches of"),
  delete: optional(
    "NAME",
    "Delete a branch with all its layers; refused if it has branches itself",
    timelineValue,
  ),
  confirm: flag("With --delete: also a timeline that is no branch"),
};

type BranchValues = OptionValues<typeof OPTIONS>;

export const branchVerb = defineVerb({
  name: "branch",
  summary: "Make a branch of a timeline: at once, nothing is copied. Or list or delete branches.",
  details:
    "A branch is a timeline: every verb takes it as --timeline. Restore it, and follow the restored server into it, to\n" +
    "keep the history of both. What its parent holds at the LSN stays as long as the branch does.\n\n" +
    "  varve branch --store s3://bucket/prefix --from main --at 2025-06-01T12:00:00Z before-upgrade",
  options: OPTIONS,
  operands: "name",
  operandsOptional: true,
  run: ({ values, operands }, context) => runBranch(values, operands, context),
});

async function runBranch(values: BranchValues, operands: string[], context: VerbContext): Promise<number> {
  const asked = [values.list, values.delete !== undefined, operands.length > 0].filter(Boolean).length;
  if (asked !== 1 || operands.length > 1) {
    throw new UsageError(
      'Cannot run "varve branch": expected the name of a new branch, --list, or --delete NAME',
      '"varve branch --help" shows what it takes.',
    );
  }
  await using cleanup = new Cleanup();
  const { store } = await (values.list ? openForReading : openForWriting)(values.store, context);
  cleanup.defer(() => store.close());
  const { terminal, clock, reporter } = context;
  if (values.list) {
    const timelines = await listBranches(store);
    await terminal.write(values.json ? jsonDocument(timelines.map(asJson)) : asText(timelines));
    return EXIT_OK;
  }
  if (values.delete !== undefined) {
    const name = values.delete;
    const manifest = (await readManifest(store, name))?.manifest;
    if (manifest !== undefined && manifest.ancestor === undefined && !values.confirm) {
      throw new UsageError(
        `Cannot delete timeline "${name}": it is no branch, its history is nowhere else`,
        "Add --confirm if that is what you want.",
      );
    }
    const objects = await deleteTimeline({ store, clock, name });
    const text = `Deleted timeline ${name}: ${plural(objects, "object")}\n`;
    await terminal.write(values.json ? jsonDocument({ deleted: name, objects }) : text);
    return EXIT_OK;
  }
  const [name] = operands.map(checkedName);
  const attached = await attachReader({ store, clock, timeline: values.from, events: reporter.onEvent });
  cleanup.defer(() => attached.close());
  const lsn = await resolveMoment(attached.reader, values.at);
  await createBranch({ store, clock, parent: attached.reader, lsn, name });
  const at = formatLsn(lsn);
  const text = `Made timeline ${name}, a branch of ${values.from} at ${at}\n`;
  await terminal.write(values.json ? jsonDocument({ timeline: name, from: values.from, lsn: at }) : text);
  return EXIT_OK;
}

function checkedName(name: string): string {
  try {
    return timelineValue(name);
  } catch (error) {
    throw new UsageError((error as Error).message, "Choose another name.");
  }
}

function asJson({ name, ancestor, branches, diskConsistentLsn }: TimelineListing) {
  return {
    timeline: name,
    from: ancestor?.timeline ?? null,
    lsn: ancestor === undefined ? null : formatLsn(ancestor.lsn),
    durableLsn: formatLsn(diskConsistentLsn),
    branches: branches.map(({ timeline, lsn }) => ({ timeline, lsn: formatLsn(lsn) })),
  };
}

/** As a tree: each under what it is a branch of. */
function asText(timelines: readonly TimelineListing[]): string {
  const names = new Set(timelines.map(({ name }) => name));
  const lines: string[] = [];
  const show = (timeline: TimelineListing, depth: number) => {
    const { name, ancestor, diskConsistentLsn } = timeline;
    const from = ancestor === undefined
      ? ""
      : `, a branch of ${ancestor.timeline} at ${formatLsn(ancestor.lsn)}`;
    lines.push(`${"  ".repeat(depth)}${name}: durable up to ${formatLsn(diskConsistentLsn)}${from}`);
    for (const child of timelines) if (child.ancestor?.timeline === name) show(child, depth + 1);
  };
  for (const timeline of timelines) {
    if (timeline.ancestor === undefined || !names.has(timeline.ancestor.timeline)) show(timeline, 0);
  }
  return lines.length === 0 ? "There are no timelines.\n" : lines.join("\n") + "\n";
}
