/** A file that nobody can read in one sitting needs a reason. */
import { assert, suite } from "../support/harness.ts";
import { readSource, sourceFiles } from "./source_files.ts";

const test = suite("rules/size");

const MAX_LINES = 500;

/** Longer files, each with its reason: tables, mostly. */
const EXCEPTIONS: Record<string, string> = {};

const files = sourceFiles("mod.ts", "src", "tests", "examples");

function lineCount(path: string): number {
  return readSource(path).trimEnd().split("\n").length;
}

test(`no file has more than ${MAX_LINES} lines, or it is listed with a reason`, () => {
  const long = files.filter((file) => lineCount(file) > MAX_LINES && !(file in EXCEPTIONS));
  assert.equal(long.map((file) => `${file}: ${lineCount(file)} lines`), []);
});

test("no exception has become idle", () => {
  const idle = Object.keys(EXCEPTIONS).filter((file) =>
    !files.includes(file) || lineCount(file) <= MAX_LINES
  );
  assert.equal(idle, []);
});

test.run();
