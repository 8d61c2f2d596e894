/**
 * The test harness: uvu's `suite()` with the holes closed. Every test imports this, never uvu itself.
 *
 * uvu under `deno test` exits 0 whatever happens, and drops an error thrown by a `before` hook everywhere. Here:
 * - under `deno test` a suite is one `Deno.test` and each of its tests a step;
 * - elsewhere (`bun file_test.ts`, a bundle under Node, `deno run`) uvu runs it, and an error of a hook fails every
 *   test that depends on it;
 * - a test or hook that does not settle in time fails, and so does a test that makes no assertion, a suite without
 *   tests, and under `CI=true` a `test.only` left behind.
 *
 * ```ts
 * const test = suite("redo/btree");
 * test("symbol() does what", () => assert.is(1 + 1, 2));
 * test.run();
 * ```
 *
 * @module
 */
import { uvuSuite } from "../../src/deps/uvu.ts";
import { assert, countAssertions, toError } from "./assert.ts";

export { assert };

/** Milliseconds that a test or a hook may take, unless told otherwise. */
export const DEFAULT_TIMEOUT_MS = 60_000;

/** What a test is given. */
export interface TestContext {
  readonly name: string;
  /** Fires when the test has run out of time, so that what it started can end. */
  readonly signal: AbortSignal;
}

export type TestHandler = (context: TestContext) => unknown;
export type HookHandler = () => unknown;

export interface TestOptions {
  /** Milliseconds for this one test. */
  timeoutMs?: number;
}

export interface SuiteOptions {
  /** Milliseconds for each test and each hook. Default: {@linkcode DEFAULT_TIMEOUT_MS}. */
  timeoutMs?: number;
  /**
   * `false` turns off `deno test`'s leak checks of operations and resources: for suites whose hooks hold servers,
   * sockets and processes that steps use. Default: true.
   */
  sanitize?: boolean;
}

/** Registers a hook for the suite, or with `.each` around every test. */
export interface HookRegistrar {
  (handler: HookHandler): void;
  each(handler: HookHandler): void;
}

/** Registers tests; nothing runs before {@linkcode TestRegistrar.run}. */
export interface TestRegistrar {
  (name: string, handler: TestHandler, options?: TestOptions): void;
  /** Runs only the tests registered so. Refused under `CI=true`. */
  only(name: string, handler: TestHandler, options?: TestOptions): void;
  /** Lists a test that is not run. `reason` says which and why. */
  skip(reason: string, handler?: TestHandler, options?: TestOptions): void;
  before: HookRegistrar;
  after: HookRegistrar;
  /** Ends the registration. Exactly once, at the end of the file. */
  run(): void;
}

interface Entry {
  name: string;
  /** `undefined`: skipped. */
  handler: TestHandler | undefined;
  timeoutMs: number;
}

interface SuiteState {
  name: string;
  timeoutMs: number;
  sanitize: boolean;
  tests: Entry[];
  only: Entry[];
  before: HookHandler[];
  after: HookHandler[];
  beforeEach: HookHandler[];
  afterEach: HookHandler[];
}

/** The parts of the Deno namespace used here, so that this file also loads where there is none. */
interface DenoTestApi {
  test: (definition?: {
    name: string;
    sanitizeOps: boolean;
    sanitizeResources: boolean;
    fn: (t: DenoTestStep) => Promise<void>;
  }) => void;
}
interface DenoTestStep {
  step(definition: { name: string; ignore: boolean; fn: () => Promise<void> }): Promise<boolean>;
}

const denoTestApi = (globalThis as { Deno?: DenoTestApi }).Deno;

/** `Deno.test()` without arguments is a no-op outside `deno test` and throws inside: nothing else tells them apart. */
const underDenoTest = denoTestApi !== undefined && (() => {
  try {
    denoTestApi.test();
    return false;
  } catch {
    return true;
  }
})();

