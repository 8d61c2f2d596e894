/** Node 20.6 and later: the oldest that has the web streams in use. */
import { suite } from "../support/harness.ts";
import { addRuntimeTests, OPTIONS } from "./runtime.ts";

const test = suite("runtimes/node", OPTIONS);

addRuntimeTests(test, "node", [20, 6]);

test.run();
