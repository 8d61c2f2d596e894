/**
 * `varve page --history`: what has touched a page, record by record.
 *
 * @module
 */
import { formatLsn, type Lsn } from "../lsn.ts";
import type { AttachedTimeline } from "../read/attach.ts";
import { type PageEvent, pageHistory } from "../read/page_history.ts";
import type { RelationNumbers } from "./values.ts";
import { jsonDocument, type VerbContext } from "./verb.ts";

/** Which page, and what of its history. */
export interface HistoryRequest {
  rel: RelationNumbers;
  /** Number and name. */
  fork: readonly [number: number, name: string];
  block: number;
  from: Lsn | undefined;
  to: Lsn;
  limit: number | undefined;
  oldestFirst: boolean;
}

/** Writes the history to standard output. */
export async function writeHistory(
  attached: AttachedTimeline,
  request: HistoryRequest,
  { terminal, reporter }: VerbContext,
): Promise<void> {
  const { rel, fork: [fork, forkName], block, from, to, limit = Infinity, oldestFirst } = request;
  const { reader, codecs, timeline } = attached;
  const events: PageEvent[] = [];
  for await (const event of pageHistory(reader, codecs.image, rel, fork, block, { from, to })) {
    events.push(event);
    if (!oldestFirst && events.length >= limit) break;
    // Of the oldest, all must be walked; no more are kept than will be shown.
    if (oldestFirst && events.length > limit) events.shift();
  }
  if (oldestFirst) events.reverse();
  if (reporter.json) {
    await terminal.write(jsonDocument({
      timeline: timeline.name,
      relation: `${rel.spc}/${rel.db}/${rel.rel}`,
      fork: forkName,
      block,
      events: events.map((event) => ({ ...event, lsn: formatLsn(event.lsn) })),
    }));
    return;
  }
  if (events.length === 0) {
    await terminal.write("Nothing has touched this page.\n");
    return;
  }
  await terminal.write(events.map((event) => lineOf(event)).join(""));
}

/** `0/16B3748  xid 745      Heap/INSERT+INIT        off 1`; a star where a read can start. */
function lineOf({ lsn, xid, kind, manager, opcode, change, startsAnew }: PageEvent): string {
  const type = manager === null ? `(${kind})` : `${manager}/${opcode}`;
  const columns = [
    formatLsn(lsn).padEnd(12),
    (xid === null || xid === 0 ? "-" : `xid ${xid}`).padEnd(14),
    `${startsAnew ? "*" : " "} ${type}`.padEnd(28),
    kind === "image" ? `image: ${change}` : change,
  ];
  return `${columns.join(" ").trimEnd()}\n`;
}
