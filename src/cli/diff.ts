/**
 * `varve diff`: which relations changed between two moments, and which of their blocks.
 *
 * @module
 */
import { formatLsn } from "../lsn.ts";
import { FORK_NAMES } from "../postgres/files/relation_path.ts";
import { attachReader } from "../read/attach.ts";
import { DatabaseRelationId, readSharedNames } from "../restore/catalog_names.ts";
import { diffRelations, type ForkChange } from "../restore/diff.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, optional, type OptionValues, required } from "./config.ts";
import { EXIT_OK, UsageError } from "./exit_codes.ts";
import { MOMENT_ARGUMENT, momentValue, resolveMoment } from "./moments.ts";
import { openForReading } from "./stores.ts";
import { plural, relationValue } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, STORE, TIMELINE, type VerbContext } from "./verb.ts";

const OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: TIMELINE,
  from: required(MOMENT_ARGUMENT, "What changed after this LSN or time", momentValue),
  to: defaulted(MOMENT_ARGUMENT, "... up to this one", "latest", momentValue),
  rel: optional(
    "SPC/DB/REL",
    "Only this relation, and list its blocks; as pg_relation_filepath() tells",
    relationValue,
  ),
};

export const diffVerb = defineVerb({
  name: "diff",
  summary: "Show which relations and blocks changed between two LSNs or times.",
  details: "  varve diff --store … --from 0/16B3748 --to latest\n" +
    "  varve diff --store … --from '2025-06-01 12:00:00Z' --rel base/5/16384",
  options: OPTIONS,
  run: ({ values }, context) => runDiff(values, context),
});

/** One fork, as shown. */
interface ShownChange {
  readonly relation: string;
  readonly fork: string;
  readonly database: string | null;
  readonly change: "created" | "dropped" | "changed";
  readonly changedBlocks: number;
  readonly blocksBefore: number | null;
  readonly blocksAfter: number | null;
  /** With `--rel`: runs of neighbouring blocks, both ends included. */
  readonly blocks?: (readonly [first: number, last: number])[];
}

async function runDiff(values: OptionValues<typeof OPTIONS>, context: VerbContext): Promise<number> {
  const { terminal, clock, reporter } = context;
  await using cleanup = new Cleanup();
  const { store } = await openForReading(values.store, context);
  cleanup.defer(() => store.close());
  const attached = await attachReader({ store, clock, timeline: values.timeline, events: reporter.onEvent });
  cleanup.defer(() => attached.close());
  const from = await resolveMoment(attached.reader, values.from);
  const to = await resolveMoment(attached.reader, values.to);
  if (to < from) {
    throw new UsageError(`Cannot compare: --to ${formatLsn(to)} is before --from ${formatLsn(from)}`);
  }
  const names = new Map<number, string>();
  for (const lsn of [from, to]) {
    for (const { oid, name } of await readSharedNames(attached.reader, DatabaseRelationId, lsn)) {
      names.set(oid, name);
    }
  }
  const changes = (await diffRelations(attached, from, to, { relation: values.rel }))
    .map((change) => show(change, names, values.rel !== undefined));
  const document = {
    timeline: values.timeline,
    from: formatLsn(from),
    to: formatLsn(to),
    changedBlocks: changes.reduce((sum, { changedBlocks }) => sum + changedBlocks, 0),
    changes,
  };
  await terminal.write(reporter.json ? jsonDocument(document) : asText(document));
  return EXIT_OK;
}

function show(
  { space, changed, blocksBefore, blocksAfter }: ForkChange,
  names: ReadonlyMap<number, string>,
  listsBlocks: boolean,
): ShownChange {
  return {
    relation: `${space.a}/${space.b}/${space.c}`,
    fork: FORK_NAMES[space.d] ?? String(space.d),
    database: names.get(space.b) ?? null,
    change: blocksBefore === undefined ? "created" : blocksAfter === undefined ? "dropped" : "changed",
    changedBlocks: changed.count,
    blocksBefore: blocksBefore ?? null,
    blocksAfter: blocksAfter ?? null,
    ...(listsBlocks ? { blocks: [...changed.runs()] } : {}),
  };
}

function asText(
  document: { from: string; to: string; changedBlocks: number; changes: ShownChange[] },
): string {
  const { from, to, changes } = document;
  const lines = [
    `${plural(changes.length, "fork")} and ${
      plural(document.changedBlocks, "block")
    } changed from ${from} to ${to}`,
  ];
  for (
    const { relation, fork, database, change, changedBlocks, blocksBefore, blocksAfter, blocks } of changes
  ) {
    const size = blocksBefore === blocksAfter
      ? `${blocksAfter}`
      : `${blocksBefore ?? "-"} -> ${blocksAfter ?? "-"}`;
    lines.push(
      `  ${`${relation} ${fork}`.padEnd(30)} ${change.padEnd(8)} ${
        plural(changedBlocks, "block").padStart(12)
      } of ${size}${database === null ? "" : `  (${database})`}`,
    );
    if (blocks !== undefined && blocks.length > 0) {
      lines.push(
        `    ${blocks.map(([first, last]) => first === last ? `${first}` : `${first}-${last}`).join(", ")}`,
      );
    }
  }
  return lines.join("\n") + "\n";
}
