/**
 * Runs the tests: `deno task test [PATTERN...]`. A pattern is part of a file's path, or a regular expression.
 *
 * Each file is a process of its own, so that one that hangs or crashes takes no other along; few run at once, system
 * suites first, for they take longest. Counts tests (the steps of suites), and ends with the line
 * `N passed, N failed`. Fails when a test failed, and when none passed.
 *
 * @module
 */
const ROOT = decodeURIComponent(new URL("../", import.meta.url).pathname);

/** Milliseconds that one file may take: its own tests' limits come first, this ends a loop that never yields. */
const FILE_TIMEOUT_MS = 15 * 60_000;
/** How often a person is told that something still runs. */
const HEARTBEAT_MS = 30_000;

interface FileResult {
  file: string;
  passed: number;
  failed: number;
  ignored: number;
  seconds: number;
}

/** Test files that fit one of the patterns, those that take longest first. */
function selectFiles(patterns: string[]): string[] {
  const files: string[] = [];
  const visit = (folder: string) => {
    for (const entry of Deno.readDirSync(ROOT + folder)) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory) visit(path);
      else if (path.endsWith("_test.ts")) files.push(path);
    }
  };
  visit("tests");
  const expressions = patterns.map((pattern) => new RegExp(pattern.replace(/^\.\//, "")));
  const rank = (path: string) =>
    path.startsWith("tests/rules/") ? 0 : path.startsWith("tests/system/") ? 1 : 2;
  return files
    .filter((path) => expressions.length === 0 || expressions.some((expression) => expression.test(path)))
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** Type-checks all of them in one go, which is much quicker than one by one. */
async function typeCheck(files: string[]): Promise<boolean> {
  const { success } = await new Deno.Command(Deno.execPath(), { args: ["check", "-q", ...files], cwd: ROOT })
    .spawn()
    .status;
  return success;
}

/** Runs one file. With `live` its output goes straight through; else it is printed when the file has ended. */
async function runFile(file: string, live: boolean): Promise<FileResult> {
  const started = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "--no-check", "-A", file],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  running.set(file, { child, started });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, FILE_TIMEOUT_MS);
  let output = "";
  const collect = async (stream: ReadableStream<Uint8Array>) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      output += text;
      if (live) Deno.stdout.writeSync(new TextEncoder().encode(text));
    }
  };
  const [{ success }] = await Promise.all([child.status, collect(child.stdout), collect(child.stderr)]);
  clearTimeout(timer);
  running.delete(file);
  if (!live) console.log(output.trimEnd());
  if (timedOut) console.log(`${file}: killed, it did not end within ${FILE_TIMEOUT_MS / 60_000} minutes`);
  return { file, ...countTests(output, success), seconds: (performance.now() - started) / 1000 };
}

/** Reads `ok | 1 passed (35 steps) | 0 failed | 0 ignored (1 step) (4s)`. */
export function countTests(
  output: string,
  success: boolean,
): { passed: number; failed: number; ignored: number } {
  const summary = output.match(/^(ok|FAILED) \| .*$/gm)?.at(-1) ?? "";
  const count = (word: string) => {
    const [, tests, steps] = new RegExp(`(\\d+) ${word}(?: \\((\\d+) steps?\\))?`).exec(summary) ??
      ["", "0", "0"];
    return { tests: Number(tests), steps: Number(steps ?? 0) };
  };
  // A suite is a test whose steps are what we call tests. A hook or a module that fails has no step to show for it.
  const failed = Math.max(count("failed").steps, success ? 0 : 1);
  return { passed: count("passed").steps, failed, ignored: count("ignored").steps };
}

const running = new Map<string, { child: Deno.ChildProcess; started: number }>();

function heartbeat(): void {
  const now = performance.now();
  const slow = [...running].filter(([, { started }]) => now - started > HEARTBEAT_MS);
  for (const [file, { started }] of slow) console.log(`... ${file}: ${Math.round((now - started) / 1000)} s`);
}

async function runAll(files: string[]): Promise<FileResult[]> {
  const jobs = Number(Deno.env.get("VARVE_TEST_JOBS") ?? Math.min(2, navigator.hardwareConcurrency));
  const waiting = [...files];
  const results: FileResult[] = [];
  const worker = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      results.push(await runFile(file, files.length === 1));
    }
  };
  const timer = setInterval(heartbeat, HEARTBEAT_MS);
  await Promise.all(Array.from({ length: Math.max(1, jobs) }, worker));
  clearInterval(timer);
  return results;
}

function report(results: FileResult[], typesFit: boolean, seconds: number): number {
  const sum = (key: "passed" | "failed" | "ignored") =>
    results.reduce((total, result) => total + result[key], 0);
  const slowest = [...results].sort((a, b) => b.seconds - a.seconds).filter((result) => result.seconds >= 10);
  if (slowest.length > 0) console.log("\nslowest files:");
  for (const { file, seconds } of slowest.slice(0, 10)) {
    console.log(`  ${seconds.toFixed(0).padStart(4)} s  ${file}`);
  }
  const failing = results.filter((result) => result.failed > 0);
  if (failing.length > 0) console.log("\nfiles with failures:");
  for (const { file, failed } of failing) console.log(`  ${file}: ${failed}`);
  if (!typesFit) console.log("  the type check");
  const failed = sum("failed") + (typesFit ? 0 : 1);
  console.log(`\n${results.length} files in ${seconds.toFixed(0)} s, ${sum("ignored")} tests skipped`);
  console.log(`${sum("passed")} passed, ${failed} failed`);
  return failed === 0 && sum("passed") > 0 ? 0 : 1;
}

function endChildren(): never {
  for (const { child } of running.values()) child.kill("SIGTERM");
  Deno.exit(130);
}

if (import.meta.main) {
  const started = performance.now();
  Deno.addSignalListener("SIGINT", endChildren);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", endChildren);
  const files = selectFiles(Deno.args);
  if (files.length === 0) console.log(`No test file fits ${Deno.args.join(" ")}`);
  const typesFit = files.length === 0 || await typeCheck(files);
  const results = await runAll(files);
  Deno.exit(report(results, typesFit, (performance.now() - started) / 1000));
}