const underCi =
  ((globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env.CI ?? "") !== "";

/** Opens a suite; its tests are registered with what it returns. */
export function suite(name: string, options: SuiteOptions = {}): TestRegistrar {
  const state: SuiteState = {
    name,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    sanitize: options.sanitize ?? true,
    tests: [],
    only: [],
    before: [],
    after: [],
    beforeEach: [],
    afterEach: [],
  };
  let ran = false;
  const add = (list: Entry[], testName: string, handler: TestHandler | undefined, own: TestOptions = {}) => {
    if (ran) throw new Error(`Cannot add test "${testName}" to suite "${name}": run() was called already`);
    list.push({ name: testName, handler, timeoutMs: own.timeoutMs ?? state.timeoutMs });
  };
  const registrar = (testName: string, handler: TestHandler, own?: TestOptions) =>
    add(state.tests, testName, handler, own);
  return Object.assign(registrar, {
    only: (testName: string, handler: TestHandler, own?: TestOptions) => {
      if (underCi) {
        throw new Error(`Cannot run "${testName}" of suite "${name}" alone: test.only was left behind`);
      }
      add(state.only, testName, handler, own);
    },
    skip: (reason: string, _handler?: TestHandler, own?: TestOptions) =>
      add(state.tests, reason, undefined, own),
    before: hookRegistrar(state.before, state.beforeEach),
    after: hookRegistrar(state.after, state.afterEach),
    run: () => {
      if (ran) throw new Error(`Cannot run suite "${name}" twice`);
      ran = true;
      if (state.tests.length + state.only.length === 0) {
        throw new Error(`Cannot run suite "${name}": it has no tests`);
      }
      (underDenoTest ? runUnderDenoTest : runUnderUvu)(state);
    },
  });
}

function hookRegistrar(all: HookHandler[], each: HookHandler[]): HookRegistrar {
  return Object.assign((handler: HookHandler) => void all.push(handler), {
    each: (handler: HookHandler) => void each.push(handler),
  });
}

function isSelected(state: SuiteState, entry: Entry): boolean {
  return entry.handler !== undefined && (state.only.length === 0 || state.only.includes(entry));
}

function runUnderDenoTest(state: SuiteState): void {
  const fn = async (t: DenoTestStep) => {
    try {
      await runHooks(state, "before", state.before);
      for (const entry of [...state.tests, ...state.only]) {
        const ignore = !isSelected(state, entry);
        await t.step({ name: entry.name, ignore, fn: () => runTest(state, entry).catch(throwWithDetails) });
      }
    } finally {
      await runHooks(state, "after", state.after);
    }
  };
  denoTestApi!.test({ name: state.name, sanitizeOps: state.sanitize, sanitizeResources: state.sanitize, fn });
}

/** uvu prints an assertion's difference of actual and expected itself; `deno test` knows only messages. */
function throwWithDetails(error: Error & { details?: unknown }): never {
  if (typeof error.details === "string") error.message += "\n" + error.details;
  throw error;
}

/**
 * uvu's runner returns from a `finally`, which drops an error of `before`; and it runs `after` there too, where an
 * error surfaces as an unhandled rejection. So `before` runs inside the first hook and its error is thrown by every
 * test, and `after` is one more test at the end.
 */
function runUnderUvu(state: SuiteState): void {
  const test = uvuSuite(state.name);
  let beforeError: unknown;
  test.before(async () => {
    try {
      await runHooks(state, "before", state.before);
    } catch (error) {
      beforeError = error;
    }
  });
  for (const entry of [...state.tests, ...state.only]) {
    if (!isSelected(state, entry)) {
      test.skip(entry.name);
      continue;
    }
    test(entry.name, async () => {
      if (beforeError !== undefined) throw beforeError;
      await runTest(state, entry);
    });
  }
  if (state.after.length > 0) test("after hooks", () => runHooks(state, "after", state.after));
  test.run();
}

/** Runs all hooks even if one throws (a later one may stop what an earlier test started); throws the first error. */
async function runHooks(state: SuiteState, kind: string, hooks: HookHandler[]): Promise<void> {
  const errors: Error[] = [];
  for (const hook of hooks) {
    try {
      await inTime(`${kind} hook of suite "${state.name}"`, state.timeoutMs, hook);
    } catch (error) {
      errors.push(toError(error));
      if (kind.startsWith("before")) break;
    }
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, errors.map((error) => error.message).join("; "));
}

async function runTest(state: SuiteState, entry: Entry): Promise<void> {
  const assertionsBefore = countAssertions();
  try {
    await runHooks(state, "before.each", state.beforeEach);
    await inTime(
      `test "${entry.name}"`,
      entry.timeoutMs,
      (signal) => entry.handler!({ name: entry.name, signal }),
    );
  } finally {
    await runHooks(state, "after.each", state.afterEach);
  }
  if (countAssertions() === assertionsBefore) throw new Error(`Test "${entry.name}" asserted nothing`);
}

async function inTime(what: string, timeoutMs: number, run: (signal: AbortSignal) => unknown): Promise<void> {
  const controller = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = new Error(`The ${what} did not end within ${timeoutMs} ms`);
      controller.abort(error);
      reject(error);
    }, timeoutMs);
  });
  try {
    await Promise.race([run(controller.signal), timeout]);
  } catch (error) {
    throw toError(error);
  } finally {
    clearTimeout(timer);
  }
}
