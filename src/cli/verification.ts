/**
 * What `--verify` adds to a verb: its options, the pairs of pages that it saves, and what becomes of what was found.
 *
 * @module
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { formatLsn } from "../lsn.ts";
import type { VerifyDifference, VerifyReport } from "../upkeep/verify_report.ts";
import type { VerifyOptions } from "../upkeep/verify_wal.ts";
import { defaulted, optional, text } from "./config.ts";
import { EXIT_FAILED, EXIT_OK } from "./exit_codes.ts";
import type { VerbContext } from "./verb.ts";

/** Pairs that are saved; more tell little. */
const PAIRS_MAX = 100;

/** A share: `0.01`, `1%`, or that it is wanted at all. */
export function rateValue(given: string): number | undefined {
  if (/^(all|true|yes|on)$/i.test(given)) return 1;
  if (/^(0|false|no|off)$/i.test(given)) return undefined;
  return shareValue(given);
}

/** A share above 0, at most 1: `0.01`, `1%`. */
export function shareValue(given: string): number {
  const match = /^(\d+(?:\.\d+)?|\.\d+)(%?)$/.exec(given.trim());
  const rate = match === null ? NaN : Number(match[1]) / (match[2] === "%" ? 100 : 1);
  if (!(rate > 0 && rate <= 1)) {
    throw new Error(`"${given}" is no share, expected a number above 0 and at most 1, or as 1%`);
  }
  return rate;
}

/** Where pairs of pages go. */
export const VERIFY_DIR = defaulted(
  "DIR",
  "Where pages that differ are saved, in pairs; made when there is one",
  "varve-differences",
  text,
);

/** Of verbs that write a timeline. */
export const VERIFYING = {
  verify: optional(
    "RATE",
    "Judge redo by the page images in WAL: --verify all of them, at a third of the ingest speed or less; " +
      "--verify=0.01 one in a hundred, for about a tenth of it",
    rateValue,
  ),
  verifyDir: VERIFY_DIR,
};

/** The engine's options for what was asked on the command line. */
export function verifyOptions(
  values: { verify: number | undefined; verifyDir: string },
  context: VerbContext,
): VerifyOptions | undefined {
  if (values.verify === undefined) return undefined;
  return { rate: values.verify, onDifference: differenceSaver(values.verifyDir, context) };
}

/** Tells of every difference, and saves the pages of the first ones. */
export function differenceSaver(
  directory: string,
  { reporter }: VerbContext,
): (difference: VerifyDifference) => void {
  let count = 0;
  return (difference) => {
    if (++count > PAIRS_MAX) return;
    const { lsn, type, block, record, message, gotPage, expectedPage } = difference;
    let told = `${type} at ${formatLsn(lsn)}, ${block}: ${message}`;
    let saved: string | null = null;
    if (gotPage !== undefined && expectedPage !== undefined) {
      saved = `${directory}/${`${formatLsn(lsn)}_${block}`.replace(/[^\w.]+/g, "-")}`;
      try {
        savePair(directory, saved, gotPage, expectedPage);
        told += `; pages saved as ${saved}.redo and .postgres`;
      } catch (error) {
        told += `; pages could not be saved: ${(error as Error).message}`;
        saved = null;
      }
    }
    const fields = { lsn: formatLsn(lsn), type, block, record, saved };
    reporter.onEvent({ level: "error", topic: "verify.difference", message: told, fields });
  };
}

function savePair(directory: string, name: string, redo: Uint8Array, postgres: Uint8Array): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(`${name}.redo`, redo);
  writeFileSync(`${name}.postgres`, postgres);
}

/** The exit code of a verb that has verified. */
export function exitCodeOfReport(report: VerifyReport | undefined): number {
  return report !== undefined && report.total().differences > 0 ? EXIT_FAILED : EXIT_OK;
}
