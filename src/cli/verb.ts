/**
 * What a verb of the command line is, and the options that all of them share.
 *
 * @module
 */
import type { Clock } from "../ports/clock.ts";
import type { EventLevel } from "../ports/events.ts";
import { systemClock } from "../deps/system_clock.ts";
import {
  defaulted,
  type Environment,
  flag,
  oneOf,
  type OptionTable,
  type ParsedVerb,
  parseVerb,
  required,
  type VerbShape,
} from "./config.ts";
import { LOG_LEVELS, Reporter } from "./reporter.ts";
import { Terminal } from "./terminal.ts";
import { storeValue, timelineValue } from "./values.ts";

/** Options of every verb. */
export const COMMON = {
  json: flag("Results as JSON on standard output, progress and logs as JSON lines on standard error"),
  logLevel: defaulted<EventLevel>(
    "LEVEL",
    "What to log: debug, info, warn or error",
    "info",
    oneOf(...LOG_LEVELS),
  ),
};

/** The store, for every verb that has one. */
export const STORE = required(
  "URL",
  "file:///directory, or s3://bucket/prefix?endpoint=https://host with AWS_… in the environment",
  storeValue,
);

export const TIMELINE = defaulted("NAME", "Timeline in the store", "main", timelineValue);

/** What a verb runs with. */
export interface VerbContext {
  readonly env: Environment;
  readonly terminal: Terminal;
  readonly reporter: Reporter;
  readonly clock: Clock;
}

/** A verb as it is written. Returns its exit code, or throws. */
export interface VerbDefinition<Table extends OptionTable> extends VerbShape<Table> {
  run(parsed: ParsedVerb<Table>, context: VerbContext): Promise<number>;
}

/** A verb as `main.ts` calls it. */
export interface Verb {
  readonly shape: VerbShape<OptionTable>;
  /** Reads the arguments, and returns what remains to be done. */
  prepare(args: readonly string[], env: Environment): { context: VerbContext; run: () => Promise<number> };
}

/** Makes a verb. */
export function defineVerb<Table extends OptionTable & typeof COMMON>(
  definition: VerbDefinition<Table>,
): Verb {
  return {
    shape: definition,
    prepare(args, env) {
      const parsed = parseVerb(definition, args, env);
      const { json, logLevel } = parsed.values as { json: boolean; logLevel: EventLevel };
      const context = makeContext(env, json, logLevel);
      return { context, run: () => definition.run(parsed, context) };
    },
  };
}

/** A context by itself, for errors that come before there is a verb. */
export function makeContext(env: Environment, json: boolean, level: EventLevel): VerbContext {
  const terminal = new Terminal(env);
  return {
    env,
    terminal,
    reporter: new Reporter({ terminal, clock: systemClock, json, level }),
    clock: systemClock,
  };
}

/** A result as a JSON document. */
export function jsonDocument(value: unknown): string {
  return JSON.stringify(value, undefined, 2) + "\n";
}
