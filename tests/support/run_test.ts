import { countTests } from "../run.ts";
import { assert, suite } from "./harness.ts";

const test = suite("support/run");

test("countTests() counts the steps of suites", () => {
  const output = "a ... ok\n\nok | 1 passed (35 steps) | 0 failed | 0 ignored (1 step) (4s)\n";
  assert.equal(countTests(output, true), { passed: 35, failed: 0, ignored: 1 });
  const failing = "\nFAILED | 1 passed (8 steps) | 1 failed (3 steps) (3s)\n";
  assert.equal(countTests(failing, false), { passed: 8, failed: 3, ignored: 0 });
});

test("countTests() counts a failure that no step shows: of a hook, a module, a crash", () => {
  assert.equal(countTests("\nFAILED | 0 passed (2 steps) | 1 failed (5ms)\n", false), {
    passed: 2,
    failed: 1,
    ignored: 0,
  });
  assert.equal(countTests("", false), { passed: 0, failed: 1, ignored: 0 });
});

test("run.ts fails when no test passed, and ends with the counts", async () => {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", decodeURIComponent(new URL("../run.ts", import.meta.url).pathname), "no/such/file"],
    stdout: "piped",
    stderr: "piped",
  }).output();
  assert.is(code, 1);
  assert.is(new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1), "0 passed, 0 failed");
});

test.run();
