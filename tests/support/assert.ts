/**
 * Assertions: uvu's, each counting its calls so that the harness can refuse a test that asserts nothing, and two of
 * ours that return the error they expected. Reached through `harness.ts`.
 *
 * @module
 */
import { uvuAssert } from "../../src/deps/uvu.ts";

/** How many assertions this process has made. */
let assertions = 0;

export function countAssertions(): number {
  return assertions;
}

/** What {@linkcode assert.rejects} accepts: a class, a pattern or part of the message, or a predicate. */
export type ExpectedError<E extends Error> =
  // deno-lint-ignore no-explicit-any -- a constructor's parameters are contravariant: any class must fit
  (new (...args: any[]) => E) | RegExp | string | ((error: Error) => boolean);

async function rejects<E extends Error = Error>(
  run: Promise<unknown> | (() => unknown),
  expects?: ExpectedError<E>,
  message?: string,
): Promise<E> {
  assertions++;
  let error: unknown;
  try {
    await (typeof run === "function" ? run() : run);
  } catch (caught) {
    error = caught;
  }
  if (error === undefined) throw new Error(message ?? "Expected a rejection, but it resolved");
  checkError(error, expects, message);
  return error as E;
}

function raises<E extends Error = Error>(
  run: () => unknown,
  expects?: ExpectedError<E>,
  message?: string,
): E {
  assertions++;
  let error: unknown;
  try {
    run();
  } catch (caught) {
    error = caught;
  }
  if (error === undefined) throw new Error(message ?? "Expected an error, but it returned");
  checkError(error, expects, message);
  return error as E;
}

function checkError<E extends Error>(
  error: unknown,
  expects: ExpectedError<E> | undefined,
  message?: string,
): void {
  const { message: text, name } = toError(error);
  let fits = true;
  let wanted = "";
  if (expects instanceof RegExp) [fits, wanted] = [expects.test(text), String(expects)];
  else if (typeof expects === "string") [fits, wanted] = [text.includes(expects), `"${expects}"`];
  else if (expects !== undefined && isErrorClass(expects)) {
    [fits, wanted] = [error instanceof expects, expects.name];
  } else if (expects !== undefined) {
    [fits, wanted] = [
      (expects as (error: Error) => boolean)(toError(error)),
      "an error that fits the predicate",
    ];
  }
  if (!fits) throw new Error(message ?? `Expected ${wanted}, got ${name}: ${text}`, { cause: error });
}

function isErrorClass(value: unknown): value is new () => Error {
  return typeof value === "function" && (value === Error || value.prototype instanceof Error);
}

// deno-lint-ignore no-explicit-any -- any assertion function
type AnyFunction = (...args: any[]) => unknown;

function countingOne(original: AnyFunction): AnyFunction {
  return (...args) => {
    assertions++;
    return original(...args);
  };
}

/** uvu's assertion functions, each counting its calls, with the ones that hang on them (`is.not`, `not.equal`). */
function counting(functions: Record<string, unknown>): Record<string, unknown> {
  const counted: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(functions)) {
    if (typeof value !== "function" || name === "Assertion") {
      counted[name] = value;
      continue;
    }
    const members = Object.entries(value).map(([member, fn]) => [member, countingOne(fn as AnyFunction)]);
    counted[name] = Object.assign(countingOne(value as AnyFunction), Object.fromEntries(members));
  }
  return counted;
}

/** uvu's assertions, with two of ours. */
export const assert: typeof uvuAssert & {
  /** Awaits a rejection and returns it. */
  rejects: typeof rejects;
  /** Like uvu's `throws`, and also takes a class and returns the error. */
  raises: typeof raises;
} = Object.assign(counting({ ...uvuAssert }), { rejects, raises }) as never;

/** Both test runners choke on a thrown value that is no Error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(`Thrown: ${String(thrown)}`, { cause: thrown });
}
