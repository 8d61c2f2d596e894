/** Bun: another engine, and its own idea of node:net and node:fs. */
import { suite } from "../support/harness.ts";
import { addRuntimeTests, OPTIONS } from "./runtime.ts";

const test = suite("runtimes/bun", OPTIONS);

addRuntimeTests(test, "bun", [1, 2]);

test.run();
