/**
 * Options: one table per verb, from which the command line, the environment and the help follow.
 *
 * Every option `--some-name` is also `VARVE_SOME_NAME`; the command line goes before the environment, and an empty
 * variable counts as not set. A value that cannot be used ends in a {@linkcode UsageError} that names where it came from.
 *
 * @module
 */
import { Command, CommanderError, Option } from "../deps/commander.ts";
import type { Environment } from "../store/open.ts";
import { UsageError } from "./exit_codes.ts";

export type { Environment } from "../store/open.ts";

/** One option. Its name is its key in the table: `flushInterval` is `--flush-interval` and `VARVE_FLUSH_INTERVAL`. */
export interface OptionSpec<T> {
  /** What stands for its value in the help; null: a flag. */
  readonly argument: string | null;
  readonly text: string;
  /** For the help. */
  readonly fallback?: string;
  /** Throws an Error whose message completes "Cannot use --name: ". */
  parse(text: string): T;
  /** The value where neither command line nor environment have one. Absent: it must be given. */
  absent?(): T;
}

/** A verb's options by their names. */
export type OptionTable = Readonly<Record<string, OptionSpec<unknown>>>;

/** What a table's options turn out to be. */
export type OptionValues<Table> = {
  [Name in keyof Table]: Table[Name] extends OptionSpec<infer T> ? T : never;
};

/** An option that must be given. */
export function required<T>(argument: string, text: string, parse: (text: string) => T): OptionSpec<T> {
  return { argument, text, parse };
}

/** An option that may be absent, and then is undefined. */
export function optional<T>(
  argument: string,
  text: string,
  parse: (text: string) => T,
): OptionSpec<T | undefined> {
  return { argument, text, parse, absent: () => undefined };
}

/** An option with a default, given as one would type it. */
export function defaulted<T>(
  argument: string,
  text: string,
  fallback: string,
  parse: (text: string) => T,
): OptionSpec<T> {
  return { argument, text, fallback, parse, absent: () => parse(fallback) };
}

/** An option without value. */
export function flag(text: string): OptionSpec<boolean> {
  return { argument: null, text, parse: parseBoolean, absent: () => false };
}

function parseBoolean(text: string): boolean {
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  if (/^(0|false|no|off)$/i.test(text)) return false;
  throw new Error("expected true or false");
}

/** One of a few words. */
export function oneOf<Word extends string>(...words: Word[]): (text: string) => Word {
  return (text) => {
    const found = words.find((word) => word === text);
    if (found === undefined) throw new Error(`expected ${words.join(" or ")}`);
    return found;
  };
}

/** Any text. */
export function text(value: string): string {
  return value;
}

/** What a verb is called with. */
export interface VerbShape<Table extends OptionTable> {
  readonly name: string;
  readonly summary: string;
  /** Shown under the options. */
  readonly details?: string;
  readonly options: Table;
  /** Name of its operands; absent: it takes none. At least one is needed. */
  readonly operands?: string;
  /** None is needed. */
  readonly operandsOptional?: boolean;
}

export interface ParsedVerb<Table extends OptionTable> {
  values: OptionValues<Table>;
  operands: string[];
}

/** The commander command of a verb. */
export function verbCommand<Table extends OptionTable>(verb: VerbShape<Table>): Command {
  const command = new Command(`varve ${verb.name}`).description(verb.summary).exitOverride();
  command.configureOutput({ writeErr: () => {}, outputError: () => {} });
  if (verb.operands !== undefined) {
    command.argument(verb.operandsOptional ? `[${verb.operands}...]` : `<${verb.operands}...>`);
  }
  for (const [name, spec] of Object.entries(verb.options)) {
    const value = spec.argument === null ? "" : ` <${spec.argument}>`;
    const extras = [spec.fallback === undefined ? "" : `default: ${spec.fallback}`, variableOf(name)];
    const option = new Option(
      `--${kebab(name)}${value}`,
      spec.text + ` (${extras.filter(Boolean).join("; ")})`,
    );
    command.addOption(option);
  }
  if (verb.details !== undefined) command.addHelpText("after", `\n${verb.details}`);
  return command;
}

/**
 * Reads a verb's arguments and its part of the environment.
 *
 * @throws {UsageError} If something is unknown, missing or malformed.
 * @throws {CommanderError} If the help was asked for.
 */
export function parseVerb<Table extends OptionTable>(
  verb: VerbShape<Table>,
  args: readonly string[],
  env: Environment,
): ParsedVerb<Table> {
  const command = verbCommand(verb);
  const given = new Map<string, string>();
  for (const [name, { argument }] of Object.entries(verb.options)) {
    command.on(
      `option:${kebab(name)}`,
      (value?: string) => given.set(name, argument === null ? "true" : value!),
    );
  }
  try {
    command.parse(args, { from: "user" });
  } catch (error) {
    throw usageOf(error, verb.name);
  }
  const values: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(verb.options)) {
    values[name] = valueOf(name, spec, given, env, verb.name);
  }
  return { values: values as OptionValues<Table>, operands: command.args };
}

function valueOf(
  name: string,
  spec: OptionSpec<unknown>,
  given: Map<string, string>,
  env: Environment,
  verb: string,
): unknown {
  const fromEnvironment = env[variableOf(name)];
  const typed = given.get(name) ?? (fromEnvironment === "" ? undefined : fromEnvironment);
  if (typed === undefined) {
    if (spec.absent !== undefined) return spec.absent();
    throw new UsageError(`Cannot run "varve ${verb}": --${kebab(name)} is missing`, helpHint(verb));
  }
  try {
    return spec.parse(typed);
  } catch (error) {
    const { message, hint } = error as Error & { hint?: string };
    const where = given.has(name) ? `--${kebab(name)}` : variableOf(name);
    throw new UsageError(`Cannot use ${where}: ${message}`, hint ?? helpHint(verb));
  }
}

/** Commander's errors in our words; help and version pass. */
export function usageOf(error: unknown, verb: string): unknown {
  if (!(error instanceof CommanderError) || error.exitCode === 0) return error;
  const message = error.message.replace(/^error: /, "").replaceAll("\n", " ");
  return new UsageError(`Cannot run "varve ${verb}": ${message}`, helpHint(verb));
}

function helpHint(verb: string): string {
  return `"varve ${verb} --help" shows what it takes.`;
}

/** The environment variable of an option. */
export function variableOf(name: string): string {
  return `VARVE_${kebab(name).replaceAll("-", "_").toUpperCase()}`;
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
