/**
 * `varve page`: one page as of an LSN, as bytes, as a hex dump, or as JSON with its header and line pointers; or its
 * history.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { BLCKSZ, LP_DEAD, LP_NORMAL, LP_REDIRECT, Page } from "../postgres/page/page.ts";
import { attachReader } from "../read/attach.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, flag, oneOf, optional, type OptionValues, required } from "./config.ts";
import { EXIT_OK, UsageError } from "./exit_codes.ts";
import { MOMENT_ARGUMENT, momentValue, resolveMoment } from "./moments.ts";
import { writeHistory } from "./page_history.ts";
import { openForReading } from "./stores.ts";
import { blockValue, countValue, lsnValue, type RelationNumbers, relationValue } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, STORE, TIMELINE, type VerbContext } from "./verb.ts";

const FORKS = ["main", "fsm", "vm", "init"] as const;

const OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: TIMELINE,
  rel: required("SPC/DB/REL", "1663/5/16384, or a path as pg_relation_filepath() tells", relationValue),
  fork: defaulted("FORK", FORKS.join(", "), "main", oneOf(...FORKS)),
  block: required("N", "Block number, from 0", blockValue),
  at: defaulted(MOMENT_ARGUMENT, "As of this LSN or time", "latest", momentValue),
  format: optional(
    "FORMAT",
    "raw, hex or json (default: hex; with --json: json)",
    oneOf("raw", "hex", "json"),
  ),
  history: flag("List what has touched the page instead, newest first"),
  from: optional("LSN", "With --history: from here on", lsnValue),
  to: optional("LSN", "With --history: up to here (default: --at)", lsnValue),
  limit: optional("N", "With --history: this many at most", countValue),
  oldestFirst: flag("With --history: the oldest first"),
};

type PageValues = OptionValues<typeof OPTIONS>;

export const pageVerb = defineVerb({
  name: "page",
  summary: "Read a page as of any LSN, or list what has touched it.",
  details:
    '"varve info" shows the LSNs that can be read. Raw writes the 8192 bytes: varve page … --format raw > page.bin\n' +
    "A history marks with a star what a read can start from: page images, and records that make a page anew:\n\n" +
    "  varve page --store file:///store --rel base/5/16384 --block 0 --history --limit 20",
  options: OPTIONS,
  run: ({ values }, context) => runPage(values, context),
});

async function runPage(values: PageValues, context: VerbContext): Promise<number> {
  const { terminal, clock, reporter } = context;
  const format = values.format ?? (values.json ? "json" : "hex");
  if (format === "raw" && terminal.isOutputTerminal) {
    throw new UsageError(
      "Cannot write raw bytes to a terminal",
      "Send them to a file or program: varve page … --format raw > page.bin",
    );
  }
  await using cleanup = new Cleanup();
  const { store } = await openForReading(values.store, context);
  cleanup.defer(() => store.close());
  const attached = await attachReader({ store, clock, timeline: values.timeline, events: reporter.onEvent });
  cleanup.defer(() => attached.close());
  const lsn = await resolveMoment(attached.reader, values.at);
  const fork = FORKS.indexOf(values.fork);
  if (values.history) {
    const { rel, block, from, to = lsn, limit, oldestFirst } = values;
    const request = { rel, fork: [fork, values.fork] as const, block, from, to, limit, oldestFirst };
    await writeHistory(attached, request, context);
    return EXIT_OK;
  }
  const bytes = await attached.reader.getPage(values.rel, fork, values.block, lsn).catch(adviseOnNotFound);
  if (format === "raw") await terminal.write(bytes);
  else if (format === "hex") await terminal.write(hexDump(bytes));
  else await terminal.write(jsonDocument(describePage(values, lsn, bytes)));
  return EXIT_OK;
}

/** The reader does not know where its caller got the numbers from. */
function adviseOnNotFound(error: unknown): never {
  if (!(error instanceof NotFoundError) || error.hint !== undefined) throw error;
  throw new NotFoundError(error.message, {
    hint:
      "pg_relation_filepath() tells a relation's numbers in the database that it is in; a rewrite changes them, and " +
      "each LSN knows those of its time.",
  });
}

const LINE_BYTES = 16;

/** As `hexdump -C`: repeated lines are one `*`. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  let previous = "";
  let isRepeated = false;
  for (let at = 0; at < bytes.length; at += LINE_BYTES) {
    const line = bytes.subarray(at, at + LINE_BYTES);
    const hex = Array.from(line, (byte) => byte.toString(16).padStart(2, "0"));
    const text = String.fromCharCode(...line.map((byte) => byte >= 0x20 && byte < 0x7f ? byte : 0x2e));
    const shown = `${hex.slice(0, 8).join(" ")}  ${hex.slice(8).join(" ")}  |${text}|`;
    if (shown === previous) {
      if (!isRepeated) lines.push("*");
      isRepeated = true;
      continue;
    }
    isRepeated = false;
    previous = shown;
    lines.push(`${at.toString(16).padStart(8, "0")}  ${shown}`);
  }
  lines.push(bytes.length.toString(16).padStart(8, "0"));
  return lines.join("\n") + "\n";
}

function describePage(
  { timeline, rel, fork, block }: { timeline: string; rel: RelationNumbers; fork: string; block: number },
  lsn: Lsn,
  bytes: Uint8Array,
) {
  const page = Page.from(bytes);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return {
    timeline,
    relation: `${rel.spc}/${rel.db}/${rel.rel}`,
    fork,
    block,
    lsn: formatLsn(lsn),
    isNew: page.isNew(),
    header: {
      lsn: formatLsn(page.lsn),
      checksum: page.checksum,
      flags: page.flags,
      lower: page.lower,
      upper: page.upper,
      special: page.special,
      pagesizeVersion: page.pagesizeVersion,
      pruneXid: page.pruneXid,
    },
    items: fork === "main" || fork === "init" ? describeItems(page) : [],
    hex,
  };
}

const ITEM_STATES: Readonly<Record<number, string>> = {
  [LP_NORMAL]: "normal",
  [LP_REDIRECT]: "redirect",
  [LP_DEAD]: "dead",
};

/** Line pointers. A page that has none in that place (a meta page, a bitmap) shows none, or what lies there. */
function describeItems(page: Page) {
  const items: { number: number; state: string; offset: number; length: number }[] = [];
  if (page.isNew() || page.lower > BLCKSZ) return items;
  for (let number = 1; number <= page.maxOffsetNumber(); number++) {
    items.push({
      number,
      state: ITEM_STATES[page.itemFlags(number)] ?? "unused",
      offset: page.itemOffset(number),
      length: page.itemLength(number),
    });
  }
  return items;
}
