/**
 * Which of PostgreSQL's timelines to stream next, after a failover or a promotion.
 *
 * The server may be on a later timeline than the WAL that varve has. If our position lies on the server's history, the old
 * timeline is streamed up to where the server left it; if not, server and varve have diverged.
 *
 * Source: PostgreSQL src/backend/replication/walsender.c (`StartReplication`, `SendTimeLineHistory`), 14-18.
 *
 * @module
 */
import { MismatchError, ProtocolError, UnavailableError } from "../../errors.ts";
import { formatLsn, type Lsn } from "../../lsn.ts";
import {
  parseTimelineHistory,
  switchPointOf,
  type TimelineHistory,
} from "../../postgres/files/timeline_history.ts";
import type { Session } from "./session.ts";

/**
 * The timeline to ask the server for.
 *
 * @param ours The timeline that the WAL before `position` came from. Undefined: whichever the server is on.
 * @param isStandby A standby may still have to follow a switch.
 *
 * Rejects with MismatchError when server and varve have diverged, UnavailableError when a standby lags.
 */
export async function planTimeline(
  session: Session,
  ours: number | undefined,
  position: Lsn,
  isStandby: boolean,
  signal?: AbortSignal,
): Promise<number> {
  const { tli } = session.identity;
  if (ours === undefined || ours === tli) return tli;
  if (ours > tli) {
    const message =
      `Cannot follow ${session.description}: it is on timeline ${tli}, varve already on ${ours}`;
    if (isStandby) {
      throw new UnavailableError(message, { hint: "The standby has not followed the switch yet." });
    }
    throw new MismatchError(message, { hint: "This is a former primary: follow the one that was promoted." });
  }
  return nextOn(await readHistory(session, tli, signal), ours, position, session.description);
}

/** Chooses on a history that is already known. Pure. */
export function nextOn(history: TimelineHistory, ours: number, position: Lsn, source: string): number {
  const switchPoint = switchPointOf(history, ours);
  const refuse = (reason: string) =>
    new MismatchError(`Cannot follow ${source}: it has diverged from what varve holds, ${reason}`, {
      hint: "Follow under a new timeline name (a new base backup).",
    });
  if (switchPoint === null) throw refuse(`its timeline ${history.tli} does not descend from ${ours}`);
  if (switchPoint === undefined || position < switchPoint) return ours;
  if (position > switchPoint) {
    throw refuse(
      `its timeline ${history.tli} left ${ours} at ${formatLsn(switchPoint)}, varve has WAL up to ${
        formatLsn(position)
      }`,
    );
  }
  // Exactly at the switch: the old timeline has nothing more.
  const index = history.ancestors.findIndex((ancestor) => ancestor.tli === ours);
  const next = history.ancestors[index + 1]?.tli ?? history.tli;
  return nextOn(history, next, position, source);
}

async function readHistory(session: Session, tli: number, signal?: AbortSignal): Promise<TimelineHistory> {
  const doing = `read the history of timeline ${tli}`;
  const [row] = await session.rows(`TIMELINE_HISTORY ${tli}`, doing, signal);
  const content = row?.[1];
  if (content === null || content === undefined) {
    throw new ProtocolError(`Cannot ${doing} at ${session.description}: expected a file, got nothing`);
  }
  return parseTimelineHistory(new TextDecoder().decode(content), tli);
}
