/**
 * The command line: `varve VERB [options]`. Finds the verb, runs it, and turns what it throws into an exit code.
 *
 * @module
 */
import process from "node:process";
import { Command } from "../deps/commander.ts";
import { VERSION } from "../status/version.ts";
import { branchVerb } from "./branch.ts";
import { compactVerb } from "./compact.ts";
import { type Environment, usageOf } from "./config.ts";
import { EXIT_CODES, EXIT_OK, exitCodeOf, UsageError } from "./exit_codes.ts";
import { diffVerb } from "./diff.ts";
import { followVerb } from "./follow.ts";
import { gcVerb } from "./gc.ts";
import { importVerb } from "./import.ts";
import { infoVerb } from "./info.ts";
import { layersVerb } from "./layers.ts";
import { pageVerb } from "./page.ts";
import { pinVerb } from "./pin.ts";
import { restoreVerb } from "./restore.ts";
import { Terminal } from "./terminal.ts";
import { makeContext, type Verb } from "./verb.ts";
import { verifyVerb } from "./verify.ts";
import { waldumpVerb } from "./waldump.ts";

/** All verbs, in the order of the help. */
const VERBS: readonly Verb[] = [
  followVerb,
  importVerb,
  infoVerb,
  layersVerb,
  pageVerb,
  diffVerb,
  restoreVerb,
  verifyVerb,
  waldumpVerb,
  compactVerb,
  gcVerb,
  pinVerb,
  branchVerb,
];

/** Runs a command line and returns its exit code. Prints everything, throws nothing. */
export async function main(args: readonly string[], env: Environment): Promise<number> {
  let reporter =
    makeContext(env, args.includes("--json") || /^(1|true|yes|on)$/i.test(env.VARVE_JSON ?? ""), "info")
      .reporter;
  try {
    const [name, ...rest] = args;
    const verb = VERBS.find(({ shape }) => shape.name === name);
    if (verb === undefined) return await runWithoutVerb(args, env);
    const prepared = verb.prepare(spellOut(rest), env);
    reporter = prepared.context.reporter;
    return await prepared.run();
  } catch (error) {
    const code = (error as { exitCode?: unknown }).exitCode;
    if ((error as Error | null)?.name === "CommanderError" && code === EXIT_OK) return EXIT_OK;
    reporter.failure(error);
    return exitCodeOf(error);
  }
}

/** `--stats` and `--verify` may have a value; without one they must not swallow what follows. */
function spellOut(args: readonly string[]): string[] {
  return args.map((arg) => arg === "--stats" ? "--stats=rmgr" : arg === "--verify" ? "--verify=all" : arg);
}

async function runWithoutVerb(args: readonly string[], env: Environment): Promise<number> {
  const [name] = args;
  const terminal = new Terminal(env);
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    const verb = VERBS.find(({ shape }) => name === "help" && shape.name === args[1]);
    if (verb !== undefined) verb.prepare(["--help"], env);
    await terminal.write(help());
    if (name !== undefined) return EXIT_OK;
    throw new UsageError("Cannot run varve without a verb", "The help above lists them.");
  }
  if (name === "--version" || name === "-V" || name === "version") {
    await terminal.write(`varve ${VERSION}\n`);
    return EXIT_OK;
  }
  // For its suggestion of a verb that is spelled alike.
  const program = programCommand();
  try {
    program.parse([...args], { from: "user" });
  } catch (error) {
    const usage = usageOf(error, name);
    if (!(usage instanceof UsageError)) throw usage;
    throw new UsageError(usage.message, '"varve --help" lists the verbs.');
  }
  throw new UsageError(`Cannot run "varve ${name}": there is no such verb`, '"varve --help" lists them.');
}

function programCommand(): Command {
  const program = new Command("varve").exitOverride();
  program.configureOutput({ writeErr: () => {}, outputError: () => {} });
  for (const { shape } of VERBS) program.command(shape.name).description(shape.summary);
  return program;
}

function help(): string {
  const verbs = VERBS.map(({ shape }) => `  ${shape.name.padEnd(8)} ${shape.summary}\n`).join("");
  const codes = EXIT_CODES.map(([code, meaning]) => `  ${String(code).padEnd(8)} ${meaning}\n`).join("");
  return `varve ${VERSION}: every version of every page of a PostgreSQL cluster, kept in object storage\n\n` +
    `Usage: varve VERB [options]; varve VERB --help shows a verb's options\n\nVerbs:\n${verbs}\n` +
    "Every option --some-name may also be set as VARVE_SOME_NAME. Results go to standard output, progress and logs\n" +
    `to standard error.\n\nExit codes:\n${codes}`;
}

if (import.meta.main) {
  const code = await main(process.argv.slice(2), process.env);
  process.exit(code);
}
